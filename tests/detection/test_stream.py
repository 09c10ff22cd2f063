"""A stream gives each frame the verdict that it would have alone, in order, and says what it dropped."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from sessions import Around

from acl_runtime import Detector
from acl_runtime.backends.session import Session
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.stream import Stream
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.inspection.run import inspect_sources


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("stream") / "bundle")


@pytest.fixture
def detector(bundle: Path) -> Detector:
    return Detector(bundle, provider="cpu")


def slowed(session: Session) -> Session:
    def slow(images: np.ndarray) -> Any:
        time.sleep(0.02)
        return session(images)

    return Around(session, slow)


def frames_of_all_kinds() -> list[np.ndarray]:
    colour = [drawn_frame(seed) for seed in range(5)]
    return [*colour, colour[0][..., 0], colour[1].astype(np.uint16) << 8, colour[2][:31, :47], *colour[::-1]]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("tiling", [None, Tiling(40, 10, None)])
def test_each_frame_has_the_verdict_that_it_has_alone(
    bundle: Path, batch: int, tiling: Tiling | None
) -> None:
    detector, frames = Detector(bundle, provider="cpu", tiling=tiling), frames_of_all_kinds()
    pairs = list(detector.stream(frames, batch=batch, max_latency_ms=None))
    assert [frame is mine for (frame, _), mine in zip(pairs, frames, strict=True)] == [True] * len(frames)
    for frame, verdict in pairs:
        alone = detector(frame)
        assert verdict is not None
        assert verdict.score == pytest.approx(alone.score, abs=1e-6)
        np.testing.assert_allclose(verdict.anomaly_map, alone.anomaly_map, rtol=0, atol=1e-6)
        assert set(verdict.latency_ms) == set(alone.latency_ms)
        assert verdict.latency_ms["inference"] > 0


def test_what_is_no_frame_is_raised_after_the_verdicts_before_it(detector: Detector) -> None:
    frames: list[Any] = [drawn_frame(0), drawn_frame(1), "a name", drawn_frame(2)]
    judged: list[Any] = []
    with pytest.raises(ValueError, match="frame must be a"):
        judged.extend(detector.stream(frames, batch=3))
    assert len(judged) == 2


def test_what_the_session_raises_is_raised_in_its_place(detector: Detector) -> None:
    session, calls = detector.session, 0

    def failing(images: np.ndarray) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("the GPU fell off the bus")
        return session(images)

    detector.session = Around(session, failing)
    judged: list[Any] = []
    with pytest.raises(RuntimeError, match="fell off the bus"):
        judged.extend(detector.stream([drawn_frame(0)] * 10))
    assert len(judged) == 2


@pytest.mark.parametrize("batch", [0, 99])
def test_a_batch_that_the_bundle_does_not_take_is_refused_at_once(detector: Detector, batch: int) -> None:
    with pytest.raises(ValueError, match=rf"batch must lie in 1\.\.\d+ .*, got {batch}"):
        detector.stream([], batch=batch)


def test_items_without_a_frame_keep_their_place(detector: Detector) -> None:
    items = [drawn_frame(0), None, drawn_frame(1), None, None]
    stream = Stream(detector, items, lambda item: item, batch=3, max_latency_ms=None)
    assert [verdict is None for _, verdict in stream] == [item is None for item in items]


def test_a_camera_that_is_too_fast_loses_the_oldest_only_if_told_to(detector: Detector) -> None:
    detector.session = slowed(detector.session)

    def camera() -> Iterator[np.ndarray]:
        for number in range(40):
            time.sleep(0.004)
            yield np.full((8, 8), number, np.uint8)

    with detector.stream(camera(), drop_oldest=True) as stream:
        seen = [int(frame[0, 0]) for frame, _ in stream]
    assert seen == sorted(seen)
    assert seen[-1] == 39
    assert stream.dropped > 5
    assert len(seen) + stream.dropped == 40
    assert len(list(detector.stream(camera()))) == 40


def test_closing_early_ends_it(detector: Detector) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield drawn_frame(0)

    with detector.stream(endless(), batch=2) as stream:
        next(stream)
    assert list(stream) == []


def test_memory_stays_flat_over_many_frames(detector: Detector) -> None:
    def frames(count: int) -> Iterator[np.ndarray]:
        for number in range(count):
            yield np.full((64, 64, 3), number % 251, np.uint8)

    stream = detector.stream(frames(2500), batch=3)
    for _ in range(500):
        next(stream)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in stream:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 40 * 64 * 64 * 3 + 1e6  # a few frames on their way, and their maps


def test_the_command_says_how_many_frames_were_dropped(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acl_runtime.inspection import run

    def camera(sources: object) -> Iterator[Frame | BadFrame]:
        for number in range(30):
            time.sleep(0.002)
            yield Frame("0", number, Path(f"camera0_{number}"), drawn_frame(0))
        yield BadFrame("0", 30, "camera 0: gives no frame")

    detector.session = slowed(detector.session)
    monkeypatch.setattr(run, "iter_frames", camera)
    said: list[str] = []
    results = list(inspect_sources(detector, [], drop_oldest=True, say=said.append))
    assert isinstance(results[-1], BadFrame)
    assert said == [f"{31 - len(results)} frames were dropped: they came faster than they could be judged"]

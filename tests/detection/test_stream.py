"""A stream gives each frame the verdict that it would have alone, in order, and says what it dropped."""

from __future__ import annotations

import re
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from sessions import Around

from acl_runtime import Detector
from acl_runtime.backends.session import Session
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection import stages as stages_module
from acl_runtime.detection.stream import Stream
from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.images.preprocess import resize_by_pillow
from acl_runtime.inspection.run import inspect
from acl_runtime.scoring.regions import find_regions


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
    pairs = list(detector.stream(frames, batch=batch, max_latency_ms=None, copy=False))
    assert [frame is mine for (frame, _), mine in zip(pairs, frames, strict=True)] == [True] * len(frames)
    for frame, verdict in pairs:
        alone = detector(frame)
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

    judged: list[Any] = []
    with pytest.raises(RuntimeError, match="fell off the bus"):
        judged.extend(
            Detector(detector.bundle, session=Around(session, failing)).stream([drawn_frame(0)] * 10)
        )
    assert len(judged) == 2


@pytest.mark.parametrize("batch", [0, 99])
def test_a_batch_that_the_bundle_does_not_take_is_refused_at_once(detector: Detector, batch: int) -> None:
    with pytest.raises(ValueError, match=rf"batch must lie in 1\.\.\d+ .*, got {batch}"):
        detector.stream([], batch=batch)


def named(number: int, frame: np.ndarray | None = None) -> Frame:
    return Frame(f"{number}.png", 0, PurePath(str(number)), drawn_frame(number) if frame is None else frame)


def test_bad_frames_keep_their_place(detector: Detector) -> None:
    bad = [BadFrame(f"{number}.png", 0, "odd") for number in range(3)]
    items: list[Frame | BadFrame] = [named(0), bad[0], named(1), bad[1], bad[2]]
    results = list(Stream(detector.stages, items, batch=3, max_latency_ms=None))
    assert [result if isinstance(result, BadFrame) else result.frame for result in results] == items
    assert list(Stream(detector.stages, bad)) == bad


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("tiling", [None, Tiling(40, 10, None)])
@pytest.mark.parametrize("error", [MemoryError(), cv2.error("no"), FrameError("is odd")])
@pytest.mark.parametrize("step", ["resize", "read"])
def test_what_fails_for_one_frame_is_a_bad_frame_with_its_name(
    detector: Detector,
    batch: int,
    tiling: Tiling | None,
    error: Exception,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = np.zeros((90, 120, 3), np.uint8)

    def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if step == "resize" and not pixels.any():
            raise error
        return resize_by_pillow(pixels, size)

    def regions(anomaly_map: np.ndarray, **settings: Any) -> Any:
        if step == "read" and np.ptp(anomaly_map) < 1e-6:
            raise error
        return find_regions(anomaly_map, **settings)

    monkeypatch.setattr(stages_module, "find_regions", regions)
    stages = replace(detector.stages, resize=resize, tiling=tiling)
    results = list(Stream(stages, [named(0), named(1, dark), named(2), named(3)], batch=batch))
    assert [isinstance(result, BadFrame) for result in results] == [False, True, False, False]
    assert isinstance(results[1], BadFrame)
    assert results[1].source == "1.png"
    assert results[1].problem.startswith("1.png: ")


def test_a_bug_is_none_of_the_frames_faults(detector: Detector) -> None:
    def buggy(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Stream(replace(detector.stages, resize=buggy), [named(0)]))


@pytest.mark.parametrize("tiling", [None, Tiling(40, 10, None)])
def test_a_camera_may_use_its_memory_again(bundle: Path, tiling: Tiling | None) -> None:
    detector = Detector(bundle, provider="cpu", tiling=tiling)
    pictures = [drawn_frame(seed) for seed in range(12)]
    buffer = np.empty_like(pictures[0])

    def camera() -> Iterator[np.ndarray]:
        for picture in pictures:
            buffer[:] = picture
            yield buffer

    for picture, (frame, verdict) in zip(pictures, detector.stream(camera(), batch=2), strict=True):
        np.testing.assert_array_equal(frame, picture)
        assert verdict.score == pytest.approx(detector(picture).score, abs=1e-6)


@pytest.mark.parametrize("milliseconds", [float("inf"), 1e300, float("nan"), -1.0, 3_600_001.0])
def test_a_time_to_wait_is_one_that_threads_can_wait(detector: Detector, milliseconds: float) -> None:
    with pytest.raises(InputError, match=r"max_latency_ms must lie in 0\.\.3600000 \(an hour\)"):
        detector.stream([], max_latency_ms=milliseconds)


def test_leaving_the_loop_ends_the_threads_and_lets_the_camera_go(detector: Detector) -> None:
    before, closed = threading.active_count(), 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal closed
        try:
            while True:
                yield drawn_frame(0)
        finally:
            closed += 1

    for _ in range(50):
        for _, verdict in detector.stream(camera()):
            assert verdict.score > 0
            break
    for _ in range(5):
        try:
            for _, verdict in detector.stream(camera(), batch=2):
                raise ZeroDivisionError(verdict.tiles)
        except ZeroDivisionError:
            pass
    end = time.monotonic() + 10
    while (threading.active_count() > before or closed < 55) and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert closed == 55


def test_preparing_overlaps_the_network_within_a_frame_that_is_cut(bundle: Path) -> None:
    """While the network is at a batch of tiles, the next one is prepared."""
    session = Detector(bundle, provider="cpu").session
    overlapped, busy = 0, threading.Event()

    def slow(images: np.ndarray) -> Any:
        busy.set()
        time.sleep(0.05)
        outputs = session(images)
        busy.clear()
        return outputs

    def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        nonlocal overlapped
        overlapped += busy.wait(0.1)  # the network is at the batch before, or about to be
        return resize_by_pillow(pixels, size)

    detector = Detector(bundle, session=Around(session, slow), tiling=Tiling(40, 10, None))
    (result,) = Stream(replace(detector.stages, resize=resize), [named(0)])
    assert isinstance(result, Inspected)
    assert result.verdict.tiles == 12
    assert overlapped >= 6  # a batch at least: two for each of its tiles


@pytest.mark.parametrize("tiling", [None, Tiling(40, 10, None)])
def test_the_images_of_a_batch_are_prepared_at_once_and_keep_their_order(
    detector: Detector, tiling: Tiling | None
) -> None:
    """Each image waits until the other one is at it too; one alone would break the barrier."""
    together = threading.Barrier(2, timeout=10)

    def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        together.wait()
        return resize_by_pillow(pixels, size)

    frames = [named(number) for number in range(2)]
    stages = replace(detector.stages, tiling=tiling)
    max_batch = replace(stages.manifest, max_batch=2)
    apart = replace(stages, manifest=max_batch, resize=resize, workers=2)
    expected = list(replace(stages, workers=1).judge(frames))
    for result, alone in zip(Stream(apart, frames, batch=2, max_latency_ms=None), expected, strict=True):
        assert isinstance(result, Inspected)
        assert isinstance(alone, Inspected)
        assert result.frame is alone.frame
        np.testing.assert_array_equal(result.verdict.anomaly_map, alone.verdict.anomaly_map)
        assert result.verdict.latency_ms["preprocess"] > 0


def test_a_camera_that_is_too_fast_loses_the_oldest_only_if_told_to(detector: Detector) -> None:
    detector = Detector(detector.bundle, session=slowed(detector.session))

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


def test_how_many_frames_were_dropped_is_said(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from acl_runtime.inspection import run

    def camera(sources: object, stopped: object) -> Iterator[Frame | BadFrame]:
        for number in range(30):
            time.sleep(0.002)
            yield Frame("0", number, Path(f"camera0_{number}"), drawn_frame(0))
        yield BadFrame("0", 30, "camera 0: gives no frame")

    monkeypatch.setattr(run, "iter_frames", camera)
    slow = Detector(detector.bundle, session=slowed(detector.session))
    results = list(inspect([], slow, drop_oldest=True))
    assert isinstance(results[-1], BadFrame)
    assert caplog.messages == [
        f"{31 - len(results)} frames were dropped: they came faster than they could be judged"
    ]


@pytest.mark.parametrize("batch", [1, 3])
def test_of_tiled_frames_what_is_dropped_is_counted(detector: Detector, batch: int) -> None:
    slow = Detector(detector.bundle, session=slowed(detector.session), tiling=Tiling(40, 10, None))
    stream = Stream(slow.stages, (named(number % 3) for number in range(20)), batch=batch, drop_oldest=True)
    results = list(stream)
    assert all(isinstance(result, Inspected) for result in results)
    assert stream.dropped > 0
    assert len(results) + stream.dropped == 20


def test_many_tiles_are_announced_with_the_time_they_take_and_absurd_ones_refused(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "acl")
    monkeypatch.setattr(stages_module, "LONG_S", 0.0)
    detector = Detector(bundle, provider="cpu", tiling=Tiling(40, 39, None))
    detector(drawn_frame(0)[:52, :52])
    assert caplog.messages[0] == "frames of 52×52 are cut into 169 tiles of 40 pixels"
    assert re.fullmatch("a frame of 169 tiles takes about [0-9]+ s here", caplog.messages[1])
    detector(drawn_frame(1)[:52, :52])
    assert len(caplog.messages) == 2
    with pytest.raises(
        FrameError, match=r"would be cut into 925444 tiles, more than 100000; choose a larger tile"
    ):
        detector(np.zeros((1001, 1001), np.uint8))

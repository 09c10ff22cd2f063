"""Batches overlap in the slots of a session, each in one; engines of several batch sizes share the work."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from graphs import SIDE, drawn_frame, reference, write_tiny_bundle
from standin_cuda import Faults, StandinCuda
from standin_trt import Fault, make_standin_engine, standin_library

from acl_runtime import Detector
from acl_runtime.backends.tensorrt import choose, session
from acl_runtime.backends.tensorrt.certificate import read_certificate
from acl_runtime.backends.tensorrt.choose import open_engine
from acl_runtime.backends.tensorrt.cuda import DeviceLostError
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.backends.tensorrt.sizes import calls_for
from acl_runtime.bundle.bundle import Bundle, load_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandinCuda:
    """A machine with a GPU and TensorRT, both stand-ins."""
    cuda = StandinCuda()
    for module in (choose, session):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda())
        monkeypatch.setattr(module, "load_library", standin_library)
    return cuda


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([count, seed]).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def open_standin(bundle: Bundle, cuda: StandinCuda, *sizes: tuple[int, int], **more: object) -> TrtSession:
    first, *others = (make_standin_engine(bundle, batch=size) for size in sizes)
    return TrtSession(bundle, first, beside=others, library=standin_library(), cuda=cuda, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [((1, 3),), ((3, 3), (2, 2), (1, 1)), ((1, 3), (2, 2))], ids=str)
def test_a_stream_gives_what_each_frame_has_alone_in_order_and_its_batches_overlap(
    bundle: Bundle, seed: int, sizes: tuple[tuple[int, int], ...]
) -> None:
    """The stand-in's streams refuse a second thread while they have work: two batches are never in one slot."""
    draw = random.Random(seed)
    frames = [drawn_frame(number) for number in range(3 * draw.randrange(2, 4) * 2)]
    cuda, together = StandinCuda(), threading.Barrier(2, timeout=30)
    alone = Detector(bundle, provider="cpu")
    with Detector(bundle, session=open_standin(bundle, cuda, *sizes)) as detector:
        cuda.on_wait = together.wait  # breaks unless another batch is on the GPU at the same time
        pairs = list(detector.stream(frames, batch=3, max_latency_ms=None))
    assert not together.broken
    assert len(pairs) == len(frames)
    for frame, (given, verdict) in zip(frames, pairs, strict=True):
        np.testing.assert_array_equal(given, frame)
        assert verdict.score == pytest.approx(alone(frame).score, abs=1e-6)


def test_a_session_with_one_slot_takes_one_batch_after_the_other(bundle: Bundle) -> None:
    cuda, waiting, most = StandinCuda(), 0, 0
    lock = threading.Lock()

    def count() -> None:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        threading.Event().wait(0.01)
        with lock:
            waiting -= 1

    with Detector(bundle, session=open_standin(bundle, cuda, (1, 3), slots=1)) as detector:
        cuda.on_wait = count
        assert detector.stages.calls == 1
        assert len(list(detector.stream([drawn_frame(1)] * 6))) == 6
    assert most == 1


def test_where_the_memory_is_short_there_is_one_slot_and_a_note(bundle: Bundle) -> None:
    cuda = StandinCuda(faults=Faults(allocation=8))
    with open_standin(bundle, cuda, (1, 3)) as opened:
        assert opened.slots == 1
        (note,) = opened.notes
        assert note.startswith("1 of 2 batches at a time are on the GPU, which costs speed: out of memory ")
        np.testing.assert_allclose(
            opened(random_images(2))["image_logits"], reference(random_images(2))["image_logits"], atol=1e-3
        )
    assert not any(cuda.counts.held.values())


def test_a_gpu_that_is_lost_in_one_slot_ends_the_stream_after_the_verdicts_before_it(bundle: Bundle) -> None:
    cuda = StandinCuda(faults=Faults(lose=5))
    judged: list[object] = []
    with (
        Detector(bundle, session=open_standin(bundle, cuda, (1, 3))) as detector,
        pytest.raises(DeviceLostError, match="stopped working"),
    ):
        judged.extend(detector.stream([drawn_frame(number) for number in range(9)]))
    assert len(judged) in (3, 4), "at most one more batch was on its way in the other slot"
    assert not any(cuda.counts.held.values())


def test_the_fewest_images_are_computed_in_the_fewest_calls() -> None:
    static = ((1, 1), (2, 2), (4, 4), (8, 8))
    for count in range(1, 40):
        calls = calls_for(count, static)
        assert sum(call.batch for call in calls) == count
        assert len(calls) == count // 8 + bin(count % 8).count("1")
        (call, *more) = calls_for(min(count, 8), (*static, (1, 8)))
        assert more == []
        assert (call.engine < 4) == (count in (1, 2, 4) or count >= 8), "its own size before the range"
    (padded,) = calls_for(1, ((3, 3),))
    assert padded.batch == 3


def test_each_call_runs_on_the_engine_of_its_size(bundle: Bundle) -> None:
    with open_standin(bundle, StandinCuda(), (3, 3), (1, 1)) as opened:
        assert (opened.min_batch, opened.max_batch) == (1, 3)
        for turn in range(3):
            for count in (1, 2, 3, 4, 7):
                images = random_images(count, turn)
                expected = reference(images)
                for name, array in opened(images).items():
                    np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3)
        first, second = opened.of(0), opened.of(1)
        assert ((first.max_batch, first.min_batch), second.max_batch) == ((3, 3), 1)
        assert len(second(random_images(3))["image_logits"]) == 3


def test_engines_of_smaller_batches_serve_beside_the_best_each_with_its_certificate(
    bundle: Bundle, gpu: StandinCuda
) -> None:
    engines = {size: make_standin_engine(bundle, batch=size) for size in ((1, 1), (2, 2), (3, 3))}
    with open_engine(bundle) as opened:
        assert opened.engine == engines[3, 3]
        assert sorted(each.path for each in opened.engines) == sorted(each.path for each in engines.values())
    for engine in engines.values():
        certificate = read_certificate(engine)
        assert certificate is not None
        assert certificate.holds
        assert certificate.subject.engine_sha256 == engine.record.sha256
        assert len(certificate.batches) == engine.record.max_batch
    with open_engine(bundle, batch=1) as opened:
        assert opened.engines == (engines[1, 1],)


def test_one_beside_that_is_wrong_is_left_out_and_told(
    bundle: Bundle, gpu: StandinCuda, caplog: pytest.LogCaptureFixture
) -> None:
    right = make_standin_engine(bundle, batch=(3, 3))
    wrong = make_standin_engine(bundle, batch=(1, 1), fault=Fault("offset", amount=0.5))
    with open_engine(bundle) as opened:
        assert opened.engines == (right,)
    assert f"{wrong.path.name} does not compute what was trained" in caplog.text
    assert "others compute in its place" in caplog.text


def test_one_of_another_arithmetic_does_not_serve_beside(tmp_path: Path, gpu: StandinCuda) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", ladder=("fp16", "fp32")))
    exact = make_standin_engine(bundle, batch=(3, 3), arithmetic="fp32")
    make_standin_engine(bundle, batch=(1, 1), arithmetic="fp16")
    with open_engine(bundle, batch=3) as opened:
        assert opened.engines == (exact,)


def test_a_slot_that_computes_something_else_is_found_out(bundle: Bundle, gpu: StandinCuda) -> None:
    """Replayed work is wrong: seen only where a slot was used more than twice."""
    make_standin_engine(bundle, batch=(1, 1), fault=Fault("replay", amount=0.5))
    with pytest.raises(RuntimeError, match="does not compute what was trained"):
        open_engine(bundle)


def test_closing_waits_for_the_calls_under_way(bundle: Bundle) -> None:
    cuda, is_waiting, go = StandinCuda(), threading.Event(), threading.Event()
    opened = open_standin(bundle, cuda, (1, 3))
    found: list[dict[str, np.ndarray]] = []

    def wait() -> None:
        is_waiting.set()
        assert go.wait(30)

    cuda.on_wait = wait
    caller = threading.Thread(target=lambda: found.append(opened(random_images(1))))
    caller.start()
    assert is_waiting.wait(30)
    closer = threading.Thread(target=opened.close)
    closer.start()
    assert closer.is_alive()
    go.set()
    for thread in (caller, closer):
        thread.join(30)
    np.testing.assert_allclose(
        found[0]["image_logits"], reference(random_images(1))["image_logits"], atol=1e-3
    )
    assert not any(cuda.counts.held.values())

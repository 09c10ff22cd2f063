"""Frames that are on the GPU already are judged there, after what makes them; what cannot be is a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standin_cuda
from gpu_arrays import DlpackArray, GpuArray, InterfaceArray, default_stream
from graphs import SIDE, drawn_frame, write_tiny_bundle
from standin_cuda import DEFAULT, MEMORY, STREAMS, StandinCuda
from standin_trt import make_standin_engine, standin_library

from acl_runtime import Detector
from acl_runtime.backends.tensorrt.cuda import Allocation
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import Bundle, load_bundle, write_manifest
from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import FrameError
from acl_runtime.images.frame import BadFrame
from acl_runtime.outputs.pictures import draw_overlay

KINDS = [InterfaceArray, DlpackArray]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """One whose graph takes the camera's frames."""
    folder = write_tiny_bundle(tmp_path / "bundle")
    manifest = load_bundle(folder).manifest
    preprocessing = replace(manifest.preprocessing, color="BGR", resize="in the graph")
    write_manifest(folder, replace(manifest, preprocessing=preprocessing))
    return load_bundle(folder)


@pytest.fixture
def cuda() -> Iterator[StandinCuda]:
    cuda = StandinCuda()
    yield cuda
    standin_cuda.OTHERS.clear()
    STREAMS.pop(DEFAULT, None)


@pytest.fixture
def detector(bundle: Bundle, cuda: StandinCuda) -> Iterator[Detector]:
    engine = make_standin_engine(bundle, batch=(1, 3))
    session = TrtSession(bundle, engine, library=standin_library(), cuda=cuda)
    with Detector(bundle, session=session) as detector:
        yield detector


def picture(seed: int) -> np.ndarray:
    return np.ascontiguousarray(drawn_frame(seed, height=SIDE, width=SIDE))


def score_of(bundle: Bundle, seed: int) -> Any:
    return pytest.approx(Detector(bundle, provider="cpu")(picture(seed)).score, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pitch", [None, 256])
def test_frames_are_judged_where_they_are_after_the_streams_that_make_them(
    bundle: Bundle, detector: Detector, cuda: StandinCuda, kind: type[GpuArray], pitch: int | None
) -> None:
    for turn in range(3):  # plainly, recorded, replayed
        arrays = [kind(cuda, picture(turn + number), pitch=pitch) for number in range(3)]
        assert not any(np.array_equal(MEMORY[each.address][:3], each.pixels[0, 0]) for each in arrays)
        verdicts = detector.detect(arrays)
        for number, verdict in enumerate(verdicts):
            assert verdict.score == score_of(bundle, turn + number)
    assert cuda.counts.calls["copy in"] == 0, "no frame went by the computer"
    tensors = [each for each in arrays if isinstance(each, DlpackArray)]
    assert all(each.asked == [DEFAULT] for each in tensors), "once, by the thread that gave them"


def test_a_stream_of_frames_keeps_order_and_gives_back_what_was_given(
    bundle: Bundle, detector: Detector, cuda: StandinCuda
) -> None:
    arrays: list[Any] = [InterfaceArray(cuda, picture(number)) for number in range(5)]
    arrays.insert(2, picture(9))  # one in the computer's memory between them
    pairs = list(detector.stream(arrays, batch=3, copy=False, max_latency_ms=None))
    assert [given is mine for (given, _), mine in zip(pairs, arrays, strict=True)] == [True] * 6
    for (_, verdict), seed in zip(pairs, (0, 1, 9, 2, 3, 4), strict=True):
        assert verdict.score == score_of(bundle, seed)


def test_frames_on_the_gpu_are_not_copied_for_the_caller(detector: Detector, cuda: StandinCuda) -> None:
    with pytest.raises(FrameError, match="frames on the GPU are not copied: give copy=False"):
        list(detector.stream([InterfaceArray(cuda, picture(1))]))


def test_who_names_no_stream_is_waited_for_on_the_default_one(
    bundle: Bundle, detector: Detector, cuda: StandinCuda
) -> None:
    default = default_stream(cuda)
    for changes in ({"stream": None}, {"version": 2, "stream": None}, {"stream": DEFAULT}):
        array = InterfaceArray(cuda, picture(4))
        array.changes = changes
        with cuda.current():
            default.submit(array.producer.do)
        assert detector(array).score == score_of(bundle, 4)


def test_an_integrated_gpu_takes_them_too(bundle: Bundle) -> None:
    cuda = StandinCuda(is_integrated=True)
    session = TrtSession(bundle, make_standin_engine(bundle), library=standin_library(), cuda=cuda)
    with Detector(bundle, session=session) as detector:
        for turn in range(3):
            assert detector(InterfaceArray(cuda, picture(turn))).score == score_of(bundle, turn)


def test_pixels_come_to_the_computer_when_somebody_looks_at_them_and_once(
    detector: Detector, cuda: StandinCuda
) -> None:
    array = InterfaceArray(cuda, picture(5), pitch=200)
    frame = detector._take_from_gpu(array, 0)
    [result] = detector.stages.judge([frame])
    assert isinstance(result, Inspected)
    assert result.frame.size == (SIDE, SIDE)
    before = cuda.counts.calls["copy rows"]
    for _ in range(2):
        np.testing.assert_array_equal(result.frame.frame, picture(5))
    assert cuda.counts.calls["copy rows"] == before + 1
    drawn = draw_overlay(result.frame.frame, result.verdict)
    assert drawn.shape[0] > SIDE


def test_one_that_was_freed_is_a_bad_frame_and_the_others_are_judged(
    bundle: Bundle, detector: Detector, cuda: StandinCuda
) -> None:
    arrays = [InterfaceArray(cuda, picture(number)) for number in range(3)]
    frames = [detector._take_from_gpu(array, number) for number, array in enumerate(arrays)]
    arrays[1].free()
    first, freed, last = detector.stages.judge(frames)
    assert isinstance(freed, BadFrame)
    assert "is not in memory of the GPU, or was freed: keep it until its verdict is there" in freed.problem
    for result, seed in ((first, 0), (last, 2)):
        assert isinstance(result, Inspected)
        assert result.verdict.score == score_of(bundle, seed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": (SIDE, SIDE)}, r"must be a \(H, W, 3\) array of uint8, BGR, .* got \(56, 56\)"),
        ({"shape": (3, SIDE, SIDE)}, r"got \(3, 56, 56\)"),
        ({"shape": (SIDE, SIDE, 4)}, r"got \(56, 56, 4\)"),
        ({"shape": (SIDE, SIDE - 1, 3)}, r"frame must be 56×56 pixels \(height × width\)"),
        ({"typestr": "<f4"}, "of type f4"),
        ({"strides": (1, SIDE, SIDE * SIDE)}, r"got steps of \(1, 56, 3136\) bytes; make it contiguous"),
        ({"strides": (-168, 3, 1)}, "make it contiguous"),
        ({"stream": 0}, "names stream 0; 1 is the default stream"),
        ({"mask": object()}, "got one with a mask"),
        ({"data": (0, False)}, "has no memory on the GPU any more"),
        ({"data": (12345, False)}, "is not in memory of the GPU, or was freed"),
        ({"strides": (400, 3, 1)}, "must lie in its memory of 9408 bytes, got 22168 bytes from byte 0 on"),
        ({"version": "x"}, r"__cuda_array_interface__ cannot be read \(invalid literal"),
    ],
)
def test_a_frame_of_another_kind_is_refused_in_a_sentence(
    detector: Detector, cuda: StandinCuda, changes: dict[str, Any], said: str
) -> None:
    array = InterfaceArray(cuda, picture(1))
    array.changes = changes
    with pytest.raises(FrameError, match=said) as caught:
        detector(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("device", (1, 0), "is not on a GPU: give it as an array of numpy"),
        ("device", (10, 0), "must be on an NVIDIA GPU, got a device of DLPack's kind 10"),
        ("device", (2, 1), "must be on GPU 0 .Stand-in GPU., where the engine is, got GPU 1"),
        ("dtype", (2, 32, 1), r"of type \(2, 32, 1\)"),
        ("problem", RuntimeError("Can't export tensors that require\ngradient"), "require gradient"),
        ("problem", BufferError("no"), r"__dlpack__ gives nothing \(no\)"),
    ],
)
def test_a_tensor_of_another_kind_is_refused_in_a_sentence(
    detector: Detector, cuda: StandinCuda, attribute: str, value: object, said: str
) -> None:
    array = DlpackArray(cuda, picture(1))
    setattr(array, attribute, value)
    with pytest.raises(FrameError, match=said) as caught:
        detector(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": 1}, "must be on GPU 0 .*, got GPU 1"),
        ({"is_on_gpu": False}, "is in the computer's memory, not the GPU's"),
        ({"is_of_other_context": True}, "import pycuda.autoprimaryctx in the place of pycuda.autoinit"),
    ],
)
def test_memory_that_the_engine_cannot_read_is_refused(
    detector: Detector, cuda: StandinCuda, change: dict[str, Any], said: str
) -> None:
    array = InterfaceArray(cuda, picture(1))
    standin_cuda.OTHERS[array.address] = replace(Allocation(0, True, 0, 0, False), **change)
    with pytest.raises(FrameError, match=said):
        detector(array)


def test_a_bundle_or_backend_that_cannot_take_them_says_so(
    bundle: Bundle, tmp_path: Path, cuda: StandinCuda
) -> None:
    array = InterfaceArray(cuda, picture(1))
    with pytest.raises(FrameError, match="is for an engine of TensorRT, got backend onnxruntime; build one"):
        Detector(bundle, provider="cpu")(array)
    plain = load_bundle(write_tiny_bundle(tmp_path / "plain"))
    session = TrtSession(plain, make_standin_engine(plain), library=standin_library(), cuda=cuda)
    with Detector(plain, session=session) as detector:
        with pytest.raises(FrameError, match="its graph does not resize, .* export it with --frame-size"):
            detector(array)
        with pytest.raises(FrameError, match="frames must be several, got one array on the GPU"):
            detector.detect(array)  # type: ignore[arg-type]

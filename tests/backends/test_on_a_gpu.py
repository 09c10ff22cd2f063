"""From a bundle to verdicts on a GPU: ladder, timing cache, weights left out, choice, ONNX Runtime's CUDA.

What can, also runs on the stand-ins of GPU and TensorRT, so that these tests are known to work before a GPU is there.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import StandinMachine
from graphs import SIDE, drawn_frame, reference, write_tiny_bundle
from standin_cuda import StandinCuda

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime import Detector
from acl_runtime.backends.onnx_session import CUDA, OnnxSession, available_providers
from acl_runtime.backends.tensorrt import choose, ladder, session
from acl_runtime.backends.tensorrt import cuda as cuda_module
from acl_runtime.backends.tensorrt.choose import open_engine
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.engine_file import Engine
from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
from acl_runtime.backends.tensorrt.library import Library, find_library
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import Bundle, load_bundle, write_manifest
from acl_runtime.bundle.manifest import Arithmetic
from benchmarks.on_gpu import FrameOnGpu

LADDER: tuple[Arithmetic, ...] = (
    "fp16",
    "fp16-accumulate-fp32",
    "fp16-attention-fp32",
    "fp16-attention-split",
    "fp32",
)


@dataclass(frozen=True)
class Machine:
    """A GPU with TensorRT, or the stand-ins."""

    cuda: Cuda
    library: Library

    def build(self, bundle: Bundle, **options: Any) -> Engine:
        """An engine that was proven here."""
        attempts = make_engine(
            bundle, self.library, self.cuda, EngineOptions(**options), progress=lambda *_: None
        )
        certificate, engine = attempts[-1].certificate, attempts[-1].engine
        assert certificate is not None
        assert certificate.holds
        assert engine is not None
        return engine


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle", ladder=LADDER))


@pytest.fixture(params=["stand-ins", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(
    request: pytest.FixtureRequest, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    if request.param == "gpu":
        with Cuda() as cuda:
            yield Machine(cuda, find_library())
        return
    standin = StandinMachine(bundle)
    monkeypatch.setattr(ladder, "build_engine", standin.build)
    for module in (choose, session):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda(device))
        monkeypatch.setattr(module, "load_library", lambda name: standin.library)
    yield Machine(standin.cuda, standin.library)


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def assert_computed(outputs: dict[str, np.ndarray], images: np.ndarray) -> None:
    expected = reference(images)
    for name, array in outputs.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3 if "logits" in name else 1e-4)


def test_an_engine_is_built_proven_found_and_judges(machine: Machine, bundle: Bundle) -> None:
    engine = machine.build(bundle, max_batch=3)
    with Detector(bundle, backend="tensorrt") as detector:
        assert detector.provider.endswith(engine.record.arithmetic)
        verdicts = detector.detect([drawn_frame(seed) for seed in range(4)])
    for seed, verdict in enumerate(verdicts):
        expected = Detector(bundle, provider="cpu")(drawn_frame(seed))
        assert verdict.score == pytest.approx(expected.score, abs=1e-3)
        np.testing.assert_allclose(verdict.anomaly_map, expected.anomaly_map, rtol=0, atol=1e-3)


def test_an_engine_without_weights_is_given_them_and_proven(machine: Machine, bundle: Bundle) -> None:
    engine = machine.build(bundle, max_batch=2, weightless=True)
    assert engine.record.weightless
    with open_engine(bundle) as session:
        for count in (1, 2):
            assert_computed(session(random_images(count)), random_images(count))


def test_of_several_engines_the_one_for_the_batch_serves(machine: Machine, bundle: Bundle) -> None:
    for batch in ((1, 1), (1, 3)):
        machine.build(bundle, min_batch=batch[0], max_batch=batch[1])
    for count, most in ((1, 1), (3, 3)):
        with open_engine(bundle, batch=count) as session:
            assert session.max_batch == most
            assert_computed(session(random_images(count)), random_images(count))


def test_a_stream_through_two_slots_gives_what_each_frame_has_alone(machine: Machine, bundle: Bundle) -> None:
    machine.build(bundle, max_batch=3)
    frames = [drawn_frame(seed) for seed in range(12)]
    alone = Detector(bundle, provider="cpu")
    with Detector(bundle, backend="tensorrt") as detector:
        assert detector.stages.calls == 2, detector.session.notes  # type: ignore[attr-defined]
        for _ in range(3):  # plainly, recorded, replayed
            pairs = list(detector.stream(frames, batch=3, max_latency_ms=None))
            assert len(pairs) == len(frames)
            for frame, (given, verdict) in zip(frames, pairs, strict=True):
                np.testing.assert_array_equal(given, frame)
                assert verdict.score == pytest.approx(alone(frame).score, abs=1e-3)


def test_engines_of_a_batch_size_each_serve_together(machine: Machine, bundle: Bundle) -> None:
    for size in (3, 2, 1):
        machine.build(bundle, min_batch=size, max_batch=size)
    with open_engine(bundle) as session:
        assert [engine.record.max_batch for engine in session.engines] == [3, 1, 2]
        for _ in range(3):
            for count in (1, 2, 3, 5):
                assert_computed(session(random_images(count)), random_images(count))


def test_maps_of_good_frames_stay_and_verdicts_are_the_same(machine: Machine, bundle: Bundle) -> None:
    machine.build(bundle, max_batch=3)
    frames = [drawn_frame(seed) for seed in range(6)]
    with Detector(bundle, backend="tensorrt", threshold=0.9) as full:
        brief = copy.copy(full)
        calibration = replace(bundle.manifest.calibration, region_threshold=0.645)
        manifest = replace(bundle.manifest, calibration=calibration)
        full.stages = replace(full.stages, manifest=manifest)
        brief.stages = replace(full.stages, maps="defects")
        left = 0
        for _ in range(3):
            for one, other in zip(full.detect(frames), brief.detect(frames), strict=True):
                assert (one.score, one.peak, one.is_anomalous, one.regions) == (
                    other.score,
                    other.peak,
                    other.is_anomalous,
                    other.regions,
                )
                left += not other.anomaly_map.size
        assert 0 < left < 18


@pytest.fixture
def framed(bundle: Bundle) -> Bundle:
    """The bundle, as one whose graph takes the camera's frames."""
    preprocessing = replace(bundle.manifest.preprocessing, color="BGR", resize="in the graph")
    write_manifest(bundle.path, replace(bundle.manifest, preprocessing=preprocessing))
    return load_bundle(bundle.path)


def small_frames(count: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(drawn_frame(seed, height=SIDE, width=SIDE)) for seed in range(count)]


def assert_judged_on_the_gpu(bundle: Bundle, engine: Engine, machine: Machine, there: list[Any]) -> None:
    alone = Detector(bundle, provider="cpu")
    session = TrtSession(bundle, engine, library=machine.library, cuda=machine.cuda)
    with Detector(bundle, session=session) as detector:
        for _ in range(3):
            for frame, verdict in zip(small_frames(len(there)), detector.detect(there), strict=True):
                assert verdict.score == pytest.approx(alone(frame).score, abs=1e-3)
        taken = detector._take_from_gpu(there[1], 0)
        np.testing.assert_array_equal(taken.frame, small_frames(2)[1])


def test_frames_on_the_gpu_are_judged_there(machine: Machine, framed: Bundle) -> None:
    engine = machine.build(framed, max_batch=3)
    there = [FrameOnGpu(machine.cuda, frame) for frame in small_frames(4)]
    assert_judged_on_the_gpu(framed, engine, machine, there)
    for frame in there:
        frame.free()


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda"])
def test_frames_of_other_libraries_are_judged_on_the_gpu(framed: Bundle, library: str) -> None:
    module = pytest.importorskip(library)
    with Cuda() as cuda:
        machine = Machine(cuda, find_library())
        engine = machine.build(framed, max_batch=3)
        if library == "pycuda":
            pytest.importorskip("pycuda.autoprimaryctx")
            make = pytest.importorskip("pycuda.gpuarray").to_gpu
        else:
            make = module.asarray if library == "cupy" else lambda frame: module.from_numpy(frame).cuda()
        assert_judged_on_the_gpu(framed, engine, machine, [make(frame) for frame in small_frames(4)])


@pytest.mark.parametrize("first", LADDER)
def test_every_step_of_the_ladder_can_be_had(machine: Machine, bundle: Bundle, first: Arithmetic) -> None:
    assert machine.build(bundle, first=first, max_batch=2).record.arithmetic == first


@pytest.mark.gpu
def test_timings_of_kernels_are_kept_and_used_again(bundle: Bundle) -> None:
    with Cuda() as cuda:
        machine = Machine(cuda, find_library())
        if not machine.library.times_kernels:
            pytest.skip("TensorRT-RTX times no kernels")
        first = machine.build(bundle, max_batch=2)
        (cache,) = first.path.parent.glob("*.timing")
        assert cache.stat().st_size > 0
        second = machine.build(bundle, max_batch=2)
        assert "timing cache" not in second.path.with_suffix(".log").read_text(encoding="utf-8").lower()


@pytest.mark.gpu
def test_an_engine_is_built_on_the_second_gpu(bundle: Bundle) -> None:
    with Cuda() as first:
        if first.count == 1:
            pytest.skip("there is one GPU only")
    with Cuda(1) as second:
        engine = Machine(second, find_library()).build(bundle, max_batch=2)
        assert engine.record.gpu == second.name
    with open_engine(bundle, device=1) as session:
        assert_computed(session(random_images(2)), random_images(2))


@pytest.mark.gpu
def test_cuda_of_onnx_runtime_computes_what_the_cpu_does(bundle: Bundle) -> None:
    if CUDA not in available_providers():
        pytest.skip("this ONNX Runtime has no CUDA: the extra gpu")
    session = OnnxSession(bundle.path / bundle.manifest.graph_file("fp32"), "cuda")
    for count in (1, 3, 1):
        assert_computed(session(random_images(count)), random_images(count))


def test_what_a_gpu_is_needed_for_is_read_without_pytorch_and_skipped_in_a_sentence() -> None:
    """As on a box, where pytest is all that is installed beside the runtime and onnx."""
    code = """
import sys
import pytest
for name in ("torch", "skimage", "sklearn", "open_clip", "acl_train", "acl_export", "scipy", "filelock"):
    sys.modules[name] = None
sys.exit(pytest.main(["-m", "gpu", "-rs", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
    root = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", code, "tests"], cwd=root, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    if not cuda_module.KERNEL_MODULE.exists():
        assert " skipped" in process.stdout
        assert "no engine can run here: " in process.stdout
        assert " passed" not in process.stdout

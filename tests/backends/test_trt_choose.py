"""Of a bundle's engines the best that fits is taken; one that fits and is wrong is an error, never passed over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import Fault, make_standin_engine, standin_library
from typer.testing import CliRunner

from acl_runtime import Detector
from acl_runtime.backends.choose import open_session
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.tensorrt import choose, session
from acl_runtime.backends.tensorrt.certificate import prove, read_certificate
from acl_runtime.backends.tensorrt.choose import NoEngineError, open_engine
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import ENGINES, Bundle, load_bundle, write_manifest
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.cli import app
from acl_runtime.files.errors import BackendError

WRONG = Fault("offset", amount=0.5)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandinCuda:
    """A machine with a GPU and TensorRT, both stand-ins."""
    cuda = StandinCuda()
    for module in (choose, session):
        monkeypatch.setattr(module, "Cuda", lambda device=0: StandinCuda(driver=cuda.driver))
        monkeypatch.setattr(module, "load_library", standin_library)
    return cuda


def test_the_engine_computes_what_onnx_runtime_computes(bundle: Bundle, gpu: StandinCuda) -> None:
    make_standin_engine(bundle)
    with Detector(bundle, backend="tensorrt") as detector:
        assert detector.backend == "tensorrt"
        assert detector.provider == "Stand-in GPU, tensorrt 10.13.3.9, fp32"
        verdict = detector(drawn_frame(3))
    expected = Detector(bundle, backend="onnxruntime")(drawn_frame(3))
    np.testing.assert_array_equal(verdict.anomaly_map, expected.anomaly_map)
    with pytest.raises(RuntimeError, match="closed"):
        detector(drawn_frame(3))


def test_auto_takes_the_engine_where_there_is_one(bundle: Bundle, gpu: StandinCuda) -> None:
    assert isinstance(open_session(bundle), OnnxSession)
    make_standin_engine(bundle)
    assert isinstance(open_session(bundle), TrtSession)
    assert isinstance(open_session(bundle, provider="cpu"), OnnxSession)
    assert isinstance(open_session(bundle, backend="onnxruntime"), OnnxSession)


def test_the_engine_that_is_proven_comes_first_then_the_larger(bundle: Bundle, gpu: StandinCuda) -> None:
    small, large = (make_standin_engine(bundle, batch=batch) for batch in ((1, 1), (1, 3)))
    assert open_engine(bundle).engine == large
    large.certificate_path.unlink()
    prove(TrtSession(bundle, small), bundle)
    assert open_engine(bundle).engine == small


def test_among_equals_the_one_for_the_batch_is_taken(bundle: Bundle, gpu: StandinCuda) -> None:
    batches = ((1, 1), (1, 3), (3, 3))
    engines = {batch: make_standin_engine(bundle, batch=batch) for batch in batches}
    for engine in engines.values():
        with TrtSession(bundle, engine) as session:
            prove(session, bundle)
    for batch, expected in ((None, (3, 3)), (1, (1, 1)), (2, (1, 3)), (3, (3, 3)), (7, (1, 3))):
        if expected == (3, 3):  # the same calls as those of 1..3, so the newest of both
            assert open_engine(bundle, batch=batch).engine in (engines[1, 3], engines[3, 3])
        else:
            assert open_engine(bundle, batch=batch).engine == engines[expected]
    assert Detector(bundle, batch=1).session.engine == engines[1, 1]  # type: ignore[attr-defined]
    whole = Detector(bundle, batch=1, tiling=Tiling(32, None, None))
    assert whole.session.max_batch == 3, "tiles fill batches"  # type: ignore[attr-defined]


def test_one_that_was_refused_is_taken_last_and_is_an_error(bundle: Bundle, gpu: StandinCuda) -> None:
    make_standin_engine(bundle, batch=(1, 3), fault=WRONG)
    for backend in ("tensorrt", "auto"):
        with pytest.raises(RuntimeError, match="does not compute what was trained"):
            open_session(bundle, backend=backend)
    right = make_standin_engine(bundle, batch=(1, 1))
    assert open_engine(bundle).engine == right


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"compute_capabilities": ("12.0",)}, r"12\.0.*8\.9"),
        ({"gpu": "NVIDIA Thor"}, "NVIDIA Thor"),
        ({"library_version": "10.3.0.26"}, r"10\.3\.0\.26.*10\.13\.3\.9"),
        ({"sources": {"model.onnx": "0" * 64}}, "another graph"),
        ({"platform": "linux-aarch64"}, "linux-aarch64"),
    ],
    ids=["capability", "gpu", "version", "graph", "platform"],
)
def test_one_for_something_else_is_told_with_the_remedy(
    bundle: Bundle,
    gpu: StandinCuda,
    change: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_standin_engine(bundle, **change)
    with pytest.raises(
        NoEngineError, match=rf"no engine of .* fits this machine: .*{reason}.*acl build"
    ) as caught:
        open_session(bundle, backend="tensorrt")
    assert "\n" not in str(caught.value)
    assert isinstance(open_session(bundle), OnnxSession)
    assert caplog.messages == [f"ONNX Runtime computes, not TensorRT: {caught.value}"]


def test_an_engine_of_an_older_export_does_not_fit(bundle: Bundle, gpu: StandinCuda) -> None:
    make_standin_engine(bundle)
    model = bundle.graph_path.read_bytes()
    other = write_tiny_bundle(bundle.path.parent / "other", head="embeddings")
    assert (other / "model.onnx").read_bytes() != model
    shutil.copytree(bundle.path / ENGINES, other / ENGINES)
    with pytest.raises(NoEngineError, match="acl build"):
        open_engine(load_bundle(other))


def test_a_bundle_without_engines_says_how_to_make_one(bundle: Bundle, gpu: StandinCuda) -> None:
    with pytest.raises(NoEngineError, match="has no engines; build one here with acl build"):
        open_session(bundle, backend="tensorrt")


@pytest.mark.parametrize("cut", [lambda data: data[:-5], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_engine_is_an_error(
    bundle: Bundle, gpu: StandinCuda, cut: Callable[[bytes], bytes]
) -> None:
    engine = make_standin_engine(bundle)
    engine.path.write_bytes(cut(engine.path.read_bytes()))
    with pytest.raises(RuntimeError, match=r"(must be \d+ bytes, got|was altered).*acl build"):
        open_session(bundle)


BREAKS: dict[str, Callable[[Path], object]] = {
    "empty record": lambda path: path.with_suffix(".json").write_text(""),
    "record of nothing": lambda path: path.with_suffix(".json").write_text("{}"),
    "no record": lambda path: path.with_suffix(".json").unlink(),
    "damaged certificate": lambda path: path.with_suffix(".certificate.json").write_text("{"),
}


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=list(BREAKS))
def test_a_broken_engine_does_not_stop_a_box_that_runs_on_its_cpu(
    bundle: Bundle, gpu: StandinCuda, breaks: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_standin_engine(bundle)
    breaks(engine.path)
    assert isinstance(open_session(bundle), OnnxSession)
    (note,) = caplog.messages
    assert note.startswith("ONNX Runtime computes, not TensorRT: ")
    assert str(engine.path.with_suffix("")) in note
    with pytest.raises(NoEngineError, match="no engine of .* fits this machine"):
        open_session(bundle, backend="tensorrt")


def test_a_folder_that_is_named_like_an_engine_is_told_and_passed_over(
    bundle: Bundle, gpu: StandinCuda, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle.path / ENGINES / "d.engine").mkdir(parents=True)
    assert isinstance(open_session(bundle), OnnxSession)
    assert "d.engine: is no file; build the engine again with acl build" in caplog.messages[0]
    make_standin_engine(bundle)
    assert isinstance(open_session(bundle), TrtSession)


def test_without_a_gpu_that_is_what_is_said_first(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu(device: int = 0) -> None:
        raise BackendError("there is no NVIDIA driver here")

    monkeypatch.setattr(choose, "Cuda", no_gpu)
    with pytest.raises(NoEngineError, match="TensorRT needs an NVIDIA GPU: there is no NVIDIA driver here"):
        open_session(bundle, backend="tensorrt")


def test_a_provider_is_of_onnx_runtime(bundle: Bundle) -> None:
    with pytest.raises(
        ValueError, match="provider is for backend onnxruntime, got cuda with backend tensorrt"
    ):
        open_session(bundle, backend="tensorrt", provider="cuda")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_run_proves_the_engine_once_and_says_so(bundle: Bundle, gpu: StandinCuda, tmp_path: Path) -> None:
    import cv2

    make_standin_engine(bundle)
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(1))
    code, out, errors = run("run", bundle.path, tmp_path / "part.png", "--backend", "tensorrt")
    assert code == 0
    assert "part.png" in out
    assert "on Stand-in GPU: it has no certificate yet" in errors
    assert "certificate" not in run("run", bundle.path, tmp_path / "part.png")[2]
    gpu.driver = "580.00.00, CUDA 13.0"
    assert "its certificate is about another driver" in run("run", bundle.path, tmp_path / "part.png")[2]


def test_run_on_a_wrong_engine_is_exit_code_1(bundle: Bundle, gpu: StandinCuda, tmp_path: Path) -> None:
    import cv2

    make_standin_engine(bundle, fault=WRONG)
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(1))
    code, out, errors = run("run", bundle.path, tmp_path / "part.png")
    assert (code, out) == (1, "")
    assert "error: " in errors
    assert "does not compute what was trained" in errors


def test_here_without_a_gpu_an_engine_is_left_aside_with_a_note(bundle: Bundle, tmp_path: Path) -> None:
    """The real binding and library, on a machine that lacks what they need."""
    import cv2

    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("there is a GPU")
    make_standin_engine(bundle, library="tensorrt-rtx")
    cv2.imwrite(str(tmp_path / "part.png"), drawn_frame(1))
    code, out, errors = run("run", bundle.path, tmp_path / "part.png")
    assert code == 0
    assert "part.png" in out
    assert "ONNX Runtime computes, not TensorRT: " in errors
    code, out, errors = run("run", bundle.path, tmp_path / "part.png", "--backend", "tensorrt")
    assert (code, out) == (1, "")
    assert len(errors.splitlines()) <= 2


def test_a_bundle_can_be_written_again_beside_its_engines(bundle: Bundle) -> None:
    make_standin_engine(bundle)
    assert not [name for name in write_manifest(bundle.path, bundle.manifest).files if ENGINES in name]


@pytest.fixture
def bright_parts(tmp_path: Path) -> Path:
    """Good parts that look like none of the golden images."""
    import cv2

    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(210, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), pixels)
    return folder


def test_calibrating_proves_the_engine_on_good_parts_too(
    bundle: Bundle, gpu: StandinCuda, bright_parts: Path
) -> None:
    engine = make_standin_engine(bundle)
    code, _, errors = run("calibrate", bundle.path, bright_parts)
    assert code == 0, errors
    certificate = read_certificate(engine)
    assert certificate is not None
    assert (certificate.own_images, [result.batch for result in certificate.own_batches]) == (8, [1, 3])
    assert 0 < certificate.worst["image_logits"] < 1e-4
    assert "proven on Stand-in GPU, with 8 images of the line" in run("info", bundle.path)[1]


def test_an_engine_that_is_wrong_on_the_lines_images_alone_is_found_out(
    bundle: Bundle, gpu: StandinCuda, bright_parts: Path
) -> None:
    make_standin_engine(bundle, fault=Fault("bright", amount=0.5))
    open_engine(bundle).close()  # the golden images notice nothing
    code, _, errors = run("calibrate", bundle.path, bright_parts)
    assert code == 1
    assert "image_logits off by 0.5 at batch 1 on images of the line, at most 0.001" in errors
    assert load_bundle(bundle.path).manifest.calibration.source == "default"
    with pytest.raises(BackendError, match="on images of the line"):
        open_engine(bundle)

"""The session computes what the graph says, where it was told to, or says why not."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from graphs import SIDE, reference, write_tiny_bundle, write_tiny_graph

from acl_runtime.backends import onnx_session
from acl_runtime.backends.choose import open_session
from acl_runtime.backends.onnx_session import (
    CPU,
    CUDA,
    TENSORRT,
    DeviceBuffers,
    OnnxSession,
    check_placement,
)
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.files.errors import BackendError

NAMES = {
    "map": ["image_logits", "anomaly_maps"],
    "embeddings": ["image_embeddings", "patch_embeddings"],
}


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("head", ["map", "embeddings"])
@pytest.mark.parametrize("count", [1, 3])
def test_it_computes_the_graph(tmp_path: Path, head: str, count: int) -> None:
    write_tiny_graph(tmp_path / "model.onnx", head=head)
    images = random_images(count)
    outputs = OnnxSession(tmp_path / "model.onnx")(images)
    assert list(outputs) == NAMES[head]
    expected = reference(images)
    for name, array in outputs.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3 if "logits" in name else 1e-4)


@pytest.mark.parametrize("provider", ["auto", "cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_may_be_named_briefly(tmp_path: Path, provider: str) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    session = OnnxSession(tmp_path / "model.onnx", provider, threads=1)
    if provider != "auto":
        assert session.provider == "CPUExecutionProvider"


def test_a_provider_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    message = "provider must be auto or one of .*CPUExecutionProvider, got warp"
    with pytest.raises(ValueError, match=message):
        OnnxSession(tmp_path / "model.onnx", "warp")


def test_a_file_that_is_no_graph_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("not a graph")
    with pytest.raises(RuntimeError, match="ONNX Runtime cannot load it") as caught:
        OnnxSession(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("images", [random_images(1)[:, 1:], random_images(1).astype(np.float32)])
def test_images_of_another_kind_are_an_error_of_one_line(tmp_path: Path, images: np.ndarray) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    session = OnnxSession(tmp_path / "model.onnx")
    with pytest.raises(RuntimeError, match="ONNX Runtime failed on") as caught:
        session(images)
    assert "\n" not in str(caught.value)


def test_without_onnx_runtime_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; import acl_runtime.backends.onnx_session"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1].endswith('pip install -e ".[cpu]"')


def device_buffers(path: Path, *, most: int = 16) -> DeviceBuffers:
    """On the CPU, as they are used on a GPU."""
    write_tiny_graph(path / "model.onnx")
    session = ort.InferenceSession(str(path / "model.onnx"), providers=[CPU])
    return DeviceBuffers(session, "cpu", most=most)


def test_bound_buffers_compute_the_graph_at_any_batch_size(tmp_path: Path) -> None:
    buffers, plain = device_buffers(tmp_path, most=2), OnnxSession(tmp_path / "model.onnx", "cpu")
    for count in (1, 3, 2, 1, 3):
        images = random_images(count)
        expected = plain(images)
        outputs = buffers.run(images[:, ::-1][:, ::-1])  # not contiguous
        assert list(outputs) == list(expected)
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, expected[name])


def test_calls_are_recorded_for_the_first_batch_sizes_and_for_no_others(tmp_path: Path) -> None:
    """What is recorded keeps its buffers; on the CPU the number that ONNX Runtime is given means nothing."""
    write_tiny_graph(tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=[CPU])
    buffers, plain = DeviceBuffers(session, "cpu", records=True), OnnxSession(tmp_path / "model.onnx", "cpu")
    numbers = []
    for count in (2, 1, 2, 3, 5, 6, 7, 6, 1):
        images, options = random_images(count), ort.RunOptions()
        expected, outputs = plain(images), buffers.run(images, options)
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, expected[name])
        numbers.append(options.get_run_config_entry("gpu_graph_id"))
    assert numbers == ["1", "2", "1", "3", "4", "-1", "-1", "-1", "2"]


def test_answers_outlive_the_next_call(tmp_path: Path) -> None:
    buffers = device_buffers(tmp_path)
    first = buffers.run(random_images(2))
    kept = {name: array.copy() for name, array in first.items()}
    buffers.run(255 - random_images(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_threads_share_bound_buffers(tmp_path: Path) -> None:
    buffers = device_buffers(tmp_path)
    batches = [random_images(2) + np.uint8(number) for number in range(24)]
    expected = [buffers.run(images)["image_logits"] for images in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: buffers.run(images)["image_logits"], batches))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("images", [random_images(1)[:, 1:], random_images(1).astype(np.float32)])
def test_bound_buffers_refuse_images_of_another_kind(tmp_path: Path, images: np.ndarray) -> None:
    buffers = device_buffers(tmp_path)
    with pytest.raises(RuntimeError, match="images"):
        buffers.run(images)


def test_work_left_to_the_cpu_is_an_error(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    session = ort.InferenceSession(
        str(tmp_path / "model.onnx"), onnx_session._session_options(1), providers=[CPU]
    )
    with pytest.raises(RuntimeError, match="leaves .*MatMul.* to the CPU; update onnxruntime-gpu"):
        check_placement(session)


def test_the_tensorrt_of_onnx_runtime_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its wheel for GPUs knows it, whose libraries no extra installs."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    assert onnx_session.available_providers() == (CUDA, CPU)
    for name in ("tensorrt", TENSORRT):
        with pytest.raises(
            ValueError, match=rf"one of {CUDA}, {CPU}, got {name}; leave it out, and TensorRT runs"
        ):
            onnx_session.find_provider(name)


def test_a_gpu_provider_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's wheel for GPUs knows the provider, and drops it where there is no GPU."""
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    asked: list[tuple[str, dict[str, str]]] = []
    real = ort.InferenceSession

    def drop(
        path: str,
        options: ort.SessionOptions,
        providers: list[tuple[str, dict[str, str]]],
        enable_fallback: int,
    ) -> object:
        asked.extend(providers)
        return real(path, options, providers=[CPU])

    monkeypatch.setattr(onnx_session, "available_providers", lambda: (CUDA, CPU))
    monkeypatch.setattr(ort, "InferenceSession", drop)
    with pytest.raises(RuntimeError, match=f"could not start {CUDA} and fell back to CPUExecutionProvider"):
        open_session(bundle, provider="cuda")
    assert asked[0][0] == CUDA
    assert dict(asked)[CUDA]["use_tf32"] == "0"


def test_two_wheels_that_hide_each_other_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    monkeypatch.setattr(onnx_session, "version", lambda name: "1.23.0")
    with pytest.raises(ValueError, match=r"onnxruntime-gpu 1.23.0 is installed, but hidden by onnxruntime"):
        OnnxSession(tmp_path / "model.onnx", "rocm")


def test_a_graph_with_a_name_that_is_no_text_is_refused_in_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime quotes the name in its message, which its binding then cannot decode."""
    write_tiny_graph(tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    for name in (b"images", b"floats", b"Cast"):
        (tmp_path / "model.onnx").write_bytes(data.replace(name, b"\xff" + name[1:], 1))
        with pytest.raises(BackendError, match=r"model\.onnx: ONNX Runtime cannot load it: \S[^\n]*$"):
            OnnxSession(tmp_path / "model.onnx", "CPUExecutionProvider")
    assert capfd.readouterr().out == ""  # its wrapper prints there when it tries once more

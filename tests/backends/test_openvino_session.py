"""OpenVINO computes what the graph says, in the precision that it was told, or says why not."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import SIDE, drawn_frame, reference, write_tiny_bundle, write_tiny_graph

from acl_export.config import Head
from acl_runtime import Detector
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.bundle.bundle import load_bundle

pytest.importorskip("openvino", reason="OpenVINO is not installed: the extra openvino")

import openvino

from acl_runtime.backends.openvino_session import (
    OpenVinoSession,
    fix_batch,
    linear_layers_as_convolutions,
    linear_layers_in_int8,
)

BLOCKS, SECOND_PATH, CLASS_TOKEN_ALONE = (
    12,
    10,
    3,
)  # of the last block the class token goes alone after the attention
LINEAR_LAYERS = 4 * BLOCKS + SECOND_PATH - CLASS_TOKEN_ALONE


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([count, seed]).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def test_it_computes_the_graph_at_any_batch_size(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    session = OpenVinoSession(tmp_path / "model.onnx", threads=1)
    for count in (1, 3, 2):
        images = random_images(count)
        expected = reference(images)
        for name, array in session(images[:, :, ::-1][:, :, ::-1]).items():
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3 if "logits" in name else 1e-4)


@pytest.mark.parametrize("head", Head)
def test_the_bundle_is_as_near_to_torch_as_with_onnx_runtime(bundles: dict[Head, Path], head: Head) -> None:
    bundle = load_bundle(bundles[head])
    found = GoldenImages(bundle).compare(OpenVinoSession.of_bundle(bundle), batch=2)
    assert found.image_logits < bundle.manifest.parity.tolerance["image_logits"]
    assert found.anomaly_map < bundle.manifest.parity.tolerance["anomaly_map"]


def test_of_an_fp16_bundle_the_float32_graph_is_taken(fp16_bundles: dict[Head, Path]) -> None:
    bundle = load_bundle(fp16_bundles[Head.map])
    assert bundle.cpu_graph_path.name == "model.fp32.onnx"
    found = GoldenImages(bundle).compare(OpenVinoSession.of_bundle(bundle), batch=1)
    step = bundle.manifest.parity_of("fp32")
    assert found.image_logits == pytest.approx(step.image_logits, rel=0.5)


def test_the_detector_takes_it_by_name(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    detector = Detector(bundle, backend="openvino")
    assert (detector.backend, detector.provider) == ("openvino", "CPU f32")
    mine, theirs = detector(drawn_frame(3)), Detector(bundle, backend="onnxruntime")(drawn_frame(3))
    assert mine.score == pytest.approx(theirs.score, abs=1e-5)
    np.testing.assert_allclose(mine.anomaly_map, theirs.anomaly_map, rtol=0, atol=1e-5)
    with pytest.raises(
        ValueError, match="provider is for backend onnxruntime, got cpu with backend openvino"
    ):
        Detector(bundle, backend="openvino", provider="cpu")


def test_threads_share_a_session_and_answers_outlive_the_next_call(tmp_path: Path) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    session = OpenVinoSession(tmp_path / "model.onnx")
    batches = [random_images(2, seed) for seed in range(24)]
    expected = [session(images)["anomaly_maps"].copy() for images in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: session(images)["anomaly_maps"], batches))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("images", [random_images(1)[:, 1:], random_images(1).astype(np.float32)])
def test_images_of_another_kind_are_an_error_of_one_line(tmp_path: Path, images: np.ndarray) -> None:
    write_tiny_graph(tmp_path / "model.onnx")
    with pytest.raises(RuntimeError, match="images must be uint8|OpenVINO failed on") as caught:
        OpenVinoSession(tmp_path / "model.onnx")(images)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_graph_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("not a graph")
    with pytest.raises(RuntimeError, match="OpenVINO cannot load it") as caught:
        OpenVinoSession(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_without_openvino_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['openvino'] = None; import acl_runtime.backends.openvino_session"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1].endswith('pip install -e ".[openvino]"')


def read(bundle: Path) -> openvino.Model:
    model = openvino.Core().read_model(str(load_bundle(bundle).cpu_graph_path))
    fix_batch(model, 1)
    return model


def kinds(model: openvino.Model) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def infer(model: openvino.Model, images: np.ndarray, **settings: object) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"} | settings)
    outputs = compiled([images]).values()
    return [np.array(output) for output in outputs]


@pytest.mark.parametrize("rewrite", [linear_layers_as_convolutions, linear_layers_in_int8])
def test_every_linear_layer_is_rewritten_and_nothing_else(
    bundles: dict[Head, Path], rewrite: Callable[[openvino.Model], int]
) -> None:
    model = read(bundles[Head.map])
    before = kinds(model)
    found = rewrite(model)
    after = kinds(model)
    if rewrite is linear_layers_as_convolutions:
        assert found == LINEAR_LAYERS
        assert after["MatMul"] == before["MatMul"] - LINEAR_LAYERS
        assert after["Convolution"] == before["Convolution"] + LINEAR_LAYERS
    else:
        assert found == load_bundle(bundles[Head.map]).manifest.backbone.width
        integers = [node for node in model.get_ordered_ops() if node.get_element_type() == openvino.Type.i8]
        assert len(integers) == LINEAR_LAYERS
        assert after["MatMul"] == before["MatMul"]


def test_weights_that_the_graph_casts_from_fp16_count_too(fp16_bundles: dict[Head, Path]) -> None:
    assert linear_layers_as_convolutions(read(fp16_bundles[Head.map])) == LINEAR_LAYERS


def test_convolutions_compute_the_same(bundles: dict[Head, Path]) -> None:
    images = GoldenImages(load_bundle(bundles[Head.map])).images(np.array([0]))
    plain, rewritten = read(bundles[Head.map]), read(bundles[Head.map])
    linear_layers_as_convolutions(rewritten)
    for mine, theirs in zip(infer(rewritten, images), infer(plain, images), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5)


def test_tokens_are_rounded_too_where_the_graph_is_in_int8(bundles: dict[Head, Path]) -> None:
    images = GoldenImages(load_bundle(bundles[Head.map])).images(np.array([0]))
    plain, rounded = read(bundles[Head.map]), read(bundles[Head.map])
    width = linear_layers_in_int8(rounded)
    exact = infer(plain, images)[1]
    weights_only, tokens_too = (
        np.abs(infer(rounded, images, DYNAMIC_QUANTIZATION_GROUP_SIZE=group)[1] - exact).max()
        for group in (0, width)
    )
    assert 0 < weights_only <= tokens_too < 0.1
    if multiplies_int8_tokens():
        assert weights_only < tokens_too


def multiplies_int8_tokens() -> bool:
    """Whether OpenVINO surely rounds tokens here: it does with VNNI; on a CPU of another kind they stayed exact."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="ascii").split()) if info.exists() else set()
    return "avx512_vnni" in flags and "amx_int8" not in flags


def test_a_signal_is_taken_though_the_session_was_freed_in_another_thread(tmp_path: Path) -> None:
    """As when a service opened a failed engine again and is then told to stop."""
    write_tiny_graph(tmp_path / "model.onnx")
    code = """
import gc, os, signal, sys, threading
from acl_runtime.backends.openvino_session import OpenVinoSession
sessions = [OpenVinoSession(sys.argv[1])]
def free():
    sessions.pop().close()
    gc.collect()
thread = threading.Thread(target=free)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "model.onnx"], check=False, timeout=60)
    assert run.returncode == 7

"""The session computes what the graph says, where it was told to, or says why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import SIDE, reference, write_tiny_graph

from acl_runtime.onnx_session import OnnxSession

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
    code = "import sys; sys.modules['onnxruntime'] = None; import acl_runtime.onnx_session"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1].endswith('pip install -e ".[cpu]"')

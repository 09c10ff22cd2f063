"""Weights of several graphs in one file: each once, found again, in half where nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from acl_export.weights_file import ALIGNMENT, SMALL_BYTES, WeightsFile
from acl_runtime.backends.onnx_session import OnnxSession

RNG = np.random.default_rng(0)
HALVES = RNG.standard_normal((32, 32)).astype(np.float16).astype(np.float32)
FLOATS = RNG.standard_normal((32, 32)).astype(np.float32)


def product_with(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """images · weight + bias, of (B, 32) uint8."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["image_logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32])],
        [helper.make_tensor_value_info("image_logits", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def save(model: onnx.ModelProto, path: Path, weights: WeightsFile) -> None:
    weights.move_from(model)
    onnx.save(model, path)


@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_stored_is_computed_with(tmp_path: Path, narrow: bool) -> None:
    weights, bias = WeightsFile(tmp_path / "data", narrow=narrow), np.ones(32, np.float32)
    images = RNG.integers(0, 256, (3, 32), dtype=np.uint8)
    for name, weight in (("a.onnx", HALVES), ("b.onnx", FLOATS), ("c.onnx", HALVES)):
        save(product_with(weight, bias), tmp_path / name, weights)
    for name, weight in (("a.onnx", HALVES), ("b.onnx", FLOATS), ("c.onnx", HALVES)):
        outputs = OnnxSession(tmp_path / name, "cpu")(images)
        np.testing.assert_allclose(outputs["image_logits"], images @ weight + 1, rtol=1e-4, atol=1e-2)


def test_each_weight_is_stored_once_and_where_a_runtime_can_map_it(tmp_path: Path) -> None:
    weights = WeightsFile(tmp_path / "data")
    for name in ("a.onnx", "b.onnx"):
        save(product_with(HALVES, HALVES[0]), tmp_path / name, weights)
        save(product_with(FLOATS, HALVES[0]), tmp_path / f"other-{name}", weights)
    assert (tmp_path / "data").stat().st_size == ALIGNMENT + FLOATS.nbytes
    places = {
        entry.value
        for name in ("a.onnx", "other-a.onnx")
        for entry in onnx.load(tmp_path / name, load_external_data=False).graph.initializer[0].external_data
        if entry.key == "offset"
    }
    assert places == {"0", str(ALIGNMENT)}


def test_only_what_is_half_already_is_stored_as_such(tmp_path: Path) -> None:
    weights = WeightsFile(tmp_path / "data", narrow=True)
    too_large = np.full((32, 32), 1e6, np.float32)  # no number of fp16
    stored = []
    for weight in (HALVES, FLOATS, too_large):
        model = product_with(weight, HALVES[0])
        weights.move_from(model)
        stored.append((model.graph.initializer[0].data_type, len(model.graph.node)))
    half, as_it_is = (TensorProto.FLOAT16, 4), (TensorProto.FLOAT, 3)
    assert stored == [half, as_it_is, as_it_is]


def test_what_is_small_stays_in_the_graph(tmp_path: Path) -> None:
    model = product_with(FLOATS, HALVES[0])
    WeightsFile(tmp_path / "data").move_from(model)
    assert HALVES[0].nbytes < SMALL_BYTES <= FLOATS.nbytes
    assert model.graph.initializer[1].raw_data == HALVES[0].tobytes()
    assert model.graph.initializer[0].data_location == TensorProto.EXTERNAL

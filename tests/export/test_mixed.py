"""The arithmetics are in the graphs as types, and each computes what float32 does, within its rounding."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import MINI
from onnx import TensorProto
from typer.testing import CliRunner

from acl_export.config import Head
from acl_export.export import prove_graphs
from acl_export.mixed import LADDER, attend, attend_fp32, attend_split
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.manifest import Arithmetic
from acl_runtime.cli import app

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
BLOCKS, SECOND_PATH = 12, 10  # of the kit's small CLIP, from block 3 on


class Graph:
    """An exported graph with the type of every tensor."""

    def __init__(self, bundle: Bundle, arithmetic: Arithmetic) -> None:
        path = bundle.path / bundle.manifest.graph_file(arithmetic)
        self.data = path.read_bytes()
        self.model = onnx.load(path, load_external_data=False)
        inferred = onnx.shape_inference.infer_shapes(self.model, strict_mode=True).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
        self.constants = {tensor.name for tensor in inferred.initializer}
        self._made_by = {name: node for node in inferred.node for name in node.output}

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == kind]

    def types_into(self, kind: str) -> set[int]:
        """Types of the first input of all nodes of a kind."""
        return {self.types[node.input[0]] for node in self.nodes(kind)}

    def products(self, *, with_weights: bool) -> list[int]:
        """Types of the matrix products, those with a weight or those of two activations."""
        nodes = self.nodes("MatMul")
        return [
            self.types[node.output[0]]
            for node in nodes
            if with_weights is any(map(self._is_fixed, node.input))
        ]

    def scaled(self, name: str) -> bool:
        """Whether a tensor was multiplied by a number since it was projected and cut into heads."""
        node = self._made_by[name]
        if node.op_type == "Mul":
            return any(map(self._is_fixed, node.input))
        moved = node.op_type in ("Transpose", "Cast", "Reshape", "Slice", "Squeeze", "Gather", "Split")
        return moved and self.scaled(node.input[0])

    def scores(self) -> list[onnx.NodeProto]:
        """The products that softmax, or the exponential in its place, is taken of."""
        weights = self.nodes("Softmax") or self.nodes("Exp")
        return [self._product(node.input[0]) for node in weights]

    def _product(self, name: str) -> onnx.NodeProto:
        node = self._made_by[name]
        return node if node.op_type == "MatMul" else self._product(node.input[0])

    def _is_fixed(self, name: str) -> bool:
        """Whether a tensor depends on constants alone."""
        if name in self.constants:
            return True
        node = self._made_by.get(name)
        return node is not None and all(map(self._is_fixed, node.input))


@pytest.fixture(scope="module", params=list(Head))
def bundle(request: pytest.FixtureRequest, fp16_bundles: dict[Head, Path]) -> Bundle:
    return load_bundle(fp16_bundles[request.param])


@pytest.mark.parametrize("arithmetic", LADDER)
def test_norms_and_softmax_are_in_float32_whatever_the_products_are_in(
    bundle: Bundle, arithmetic: Arithmetic
) -> None:
    graph = Graph(bundle, arithmetic)
    assert graph.types_into("LayerNormalization") == {FLOAT}
    assert len(graph.nodes("LayerNormalization")) == 2 * BLOCKS + 2
    assert graph.types_into("ReduceL2") <= {FLOAT}
    assert [graph.types[output.name] for output in graph.model.graph.output] == [FLOAT, FLOAT]
    assert [graph.types[value.name] for value in graph.model.graph.input] == [TensorProto.UINT8]
    if arithmetic == "fp16-attention-split":
        assert graph.nodes("Softmax") == []
        assert graph.types_into("Exp") == {FLOAT}
    else:
        assert graph.types_into("Softmax") == {FLOAT}
        assert len(graph.nodes("Softmax")) == BLOCKS + SECOND_PATH


@pytest.mark.parametrize(
    ("arithmetic", "linear", "attention"),
    [
        ("fp16", HALF, HALF),
        ("fp16-accumulate-fp32", FLOAT, FLOAT),
        ("fp16-attention-fp32", HALF, FLOAT),
        ("fp16-attention-split", HALF, HALF),
        ("fp32", FLOAT, FLOAT),
    ],
)
def test_the_products_are_in_the_type_that_the_name_says(
    bundle: Bundle, arithmetic: Arithmetic, linear: int, attention: int
) -> None:
    graph = Graph(bundle, arithmetic)
    found = graph.products(with_weights=True)
    others = len(found) - found.count(linear)  # projections to the joint space, and the map
    assert found.count(linear) >= 4 * BLOCKS  # query-key-value, out, and two of the MLP
    assert others <= (0 if linear == FLOAT else 6)
    assert set(graph.products(with_weights=False)) == {attention}
    assert len(graph.products(with_weights=False)) == 2 * (BLOCKS + SECOND_PATH)


def test_where_sums_are_in_float32_all_else_is_as_in_half(bundle: Bundle) -> None:
    half, wide = Graph(bundle, "fp16"), Graph(bundle, "fp16-accumulate-fp32")
    made = [node for node in half.model.graph.node if node.op_type != "Cast"]
    kept = [node for node in wide.model.graph.node if node.op_type != "Cast"]
    assert [(node.op_type, node.name) for node in kept] == [(node.op_type, node.name) for node in made]
    for before, after in zip(made, kept, strict=True):
        if before.op_type == "MatMul":
            assert {wide.types[name] for name in (*after.input, *after.output)} == {FLOAT}
        else:
            assert (before.input[:], before.output[:]) == (after.input[:], after.output[:])
    assert half.model.graph.initializer == wide.model.graph.initializer, "they share their weights"


def test_the_float32_step_computes_nothing_in_half(bundle: Bundle) -> None:
    graph = Graph(bundle, "fp32")
    assert HALF not in {graph.types[name] for node in graph.model.graph.node for name in node.output}


@pytest.mark.parametrize("arithmetic", [*LADDER, None])
def test_the_scale_is_on_the_queries_alone(
    bundle: Bundle, bundles: dict[Head, Path], arithmetic: Arithmetic | None
) -> None:
    """On both sides TensorRT 10.7 computes it wrongly, in float32 too."""
    if arithmetic is None:  # of a bundle in float32
        bundle = load_bundle(bundles[Head(bundle.manifest.head)])
    graph = Graph(bundle, arithmetic or "fp32")
    scores = graph.scores()
    assert len(scores) == BLOCKS + SECOND_PATH
    assert [[graph.scaled(name) for name in node.input] for node in scores] == [[True, False]] * len(scores)


@pytest.mark.parametrize("arithmetic", LADDER)
def test_the_graph_says_nothing_of_the_machine_that_wrote_it(bundle: Bundle, arithmetic: Arithmetic) -> None:
    graph = Graph(bundle, arithmetic)
    for name in (Path(__file__).parents[2], bundle.path.parent, Path(torch.__file__).parent):
        assert str(name).encode() not in graph.data
    assert not any(node.metadata_props or node.doc_string for node in graph.model.graph.node)


def test_weights_are_stored_once_in_half(bundle: Bundle, bundles: dict[Head, Path]) -> None:
    stored = sum(path.stat().st_size for path in bundle.path.glob("model*"))
    alone = (bundles[Head(bundle.manifest.head)] / "model.onnx").stat().st_size
    weights = (bundle.path / "model.onnx.data").stat().st_size
    assert weights == pytest.approx(alone / 2, rel=0.1)
    assert stored < weights + 1.5e6  # five graphs without weights


@pytest.mark.parametrize("arithmetic", LADDER)
def test_every_place_in_a_batch_gives_the_same(bundle: Bundle, arithmetic: Arithmetic) -> None:
    session = OnnxSession(bundle.path / bundle.manifest.graph_file(arithmetic), "cpu")
    golden = GoldenImages(bundle)
    images = golden.images(golden.rows(0, 8))
    together = session(images)
    for row in range(8):
        for name, array in session(images[row : row + 1]).items():
            np.testing.assert_allclose(together[name][row], array[0], rtol=0, atol=2e-3)


def test_the_float32_step_gives_the_published_score_and_map(
    fp16_bundles: dict[Head, Path], tmp_path: Path
) -> None:
    """The kit's weights are fp16 numbers already; what is rounded is the resized position embedding."""
    bundle = load_bundle(fp16_bundles[Head.map])
    session = OnnxSession(bundle.path / bundle.manifest.graph_file("fp32"), "cpu")
    images = GoldenImages(bundle).images(np.arange(1))
    assert session(images)["anomaly_maps"].shape == (1, 98, 98)
    step = bundle.manifest.ladder[-1]
    assert step.arithmetic == "fp32"
    assert step.parity.image_logits < 1e-4
    assert step.parity.anomaly_map < 2e-4


def test_a_step_that_computes_something_else_is_refused(
    fp16_bundles: dict[Head, Path], tmp_path: Path
) -> None:
    bundle = load_bundle(shutil.copytree(fp16_bundles[Head.map], tmp_path / "bundle"))
    path = bundle.path / bundle.manifest.graph_file("fp16-attention-split")
    model = onnx.load(path, load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == "ReduceSum")
    node.op_type = "ReduceMax"
    onnx.save(model, path)
    with pytest.raises(RuntimeError, match=r"the graph's \w+ must be within .* of torch"):
        prove_graphs(bundle, lambda what, done, total: None)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_ways_of_attention_are_the_same(scale: float) -> None:
    torch.manual_seed(0)
    a, b, v = (scale * torch.randn(2, 3, 20, 16, dtype=torch.float64) for _ in range(3))
    expected = torch.softmax(a @ b.transpose(-1, -2) / 4, dim=-1) @ v
    for way in (attend, attend_fp32, attend_split):
        torch.testing.assert_close(
            way(a.float(), b.float(), v.float()).double(), expected, rtol=0, atol=1e-4 * scale
        )


def test_a_sum_over_many_tokens_does_not_overflow_when_the_division_is_last() -> None:
    tokens, value = (
        1370,
        90.0,
    )  # every token attends to all alike: the sum before the division is tokens · value
    a = torch.zeros(1, 1, tokens, 64, dtype=torch.half)
    v = torch.full((1, 1, tokens, 64), value, dtype=torch.half)
    assert torch.isinf(torch.ones(1, tokens).half() @ v[0, 0]).all()  # what it would be without the head room
    torch.testing.assert_close(attend_split(a, a, v), v, rtol=2e-3, atol=0)


def test_the_command_measures_drift_and_builds_an_engine_and_the_bundle_tells(
    prompts_path: Path, clip_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
    data, output = tmp_path / "parts", tmp_path / "bundle"
    for kind, names in (("good", ("001",)), ("bad", ("000", "001"))):
        (data / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(MINI / "01" / "test" / kind / f"{name}.png", data / kind)
    arguments = [
        "export",
        prompts_path,
        "-o",
        output,
        "--weights",
        clip_path,
        "--precision",
        "fp16",
        "--drift",
        data,
        "--tensorrt-rtx",
    ]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    for arithmetic in LADDER:
        assert f"onnx: {arithmetic}, log-odds within" in result.stdout
    assert "drift from torch: Image AUROC" in result.stdout
    assert ".engine: " in result.stdout
    told = CliRunner().invoke(app, ["info", str(output)]).stdout
    assert f"for engines     {', then '.join(LADDER)}" in told
    assert "points on 3 images of parts" in told

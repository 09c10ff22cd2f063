"""Graphs on request: linear layers of eight bits for engines, and attention as an operator that ONNX Runtime fuses."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import FIXTURES, MINI
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from PIL import Image

from acl_export import describe
from acl_export.channels import largest_of_channels
from acl_export.config import ExportConfig, Head, LowType, Precision
from acl_export.export import export_bundle
from acl_export.graph import make_graph, write_onnx
from acl_export.linear_layers import LARGEST, find_linear_layers, quantize_linear_layers
from acl_export.mixed import attend_by_operator
from acl_runtime.backends import onnx_session
from acl_runtime.backends.onnx_session import CUDA, OnnxSession
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.tensorrt.build import BuildRequest, build_engine
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.files.errors import InputError
from acl_train.config import VisionConfig
from acl_train.weights import Weights, build_clip
from benchmarks.plans import read_plan

BLOCKS, SECOND_PATH = 12, 10  # of the kit's small CLIP, from block 3 on
LAYERS = 4 * BLOCKS + SECOND_PATH  # the second path has its output projections
TYPES: dict[LowType, int] = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
GOOD = MINI / "01" / "test" / "good"
FRAME = FIXTURES / "images" / "synth1.png"


@pytest.fixture(scope="module")
def bundle(prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle in fp16 with every graph on request, and of the others one; not to be written to."""
    folder = tmp_path_factory.mktemp("quantized") / "bundle"
    config = ExportConfig(
        head=Head.map, precision=Precision.fp16, max_batch=2, quantize=("int8", "fp8"), fused_attention=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describe, "LADDER", ("fp16",))
        export_bundle(prompts_path, folder, weights, config, samples=[GOOD])
    return load_bundle(folder)


def graph_of(bundle: Bundle, low: LowType) -> ModelProto:
    return onnx.load(bundle.path / bundle.manifest.graph_file(low))


def makers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("low", ["int8", "fp8"])
def test_all_linear_layers_are_of_eight_bits_and_nothing_else(bundle: Bundle, low: LowType) -> None:
    model = graph_of(bundle, low)
    made_by, stored = makers(model), {tensor.name: tensor for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    kinds = [[made_by[name].op_type if name in made_by else "" for name in node.input] for node in products]
    pairs = ["DequantizeLinear"] * 2
    assert kinds.count(pairs) == LAYERS
    assert not any("DequantizeLinear" in kind for kind in kinds if kind != pairs)
    weights = {made_by[node.input[1]].input[0] for node in products if made_by.get(node.input[1])}
    assert {stored[name].data_type for name in weights if name in stored} >= {TYPES[low]}
    assert sum(node.op_type == "Softmax" for node in model.graph.node) == BLOCKS + SECOND_PATH
    assert [each.version for each in model.opset_import if not each.domain] == [19]
    path = bundle.path / bundle.manifest.graph_file(low)
    size = path.with_name(f"{path.name}.data").stat().st_size
    assert size < 0.7 * bundle.graph_path.with_name("model.onnx.data").stat().st_size


@pytest.mark.parametrize("low", ["int8", "fp8"])
def test_tokens_and_weights_of_the_calibration_use_the_whole_range(bundle: Bundle, low: LowType) -> None:
    model = graph_of(bundle, low)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [array for name, array in stored.items() if name.endswith(f"_{low}")]
    assert len(weights) == 4 * BLOCKS
    for array in weights:
        largest = np.abs(array.astype(np.float32)).max(axis=0)
        assert (
            largest >= 0.95 * LARGEST[low]
        ).mean() > 0.99  # those that are not are smaller than fp16 tells apart


@pytest.mark.parametrize("low", ["int8", "fp8"])
def test_they_are_near_and_not_the_same_and_the_manifest_says_so(bundle: Bundle, low: LowType) -> None:
    parity, half = bundle.manifest.parity_of(low), bundle.manifest.parity
    assert half.anomaly_map < parity.anomaly_map < 0.2
    session = OnnxSession(bundle.path / bundle.manifest.graph_file(low), "cpu")
    found = GoldenImages(bundle).compare(session, batch=2, rounds=1)
    assert found.anomaly_map == pytest.approx(parity.anomaly_map, rel=0.5)
    assert found.anomaly_map <= parity.tolerance["anomaly_map"] <= 0.3
    assert found.image_logits <= parity.tolerance["image_logits"] <= 1


def test_nobody_gets_them_who_does_not_ask(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.arithmetics() == ("fp16",)
    assert manifest.on_request == ("int8", "fp8", "fused-attention")
    assert manifest.arithmetics("fp8") == ("fp8", "fp16")
    with pytest.raises(ValueError, match="arithmetic must be one of fp16"):
        manifest.arithmetics("fused-attention")


def plant_outliers(model: ModelProto, channel: int, factor: float) -> ModelProto:
    """The same function, one channel of each layer norm larger: as trained transformers have them."""
    model = copy.deepcopy(model)
    made_by, stored = makers(model), {tensor.name: tensor for tensor in model.graph.initializer}
    for layer in find_linear_layers(model):
        norm = made_by.get(made_by[layer.tokens].input[0])
        if norm is None or norm.op_type != "LayerNormalization":
            continue
        for name, by in ((norm.input[1], factor), (norm.input[2], factor), (layer.weights, 1 / factor)):
            array = numpy_helper.to_array(stored[name]).copy()
            channels = array.T if name == layer.weights and layer.turned else array
            channels[channel] *= by
            stored[name].CopyFrom(numpy_helper.from_array(array, name))
    return model


def test_outliers_are_folded_into_the_weights(bundle: Bundle, tmp_path: Path) -> None:
    path, images = tmp_path / "model.onnx", GoldenImages(bundle).images(np.arange(4))
    planted = plant_outliers(onnx.load(bundle.graph_path), channel=5, factor=64.0)
    onnx.save(planted, path)
    largest = largest_of_channels(path, images)
    expected = OnnxSession(path, "cpu")(images)["anomaly_maps"]
    off = {}
    for smoothing in (0.0, 0.5):
        onnx.save(quantize_linear_layers(planted, largest, "int8", smoothing=smoothing), tmp_path / "q.onnx")
        maps = OnnxSession(tmp_path / "q.onnx", "cpu")(images)["anomaly_maps"]
        off[smoothing] = np.abs(maps - expected).mean()
    assert off[0.5] < off[0.0] / 3, off
    assert not (tmp_path / ".model.onnx.watched").exists()


@pytest.mark.parametrize("low", ["int8", "fp8"])
def test_tensorrt_rtx_multiplies_in_eight_bits_and_fuses_the_attention(
    bundle: Bundle, tmp_path: Path, low: LowType
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: the extra rtx")
    request = BuildRequest(
        library="tensorrt-rtx",
        graph=bundle.path / bundle.manifest.graph_file(low),
        plan=tmp_path / "a.engine",
        compute_capabilities=("8.9", "12.0"),
        max_batch=2,
    )
    report = build_engine(request, log=tmp_path / "a.log", progress=lambda *_: None)
    plan = read_plan(request.plan.read_bytes())
    assert report.fused_attention == BLOCKS + SECOND_PATH
    # the first products of blocks before the second path are cut into queries, keys and values, and left in fp16
    assert plan.products[{"int8": "int8", "fp8": "fp8_e4m3"}[low]] >= LAYERS - 2, plan.words


@pytest.mark.parametrize(
    ("config", "samples", "message"),
    [
        (ExportConfig(precision=Precision.fp16, quantize=("int8",)), [], "name some good parts .* --samples"),
        (ExportConfig(quantize=("int8",)), [GOOD], "export with --precision fp16"),
        (ExportConfig(precision=Precision.fp16), [GOOD], "name one with --quantize, or leave --samples out"),
    ],
)
def test_what_does_not_go_together_is_told_before_the_work(
    prompts_path: Path,
    weights: Weights,
    tmp_path: Path,
    config: ExportConfig,
    samples: list[Path],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        export_bundle(prompts_path, tmp_path / "bundle", weights, config, samples=samples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": [FRAME]}, r"1\.png: must be 64×64 pixels .height × width., as --frame-size says, got"),
        ({"samples": [GOOD]}, r"png: must be 64×64 pixels .height × width., as --frame-size says, got"),
        ({"samples": [GOOD / "none"]}, "none"),
        ({"samples": [Path("0")]}, "0: is no image; name images, or folders of them"),
        ({"drift_data": [GOOD / "none"]}, "none: is not a folder; name the folder that holds the data set"),
    ],
)
def test_images_that_will_not_do_are_told_before_the_work(
    prompts_path: Path,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, list[Path]],
    message: str,
) -> None:
    monkeypatch.delattr("acl_export.export.write_graphs")  # it takes minutes with a large network
    config = ExportConfig(precision=Precision.fp16, quantize=("int8",), frame_size=(64, 64))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "fitting.png")
    chosen = {"samples": [tmp_path / "fitting.png"], **settings}
    with pytest.raises((InputError, FileNotFoundError), match=message):
        export_bundle(prompts_path, tmp_path / "bundle", weights, config, **chosen)  # type: ignore[arg-type]
    assert not (tmp_path / "bundle").exists()


def test_fused_attention_shares_the_weights_and_gives_the_same(bundle: Bundle) -> None:
    path = bundle.path / bundle.manifest.graph_file("fused-attention")
    model = onnx.load(path, load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MultiHeadAttention") == BLOCKS + SECOND_PATH
    assert "Softmax" not in kinds
    places = {each.value for tensor in model.graph.initializer for each in tensor.external_data[:1]}
    assert places == {"model.onnx.data"}
    images = GoldenImages(bundle).images(np.arange(4))
    expected, found = (OnnxSession(each, "cpu")(images) for each in (bundle.graph_path, path))
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=5e-3)  # rounded in other places


def test_fused_attention_gives_what_torch_gives_in_float32(
    bundle: Bundle, weights: Weights, tmp_path: Path
) -> None:
    """On both paths, of the class row alone too, and where several attentions are averaged."""
    clip, path = build_clip(weights, _vision(bundle, "qq+vv")), tmp_path / "model.onnx"
    text, sigma = load_text_embeddings(bundle), bundle.manifest.blur_sigma
    images = GoldenImages(bundle).images(np.arange(2))
    written = make_graph(clip.visual, text, head=Head.map, blur_sigma=sigma, attention=attend_by_operator)
    write_onnx(written, path, head=Head.map, max_batch=2)
    with torch.no_grad():
        expected = make_graph(clip.visual, text, head=Head.map, blur_sigma=sigma)(torch.from_numpy(images))
    for array, exact in zip(OnnxSession(path, "cpu")(images).values(), expected, strict=True):
        np.testing.assert_allclose(array, exact.numpy(), rtol=0, atol=1e-4)


def _vision(bundle: Bundle, attention: str) -> VisionConfig:
    manifest = bundle.manifest
    return VisionConfig(manifest.image_size, manifest.layers, manifest.vv_from, attention=attention)


def test_cuda_takes_the_graph_that_it_can_fuse(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    class Noted(OnnxSession):
        def __init__(self, path: Path | str, provider: str = "auto", **_: object) -> None:
            taken.append((Path(path).name, provider))

    Noted.of_bundle(bundle, "cpu")
    monkeypatch.setattr(onnx_session, "find_provider", lambda name: CUDA)
    Noted.of_bundle(bundle, "cuda-graph")
    assert taken == [
        ("model.onnx", "cpu"),  # this bundle has no graph in fp32
        ("model.extra-fused-attention.onnx", "cuda-graph"),
    ]

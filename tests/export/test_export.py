"""Bundles: exported from real prompts, run by the runtime, compared with the published code's numbers."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from conftest import BUNDLE_SIZE, FIXTURES, LAYERS, assert_golden
from graphs import tiny_manifest

from acl_export import export as export_module
from acl_export import graph as graph_module
from acl_export.config import ExportConfig, Head
from acl_export.describe import NOT_YET
from acl_export.export import check_parity, export_bundle
from acl_export.golden import golden_frames
from acl_export.inputs import check_sizes, find_weights
from acl_runtime import Detector
from acl_runtime.backends.choose import open_session
from acl_runtime.bundle.bundle import load_bundle, load_golden, load_text_embeddings
from acl_runtime.bundle.words import network_words, normalisation_words
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import load_frame
from acl_train.prompts import Prompts
from acl_train.weights import Weights

Golden = Callable[[str], dict[str, np.ndarray]]
SIZE = BUNDLE_SIZE


@pytest.mark.parametrize("head", Head)
@pytest.mark.parametrize("image", ["synth0", "synth1"])
def test_a_bundle_computes_the_published_score_and_map(
    bundles: dict[Head, Path], golden: Golden, head: Head, image: str
) -> None:
    verdict = Detector(bundles[head])(load_frame(FIXTURES / "images" / f"{image}.png"))
    assert_golden(
        golden(f"tiny_{SIZE}_{image}"),
        score=np.array([verdict.score]),
        anomaly_map=len(LAYERS) * verdict.anomaly_map,  # the published map is the sum over layers
    )


def test_both_heads_give_the_same_verdicts_at_every_batch_size(bundles: dict[Head, Path]) -> None:
    frames = [load_frame(path) for path in sorted((FIXTURES / "mini" / "01" / "test").glob("*/*.png"))][:4]
    for size in (1, 2, 3, 4):  # four is split into three and one
        pairs = zip(*(Detector(bundles[head]).detect(frames[:size]) for head in Head), strict=True)
        for a, b in pairs:
            assert a.score == pytest.approx(b.score, abs=1e-6)
            np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=2e-6)
            assert a.is_anomalous == b.is_anomalous


def test_parity_is_measured_and_small(bundles: dict[Head, Path]) -> None:
    for path in bundles.values():
        parity = load_bundle(path).manifest.parity
        assert 0 < parity.image_logits < 1e-5
        assert 0 < parity.anomaly_map < 1e-5
        assert parity.frames == 4


def test_golden_frames_hold_the_torch_models_answers(bundles: dict[Head, Path], prompts: Prompts) -> None:
    bundle = load_bundle(bundles[Head.map])
    golden = load_golden(bundle)
    outputs = open_session(bundle)(golden["images"][:3])
    assert golden["patch_logits"].shape == (4, 4, 7, 7)
    np.testing.assert_allclose(outputs["image_logits"], golden["image_logits"][:3], atol=1e-5)
    np.testing.assert_allclose(outputs["anomaly_maps"], golden["anomaly_maps"][:3], atol=1e-5)
    text = load_text_embeddings(bundle)
    assert text.shape == (1, 2, 64)
    assert np.load(bundle.path / "text_embeddings.npy").shape == (2, 64)  # the contract of the file


def test_the_graph_is_what_the_contract_says(bundles: dict[Head, Path]) -> None:
    for head, path in bundles.items():
        graph = onnx.load(path / "model.onnx").graph
        [images] = graph.input
        shape = [entry.dim_param or entry.dim_value for entry in images.type.tensor_type.shape.dim]
        assert shape == ["batch", SIZE, SIZE, 3]
        assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        expected = {
            Head.map: ["image_logits", "anomaly_maps"],
            Head.embeddings: ["image_embeddings", "patch_embeddings"],
        }
        assert [output.name for output in graph.output] == expected[head]
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("LayerNormalization") == 2 * 12 + 2  # none taken apart
        assert "token_embedding" not in " ".join(tensor.name for tensor in graph.initializer)


def test_a_bundle_survives_a_copy_to_another_folder(bundles: dict[Head, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles[Head.map], tmp_path / "elsewhere")
    frame = load_frame(FIXTURES / "images" / "synth0.png")
    assert Detector(tmp_path / "elsewhere")(frame).score == Detector(bundles[Head.map])(frame).score


def test_the_users_frames_can_prove_the_graph(prompts_path: Path, weights: Weights, tmp_path: Path) -> None:
    frame = FIXTURES / "images" / "synth1.png"
    manifest = export_bundle(prompts_path, tmp_path / "b", weights, ExportConfig(), frames=[frame])
    assert manifest.parity.frames == 1
    assert load_golden(load_bundle(tmp_path / "b"))["images"].shape == (1, SIZE, SIZE, 3)


def test_of_a_folder_of_frames_up_to_32_are_taken_from_the_first_to_the_last(tmp_path: Path) -> None:
    for number in range(70):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9, 3), number, np.uint8))
    taken = [int(frame[0, 0, 0]) for frame in golden_frames([tmp_path], tiny_manifest())]
    assert (len(set(taken)), taken[0], taken[-1]) == (32, 0, 69)
    (tmp_path / "12.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"12\.png"):
        golden_frames([tmp_path / "12.png"], tiny_manifest())


def test_a_graph_that_differs_from_torch_is_not_written(
    prompts_path: Path,
    weights: Weights,
    bundles: dict[Head, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fault is planted: the exported tower has one weight changed."""
    real = graph_module.make_graph

    def faulty(*args: object, **kwargs: object) -> torch.nn.Module:
        graph = real(*args, **kwargs)  # type: ignore[arg-type]
        shifted = graph.visual.ln_post.weight + 0.5  # a new tensor: the weights are shared by all tests
        graph.visual.ln_post.weight = torch.nn.Parameter(shifted)
        return graph

    shutil.copytree(bundles[Head.map], tmp_path / "b")
    before = (tmp_path / "b" / "manifest.json").read_text()
    monkeypatch.setattr(export_module, "make_graph", faulty)
    with pytest.raises(RuntimeError, match="the graph's anomaly_map must be within .* of torch"):
        export_bundle(prompts_path, tmp_path / "b", weights, ExportConfig())
    assert (tmp_path / "b" / "manifest.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_nan_is_past_every_tolerance() -> None:
    with pytest.raises(RuntimeError, match="must be within"):
        check_parity(replace(NOT_YET, image_logits=float("nan"), tolerance={"image_logits": 1.0}))


def test_weights_other_than_the_prompts_own_are_refused(
    prompts_path: Path, weights: Weights, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="weights must be those the prompts were learned on .* clip_tiny.pt"):
        export_bundle(prompts_path, tmp_path / "b", replace(weights, sha256="other"), ExportConfig())
    assert not (tmp_path / "b").exists()


def test_another_activation_than_the_prompts_own_is_refused(
    prompts_path: Path, weights: Weights, tmp_path: Path
) -> None:
    gelu = replace(weights, architecture=replace(weights.architecture, quick_gelu=False))
    with pytest.raises(ValueError, match="quick_gelu must be True as in the learning, got False"):
        export_bundle(prompts_path, tmp_path / "b", gelu, ExportConfig())


def test_the_file_that_prompts_were_learned_on_must_be_named_when_it_is_elsewhere(prompts: Prompts) -> None:
    with pytest.raises(FileNotFoundError, match="learned on this file; pass --weights FILE"):
        find_weights(prompts.config, None, None)


def test_a_folder_that_is_no_bundle_is_not_replaced(
    prompts_path: Path, weights: Weights, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no manifest.json; name a new or an empty folder"):
        export_bundle(prompts_path, tmp_path, weights, ExportConfig())
    assert (tmp_path / "precious.txt").read_text() == "mine"


def with_size(prompts: Prompts, image_size: int, recipe: str) -> Prompts:
    config = replace(
        prompts.config, recipe=recipe, vision=replace(prompts.config.vision, image_size=image_size)
    )
    return replace(prompts, config=config)


def test_a_size_with_a_blind_edge_is_refused_and_noted_where_it_was_published(
    prompts: Prompts, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "acl")
    with pytest.raises(
        ValueError, match=r"multiple of the patch \(14\), got 75: the last 5 pixels .* 70 or 84"
    ):
        check_sizes(with_size(prompts, 75, "released"), weights.architecture, ExportConfig())
    check_sizes(with_size(prompts, 75, "published checkpoint"), weights.architecture, ExportConfig())
    assert "image size 75 is no multiple of the patch (14): the last 5 pixels" in caplog.text
    with pytest.raises(ValueError, match=r"blur must lie in 0\.\.70 pixels \(the image\), got 1e\+07"):
        check_sizes(with_size(prompts, 70, "released"), weights.architecture, ExportConfig(blur_sigma=1e7))


def test_a_bundle_says_what_its_network_was_known_from(bundles: dict[Head, Path]) -> None:
    manifest = load_bundle(bundles[Head.map]).manifest
    assert network_words(manifest) == (
        "QuickGELU, 2 heads, 2 in the text tower (heads of 64 and QuickGELU, as in OpenAI's models)"
    )
    assert "float32, QuickGELU, published steps" in manifest.parity.reference
    assert normalisation_words(manifest).startswith("mean 0.4815, 0.4578, 0.4082, standard deviation 0.2686")

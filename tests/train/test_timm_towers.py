"""Towers without text: each family computes what timm's own module does, in torch and in the exported graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import FIXTURES, MINI
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from acl_export import torch_session
from acl_export.config import ExportConfig, Head
from acl_export.export import export_bundle
from acl_export.graph import make_graph, write_onnx
from acl_export.mixed import LADDER, CastLayerNorm, in_arithmetic
from acl_runtime import Detector
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.bundle.bundle import check_judges, load_bundle
from acl_runtime.cli import app
from acl_runtime.files.errors import BundleError, InputError
from acl_runtime.images.decode import load_frame
from acl_runtime.images.preprocess import preprocess
from acl_train import timm_weights
from acl_train.config import LearnConfig, Recipe, VisionConfig
from acl_train.convert import convert_checkpoint
from acl_train.learn import new_learner
from acl_train.methods import make_read_out, with_options
from acl_train.prompts import load_prompts, written_prompts
from acl_train.timm_models import find_model, make_trunk
from acl_train.timm_tower import TimmTower, read_timm_architecture
from acl_train.train import TrainFiles, train
from acl_train.weights import Weights, build_network, load_weights

FAMILIES = {
    "vit_small_patch14_dinov2": "layer scale, class token with a place",
    "vit_small_patch14_reg4_dinov2": "registers, without a place",
    "vit_small_patch16_dinov3": "rotations, no bias",
    "vit_small_plus_patch16_dinov3_qkvb": "SwiGLU, bias in parts",
    "vit_small_patch16_siglip": "no class token, attention pools",
    "vit_tiny_patch16_224": "plain",
}
SOURCE = {"vit_small_patch16_siglip": "vit_base_patch16_siglip_224"}
DEPTH = 2
FRAMES = [FIXTURES / "images" / f"synth{number}.png" for number in (0, 1)]


def small_trunk(name: str, image_size: int | None = None) -> Any:
    """timm's module with two blocks; SigLIP's smallest is made narrower, since timm names no small one."""
    if name == "vit_small_patch16_siglip":
        sizes = {"embed_dim": 192, "num_heads": 3, "depth": DEPTH, "num_classes": 0}
        given = {} if image_size is None else {"img_size": image_size}
        return timm.create_model("vit_base_patch16_siglip_224", **sizes, **given).eval()
    return make_trunk(name, depth=DEPTH, image_size=image_size)


def narrower(name: str, *, depth: int, image_size: int) -> Any:
    """`make_trunk`, which knows the small SigLIP too."""
    return (
        small_trunk(name, image_size)
        if name in SOURCE
        else make_trunk(name, depth=depth, image_size=image_size)
    )


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[str], Weights]]:
    """Random weights of a family, with layer scales and biases that are not what they begin as."""
    kept: dict[str, Weights] = {}

    def make(name: str) -> Weights:
        if name not in kept:
            trunk, model = small_trunk(name), find_model("timm:" + SOURCE.get(name, name))
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in trunk.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            state = {key: tensor.detach() for key, tensor in trunk.state_dict().items()}
            architecture = read_timm_architecture(trunk, model.mean, model.std)
            kept[name] = Weights(state, architecture, f"timm:{name}", "random", "0" * 64, "random")
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_weights, "make_trunk", narrower)
        yield make


def test_values_of_another_model_or_normalisation_are_other_weights(
    made: Callable[[str], Weights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be named as two models with the same tensors: features, prompts and memories must not be mixed up."""
    weights = made("vit_tiny_patch16_224")
    other = replace(weights.architecture, mean=(0.1, 0.2, 0.3))
    found = {
        case: timm_weights.Found(weights.state, architecture, f"timm:{name}", "a.safetensors", "")
        for case, name, architecture in (
            ("one", "vit_tiny_patch16_224.tag", weights.architecture),
            ("of another tag", "vit_tiny_patch16_224.other", weights.architecture),
            ("of another normalisation", "vit_tiny_patch16_224.tag", other),
            ("of another model", "vit_tiny_patch16_quickgelu.tag", weights.architecture),
        )
    }
    monkeypatch.setattr(
        "acl_train.weights.read_timm", lambda backbone, file: found[backbone.removeprefix("timm:")]
    )
    one, same, *others = (load_weights(f"timm:{case}").sha256 for case in found)
    assert one == same
    assert len({one, *others}) == 3


def sizes_of(weights: Weights) -> tuple[int, int]:
    """Two sides of the images, neither of them the model's own."""
    return 3 * weights.architecture.patch_size, 5 * weights.architecture.patch_size


def read_out(weights: Weights, size: int) -> tuple[TimmTower, Tensor]:
    """The tower and two drawn images for it."""
    visual = build_network(weights, VisionConfig(size, (1, 2), DEPTH + 1)).visual
    assert isinstance(visual, TimmTower)
    images = torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(1))
    return visual, visual.normalize(images.to(torch.uint8))


def timm_answers(name: str, weights: Weights, images: Tensor) -> tuple[Tensor, Tensor]:
    """Image and patch embeddings by timm's own methods, after timm's own change of size."""
    trunk = small_trunk(name)
    trunk.load_state_dict(weights.state)
    trunk.set_input_size((images.shape[-1], images.shape[-1]))
    if "dinov3" in name:
        trunk.global_pool = "token"  # as timm says of it: the authors take the class token
    with torch.no_grad():
        pooled = trunk.forward_head(trunk.forward_features(images), pre_logits=True)
        patches = trunk.forward_intermediates(
            images, indices=list(range(DEPTH)), norm=True, output_fmt="NLC", intermediates_only=True
        )
    return F.normalize(pooled, dim=-1), F.normalize(torch.stack(patches, dim=1), dim=-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tower_is_timms_own_forward_at_two_sizes(name: str, made: Callable[[str], Weights]) -> None:
    weights = made(name)
    for size in sizes_of(weights):
        visual, images = read_out(weights, size)
        wanted = timm_answers(name, weights, images)
        with torch.no_grad():
            found = visual(images)
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_small_patch16_siglip"]
)
def test_the_exported_graph_is_timms_own_forward_at_two_sizes(
    name: str, made: Callable[[str], Weights], tmp_path: Path
) -> None:
    weights = made(name)
    for size in sizes_of(weights):
        visual, _ = read_out(weights, size)
        frames = preprocess([load_frame(path) for path in FRAMES], image_size=size)
        graph = make_graph(visual, np.zeros((1, 2, 1), np.float32), head=Head.embeddings, blur_sigma=0)
        write_onnx(graph, tmp_path / f"{size}.onnx", head=Head.embeddings, max_batch=3)
        session = OnnxSession(tmp_path / f"{size}.onnx", "CPUExecutionProvider")
        wanted = timm_answers(name, weights, visual.normalize(torch.from_numpy(frames)))
        for rows in (slice(0, 1), slice(0, 2)):  # a batch of any size
            for found, theirs in zip(session(frames[rows]).values(), wanted, strict=True):
                np.testing.assert_allclose(found, theirs[rows].numpy(), atol=1e-5)


def test_vectors_of_each_layer_go_from_learning_to_the_same_verdict_in_torch_and_in_both_heads(
    made: Callable[[str], Weights], tmp_path: Path
) -> None:
    weights = made("vit_small_patch14_dinov2")
    vision = make_read_out(
        weights.backbone,
        weights.architecture,
        image_size=56,
        layers=(1, 2),
        class_layers=True,
    )
    config = with_options("anomalyclip", learns="vectors", epochs=1, recipe=Recipe.paper, mosaics=4)
    files = TrainFiles(tmp_path / "heads.safetensors", tmp_path / "cache")
    learned = train([MINI], files, weights, vision, config)
    vectors = learned.tensors["vectors"]
    assert vectors.shape == (4, 2, 384)  # class tokens of two layers, then their patches
    assert '"format_version": 3' in learned.config.to_json()
    assert not torch.equal(vectors[:, 0], vectors[:, 1])  # they began as one
    prompts, frame, verdicts = load_prompts(files.output), load_frame(FRAMES[0]), []
    for head in Head:
        settings = ExportConfig(head=head, max_batch=2)
        manifest = export_bundle(prompts, tmp_path / head.value, weights, settings)
        assert manifest.preprocessing.mean == (0.485, 0.456, 0.406)
        assert (manifest.backbone.text_heads, manifest.vv_from) == (None, DEPTH + 1)
        verdicts.append(Detector(load_bundle(tmp_path / head.value))(frame))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_session, "load_weights", lambda *names, quick_gelu: weights)
        session = torch_session.TorchSession.of_bundle(load_bundle(tmp_path / Head.map.value))
    verdicts.append(Detector(load_bundle(tmp_path / Head.map.value), session=session)(frame))
    for verdict in verdicts[1:]:
        assert verdict.score == pytest.approx(verdicts[0].score, abs=1e-5)
        np.testing.assert_allclose(verdict.anomaly_map, verdicts[0].anomaly_map, atol=1e-5)
    assert np.ptp(verdicts[0].anomaly_map) > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_arithmetic_computes_what_float32_does(name: str, made: Callable[[str], Weights]) -> None:
    visual, images = read_out(made(name), sizes_of(made(name))[0])
    with torch.no_grad():
        exact = visual(images)
        for arithmetic in LADDER:
            mixed = in_arithmetic(visual, arithmetic)
            for full, half in zip(exact, mixed(images), strict=True):
                assert half.dtype is torch.float32
                assert (full * half).sum(dim=-1).min() > 0.999  # cosines of unit vectors
    halves = {module.weight.dtype for module in mixed.transformer.modules() if isinstance(module, nn.Linear)}
    assert halves == {torch.float32}
    assert isinstance(in_arithmetic(visual, "fp16").ln_post, CastLayerNorm)


def test_a_bundle_without_prompts_judges_by_good_parts_alone(
    made: Callable[[str], Weights], tmp_path: Path
) -> None:
    weights = made("vit_tiny_patch16_224")
    prompts = written_prompts("memory", weights, VisionConfig(64, (1, 2), DEPTH + 1))
    with pytest.raises(InputError, match="pass --head embeddings"):
        export_bundle(prompts, tmp_path / "bundle", weights, ExportConfig())
    export_bundle(prompts, tmp_path / "bundle", weights, ExportConfig(head=Head.embeddings))
    bundle = load_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="run acl calibrate .* --memory 8 first"):
        check_judges(bundle)
    with pytest.raises(BundleError, match="cannot judge"):  # all scores would be 0.5
        Detector(bundle, threshold=0.9)(load_frame(FRAMES[0]))
    result = CliRunner().invoke(app, ["run", str(bundle.path), str(FRAMES[0])])
    assert result.exit_code == 1
    assert "cannot judge" in result.output


@pytest.mark.parametrize(
    ("backbone", "weights", "why"),
    [
        ("timm:swin_tiny_patch4_window7_224", None, "is no ViT whose tokens are patches of one size"),
        ("timm:convnext_tiny", None, "is no ViT whose tokens"),
        ("timm:vit_base_r50_s16_224", None, "is no ViT whose tokens"),
        ("timm:vit_base_patch32_plus_256_nothing", None, "a name in timm.list_models"),
        ("timm:vit_small_patch14_dinov2", "webli", "must be one of lvd142m, got webli"),
        ("timm:vit_small_patch14_dinov2.lvd142m", "other", "must be lvd142m as the backbone's name says"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_is_fetched(
    backbone: str, weights: str | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm_weights, "_download", lambda model: pytest.fail("fetched"))
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        load_weights(backbone, weights)
    assert "\n" not in str(caught.value)


def test_a_file_gives_the_tower_that_its_name_says(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    trunk = timm.create_model(name, num_classes=7)
    save_file(trunk.state_dict(), tmp_path / "tower.safetensors")
    loaded = load_weights(f"timm:{name}", str(tmp_path / "tower.safetensors"))
    assert (loaded.architecture.vision_layers, loaded.architecture.vision_width) == (12, 192)
    assert loaded.source == "tower.safetensors"
    assert not any(key.startswith("head") for key in loaded.state)  # the classifier is of no use
    with pytest.raises(InputError, match=r"blocks\.0\.|must be .* name the backbone"):
        load_weights("timm:vit_small_patch16_224", str(tmp_path / "tower.safetensors"))
    with pytest.raises(InputError, match="has no text tower"):
        new_learner(build_network(loaded, VisionConfig(64, (12,), 13)), LearnConfig())
    with pytest.raises(InputError, match="no second path|leave --vv-from out"):
        make_read_out(loaded.backbone, loaded.architecture, vv_from=3)
    vision = make_read_out(loaded.backbone, loaded.architecture)
    assert (vision.image_size, vision.class_norm) == (512, True)
    with pytest.raises(InputError, match="prompts are for a text tower"):
        convert_checkpoint(tmp_path / "published.pth", loaded, vision)

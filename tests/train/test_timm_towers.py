"""Towers without text: each family computes what timm's own module does, in torch and in the exported graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import FIXTURES, MINI
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from acl_export.config import ExportConfig, Head, Precision
from acl_export.export import export_bundle
from acl_export.mixed import LADDER, in_arithmetic
from acl_runtime import Detector
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.cli import app
from acl_runtime.images.decode import load_frame
from acl_runtime.images.preprocess import preprocess
from acl_train import timm_weights
from acl_train.config import VisionConfig
from acl_train.methods import make_read_out
from acl_train.prompts import Prompts, make_prompts_config, written_prompts
from acl_train.timm_models import check_fits, final_norm, find_model, make_trunk
from acl_train.timm_tower import TimmTower, read_timm_architecture
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
    import timm

    if name == "vit_small_patch16_siglip":
        sizes = {"embed_dim": 192, "num_heads": 3, "depth": DEPTH, "num_classes": 0}
        given = {} if image_size is None else {"img_size": image_size}
        return timm.create_model("vit_base_patch16_siglip_224", **sizes, **given).eval()
    return make_trunk(name, depth=DEPTH, image_size=image_size)


@pytest.fixture(scope="module")
def made() -> Callable[[str], Weights]:
    """Random weights of a family, with layer scales and biases that are not what they begin as."""
    kept: dict[str, Weights] = {}

    def make(name: str) -> Weights:
        if name not in kept:
            trunk, model = small_trunk(name), find_model("timm:" + SOURCE.get(name, name))
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in trunk.parameters():
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            state = {key: tensor.detach() for key, tensor in trunk.state_dict().items()}
            architecture = read_timm_architecture(trunk, model.mean, model.std)
            kept[name] = Weights(state, architecture, f"timm:{name}", "random", "0" * 64, "random")
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            timm_weights, "make_trunk", lambda name, *, depth, image_size: small_trunk(name, image_size)
        )
        yield make


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
def test_a_tower_and_its_exported_graph_are_timms_own_forward_at_two_sizes(
    name: str, made: Callable[[str], Weights], tmp_path: Path
) -> None:
    weights = made(name)
    frames = [load_frame(path) for path in FRAMES]
    for patches_a_side in (3, 5):
        size = patches_a_side * weights.architecture.patch_size
        vision = VisionConfig(size, (1, 2), DEPTH + 1, class_norm=True)
        visual = build_network(weights, vision).visual
        images = preprocess(frames, image_size=size)
        wanted = timm_answers(name, weights, visual.normalize(torch.from_numpy(images)))
        with torch.no_grad():
            found = visual(visual.normalize(torch.from_numpy(images)))
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
        prompts = written_prompts("memory", weights, vision)
        bundle = tmp_path / str(size)
        manifest = export_bundle(
            prompts, bundle, weights, ExportConfig(head=Head.embeddings, max_batch=3), frames=FRAMES
        )
        assert manifest.preprocessing.mean == weights.architecture.mean
        outputs = OnnxSession(bundle / "model.onnx", "CPUExecutionProvider")(images)
        for graph, theirs in zip(outputs.values(), wanted, strict=True):
            np.testing.assert_allclose(graph, theirs.numpy(), atol=1e-5)


def test_images_are_normalised_as_the_weights_were_trained(made: Callable[[str], Weights]) -> None:
    means = {name: made(name).architecture.mean for name in FAMILIES}
    assert means["vit_small_patch14_dinov2"] == (0.485, 0.456, 0.406)
    assert means["vit_small_patch16_siglip"] == (0.5, 0.5, 0.5)

"""The network against the published code's own numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import LAYERS, VV_FROM, assert_golden

from acl_train.clip import CLIP, normalize_images
from acl_train.config import TEMPERATURE, Recipe, VisionConfig
from acl_train.losses import image_log_odds
from acl_train.methods import make_vision_config
from acl_train.prompts import Prompts
from acl_train.reference import published_maps
from acl_train.text import assemble, text_embeddings
from acl_train.transformer import QuickGELU
from acl_train.weights import Weights, build_clip

TEXTS = ("object.", "damaged object.")
Golden = Callable[[str], dict[str, np.ndarray]]
CASES = [(size, image) for size in (70, 98) for image in ("synth0", "synth1")]


def network(weights: Weights, size: int = 70, layers: tuple[int, ...] = LAYERS) -> CLIP:
    return build_clip(weights, VisionConfig(size, layers, VV_FROM))


@pytest.mark.parametrize(("size", "image"), CASES)
def test_four_layers_give_the_published_embeddings_scores_and_maps(
    weights: Weights, prompts: Prompts, golden: Golden, size: int, image: str
) -> None:
    reference, clip = golden(f"tiny_{size}_{image}"), network(weights, size)
    images = torch.from_numpy(reference["preprocessed"])
    ordinary, second = zip(*clip.visual.paths(clip.visual.embed(images)), strict=True)
    recorded = torch.cat([second[number - 1] for number in LAYERS])
    patch_features = clip.visual.ln_post(recorded) @ clip.visual.proj
    image_embeddings, patch_embeddings = clip.visual(images)
    text = text_embeddings(clip, prompts.tensors["ctx"], prompts.tensors["deep_ctx"])
    assert_golden(
        reference,
        text_features=text.numpy(),
        image_features_raw=(ordinary[-1][:, 0] @ clip.visual.proj).numpy(),
        image_features=image_embeddings.numpy(),
        patch_features=patch_features.numpy(),
        score=torch.sigmoid(image_log_odds(image_embeddings, text[None], TEMPERATURE)).numpy(),
        # the published map is the sum over layers, ours the mean
        anomaly_map=4 * published_maps(patch_embeddings, text[None], size, 4.0),
    )


@pytest.mark.parametrize(("size", "image"), CASES)
def test_the_last_layer_alone_gives_the_published_map(
    weights: Weights, prompts: Prompts, golden: Golden, size: int, image: str
) -> None:
    reference, clip = golden(f"tiny_{size}_{image}"), network(weights, size, (12,))
    _, patch_embeddings = clip.visual(torch.from_numpy(reference["preprocessed"]))
    text = text_embeddings(clip, prompts.tensors["ctx"], prompts.tensors["deep_ctx"])
    assert_golden(reference, anomaly_map_last=published_maps(patch_embeddings, text[None], size, 4.0))


@pytest.mark.parametrize("size", [70, 98])
def test_hidden_states_of_both_paths_are_the_published_ones(
    weights: Weights, golden: Golden, size: int
) -> None:
    visual, images = network(weights, size).visual, golden(f"tiny_{size}_synth0")["preprocessed"]
    paths = visual.paths(visual.embed(torch.from_numpy(images)))
    ordinary, second = zip(*paths, strict=True)
    assert_golden(
        golden(f"tiny_{size}_hidden_synth0"),
        ori_path=torch.cat(ordinary).numpy(),
        vv_path=torch.cat(second).numpy(),
    )


def test_text_hidden_states_are_the_published_ones(
    weights: Weights, prompts: Prompts, golden: Golden
) -> None:
    reference, clip = golden("tiny_text"), network(weights)
    embedded, ends = assemble(clip, prompts.tensors["ctx"], TEXTS)
    length = embedded.shape[1]
    deep = prompts.tensors["deep_ctx"].unsqueeze(1).expand(-1, 2, -1, -1)
    hidden = torch.stack(list(clip.text_hidden(embedded, deep)))  # (12, 2, T, W)
    expected = {
        "prompts": reference["prompts"][:, :length],
        "hidden": reference["hidden"][:, :length].transpose(0, 2, 1, 3),
    }
    assert ends.tolist() == [15, 16]
    assert_golden(expected, prompts=embedded.numpy(), hidden=hidden.numpy())


def test_cutting_the_prompts_after_their_end_changes_nothing(weights: Weights, prompts: Prompts) -> None:
    clip = network(weights)
    embedded, ends = assemble(clip, prompts.tensors["ctx"], TEXTS)
    longer = torch.cat([embedded, torch.randn(2, 77 - embedded.shape[1], embedded.shape[2])], dim=1)
    torch.testing.assert_close(
        clip.encode_text(longer, ends), clip.encode_text(embedded, ends), atol=1e-6, rtol=0
    )


def test_two_sizes_in_one_process_do_not_disturb_each_other(weights: Weights, golden: Golden) -> None:
    """The published code overwrites its position embedding with the first size it sees."""
    images = torch.from_numpy(golden("tiny_98_synth0")["preprocessed"])
    first = network(weights, 98).visual(images)[0]
    network(weights, 70).visual(torch.from_numpy(golden("tiny_70_synth0")["preprocessed"]))
    torch.testing.assert_close(network(weights, 98).visual(images)[0], first, atol=0, rtol=0)


def test_forward_leaves_its_input_and_its_weights_alone(weights: Weights, golden: Golden) -> None:
    clip = network(weights)
    images = torch.from_numpy(golden("tiny_70_synth0")["preprocessed"])
    before = images.clone()
    state = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    clip.visual(images)
    assert torch.equal(images, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in clip.state_dict().items())


def test_a_batch_gives_what_its_images_give_alone(weights: Weights, golden: Golden) -> None:
    clip = network(weights)
    images = torch.from_numpy(golden("train_70_multi")["image"])
    together = clip.visual(images)
    for index, image in enumerate(images):
        for output, alone in zip(together, clip.visual(image[None]), strict=True):
            torch.testing.assert_close(output[index], alone[0], atol=1e-6, rtol=0)


def slow_second_path(clip: CLIP, images: torch.Tensor, a: int, b: int) -> torch.Tensor:
    """The second path with attention written out head by head; a, b pick from (q, k, v)."""
    second = x = clip.visual.embed(images)
    for number, block in enumerate(clip.visual.transformer, start=1):
        qkv = block.attn.project(block.ln_1(x))
        heads = [
            torch.softmax(qkv[a][:, h] @ qkv[b][:, h].mT / 8, dim=-1) @ qkv[2][:, h]
            for h in range(block.attn.heads)
        ]
        if number >= VV_FROM:
            second = second + block.attn.out_proj(torch.cat(heads, dim=-1))
        x = block(x)
        second = x if number < VV_FROM else second
    return second


@pytest.mark.parametrize(("attention", "a", "b"), [("vv", 2, 2), ("qq", 0, 0), ("kk", 1, 1), ("qk", 0, 1)])
def test_each_attention_multiplies_the_projections_it_names(
    weights: Weights, golden: Golden, attention: str, a: int, b: int
) -> None:
    clip = build_clip(weights, VisionConfig(70, (12,), VV_FROM, attention))
    images = torch.from_numpy(golden("tiny_70_synth0")["preprocessed"])
    *_, (_, second) = clip.visual.paths(clip.visual.embed(images))
    torch.testing.assert_close(second, slow_second_path(clip, images, a, b), atol=1e-5, rtol=0)


def test_without_a_second_path_the_patches_are_clips_own(weights: Weights, golden: Golden) -> None:
    clip = build_clip(weights, VisionConfig(70, LAYERS, 13))
    images = torch.from_numpy(golden("tiny_70_synth0")["preprocessed"])
    assert all(ordinary is second for ordinary, second in clip.visual.paths(clip.visual.embed(images)))


def test_normalisation_is_the_published_one(golden: Golden) -> None:
    images = torch.randint(0, 256, (1, 5, 5, 3), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    expected = (images[0].permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(normalize_images(images)[0], expected)


def test_quick_gelu_is_not_gelu() -> None:
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(QuickGELU()(x), x / (1 + torch.exp(-1.702 * x)))
    assert (QuickGELU()(x) - torch.nn.functional.gelu(x)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VisionConfig(70, (3, 13), 3), r"layers must lie in 1\.\.12 .* got \[3, 13\]"),
        (VisionConfig(70, (6, 3), 3), "layers must be ascending and distinct"),
        (VisionConfig(70, (), 3), "layers must be ascending and distinct"),
        (VisionConfig(10, (12,), 3), r"image size must be at least one patch \(14\), got 10"),
        (VisionConfig(70, (12,), 0), "vv_from must be 1 or more, got 0"),
    ],
)
def test_settings_that_do_not_fit_the_tower_are_refused(
    weights: Weights, config: VisionConfig, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_clip(weights, config)


def test_defaults_of_a_deep_tower_are_the_published_ones() -> None:
    paper = make_vision_config("ViT-L-14-336", 24, recipe=Recipe.paper)
    assert paper == VisionConfig(518, (6, 12, 18, 24), 6, "vv")
    released = make_vision_config("ViT-L-14-336", 24, recipe=Recipe.released)
    assert released.layers == (24,)
    assert (Recipe.paper.local_weight, Recipe.released.local_weight) == (1, 4)

"""Losses, gradients and learning against the published code's own numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import LAYERS, VV_FROM
from golden import recipe
from torch import Tensor

from acl_train.clip import CLIP
from acl_train.config import LearnConfig, Recipe, VisionConfig
from acl_train.learn import (
    Examples,
    Learner,
    learn_epoch,
    learner_tensors,
    make_learner,
    new_learner,
    pack_mask,
    restore_learner,
    step_losses,
    total_loss,
    unpack_masks,
)
from acl_train.weights import Weights, build_clip

Golden = Callable[[str], dict[str, np.ndarray]]
CONFIG = LearnConfig(recipe=Recipe.released, epochs=3, batch_size=4)  # λ = 4, also for four layers


def published_start() -> dict[str, Tensor]:
    state = recipe.prompt_state_dict("tiny")
    ctx = np.concatenate([state["ctx_pos"], state["ctx_neg"]])[:, 0]
    deep = np.stack([state[f"compound_prompts_text.{index}"] for index in range(8)])
    return {"ctx": torch.from_numpy(ctx), "deep_ctx": torch.from_numpy(deep)}


def golden_examples(clip: CLIP, reference: dict[str, np.ndarray]) -> Examples:
    with torch.no_grad():
        images, patches = clip.visual(torch.from_numpy(reference["image"]))
    masks = np.stack([pack_mask(mask > 0.5) for mask in reference["mask"]])
    return Examples(
        lambda indices: (images[indices], patches[indices]), torch.from_numpy(reference["label"]), masks
    )


def relative(mine: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(mine - reference) / np.linalg.norm(reference))


def published(reference: dict[str, np.ndarray], stage: str) -> tuple[np.ndarray, np.ndarray]:
    ctx = np.concatenate([reference[f"{stage}.ctx_pos"], reference[f"{stage}.ctx_neg"]])[:, 0]
    deep = np.stack([reference[f"{stage}.compound_prompts_text.{index}"] for index in range(8)])
    return ctx, deep


@pytest.mark.parametrize(("case", "layers"), [("multi", LAYERS), ("last", (12,))])
def test_three_steps_have_the_published_losses_gradients_and_results(
    weights: Weights, golden: Golden, case: str, layers: tuple[int, ...]
) -> None:
    reference = golden(f"train_70_{case}")
    clip = build_clip(weights, VisionConfig(70, layers, VV_FROM))
    examples, learner = golden_examples(clip, reference), make_learner(clip, published_start(), CONFIG)
    tolerance = recipe.tolerances()
    for step in range(3):
        losses = step_losses(clip, learner, examples, torch.arange(4), CONFIG)
        total = total_loss(losses, CONFIG)
        names = {"focal": "focal", "dice_anomalous": "dice_abnormal", "dice_normal": "dice_normal"}
        for mine, theirs in names.items():
            np.testing.assert_allclose(losses[mine].detach(), reference[theirs][step], atol=5e-6, rtol=0)
        assert losses["image"].item() == pytest.approx(reference["image_loss"][step], abs=5e-6)
        assert total.item() == pytest.approx(reference["total_loss"][step], abs=5e-5)
        learner.optimizer.zero_grad()
        total.backward()
        if step == 0:
            assert learner.tensors["ctx"].grad is not None
            assert learner.tensors["deep_ctx"].grad is not None
            ctx_grad, deep_grad = published(reference, "grad1")
            limits = tolerance["training"]
            assert relative(learner.tensors["ctx"].grad.numpy(), ctx_grad) < limits["grad1.ctx_*"]
            assert (
                relative(learner.tensors["deep_ctx"].grad.numpy(), deep_grad)
                < limits["grad1.compound_prompts_text.*"]
            )
        learner.optimizer.step()
    after = np.concatenate(
        [tensor.detach().flatten() for tensor in (learner.tensors["ctx"], learner.tensors["deep_ctx"])]
    )
    expected = np.concatenate([tensor.ravel() for tensor in published(reference, "param_after3")])
    assert relative(after, expected) < tolerance["training"]["param_after3 (all)"]


def test_without_masks_only_the_image_loss_applies(weights: Weights, golden: Golden) -> None:
    reference, clip = golden("train_70_last"), build_clip(weights, VisionConfig(70, (12,), VV_FROM))
    with_masks = golden_examples(clip, reference)
    examples = Examples(with_masks.batch, with_masks.labels, None)
    losses = step_losses(
        clip, make_learner(clip, published_start(), CONFIG), examples, torch.arange(4), CONFIG
    )
    assert losses.keys() == {"image"}
    assert total_loss(losses, CONFIG) == losses["image"]


def test_the_loss_falls_and_the_same_seed_learns_the_same(weights: Weights, golden: Golden) -> None:
    reference, clip = golden("train_70_last"), build_clip(weights, VisionConfig(70, (12,), VV_FROM))
    examples = golden_examples(clip, reference)
    config = LearnConfig(epochs=6, batch_size=2)
    runs = [run(clip, examples, new_learner(clip, config), config) for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1].tensors["ctx"], runs[1][1].tensors["ctx"])
    assert runs[0][0][-1] < runs[0][0][0]


def run(clip: CLIP, examples: Examples, learner: Learner, config: LearnConfig) -> tuple[list[float], Learner]:
    losses = []
    while learner.epoch < config.epochs:
        losses.append(sum(step["loss"] for step in learn_epoch(clip, learner, examples, config)))
    return losses, learner


def test_a_restored_learner_goes_on_to_the_same_result(weights: Weights, golden: Golden) -> None:
    reference, clip = golden("train_70_last"), build_clip(weights, VisionConfig(70, (12,), VV_FROM))
    examples = golden_examples(clip, reference)
    config = LearnConfig(epochs=4, batch_size=2)
    _, straight = run(clip, examples, new_learner(clip, config), config)
    _, first = run(clip, examples, new_learner(clip, config), LearnConfig(epochs=2, batch_size=2))
    tensors = first.tensors | learner_tensors(first)
    saved = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    _, resumed = run(clip, examples, restore_learner(clip, saved, 2, config), config)
    assert torch.equal(resumed.tensors["ctx"], straight.tensors["ctx"])
    assert torch.equal(resumed.tensors["deep_ctx"], straight.tensors["deep_ctx"])


@pytest.mark.parametrize("size", [7, 8, 70])
def test_packed_masks_come_back_as_they_were(size: int) -> None:
    mask = np.random.default_rng(size).random((size, size)) > 0.5
    np.testing.assert_array_equal(unpack_masks(pack_mask(mask)[None], size)[0], mask)


def test_a_shallow_text_tower_takes_fewer_deep_tokens(weights: Weights) -> None:
    clip = build_clip(weights, VisionConfig(70, (12,), VV_FROM))
    assert new_learner(clip, LearnConfig(deep_layers=30)).tensors["deep_ctx"].shape == (11, 4, 128)

"""Prompt learning: two contexts and the deep tokens against a frozen CLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acl_runtime.maps import map_operator
from acl_train.clip import CLIP
from acl_train.config import LearnConfig
from acl_train.losses import dice_loss, focal_loss, image_loss, log_odds, pixel_probabilities
from acl_train.prompts import text_embeddings

NAMES = ("ctx", "deep_ctx")
Batch = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices to image and patch embeddings


@dataclass(frozen=True)
class Examples:
    """The images that prompts are learned from.

    Attributes:
        batch: Takes (B,) int64 indices, returns `image_embeddings` (B, D) and `patch_embeddings`
            (B, L, G·G, D), float32.
        labels: (N,) int64, 1 for defective.
        masks: N bit-packed (S·S,) rows of bool, (N, ceil(S·S / 8)) uint8; None if the data has no masks, and
            then only the image loss applies.
    """

    batch: Batch
    labels: Tensor
    masks: np.ndarray | None


@dataclass
class Learner:
    """The learned vectors with their optimiser, after `epoch` finished epochs."""

    ctx: Tensor  # (2, N, W)
    deep_ctx: Tensor  # (K, M, W)
    optimizer: torch.optim.Adam
    epoch: int = 0


def new_learner(clip: CLIP, config: LearnConfig) -> Learner:
    """Draw the initial vectors, N(0, 0.02); the seed alone decides them, on any device."""
    generator = torch.Generator().manual_seed(config.seed)
    width, deep_layers = clip.architecture.text_width, _deep_layers(clip, config)
    ctx = 0.02 * torch.randn(2, config.ctx_tokens, width, generator=generator)
    deep_ctx = 0.02 * torch.randn(deep_layers, config.deep_tokens, width, generator=generator)
    return make_learner(clip, ctx, deep_ctx, config)


def make_learner(clip: CLIP, ctx: Tensor, deep_ctx: Tensor, config: LearnConfig) -> Learner:
    """Start an optimiser on given vectors."""
    device = clip.text_projection.device
    ctx, deep_ctx = (tensor.to(device).clone().requires_grad_() for tensor in (ctx, deep_ctx))
    optimizer = torch.optim.Adam([ctx, deep_ctx], lr=config.learning_rate, betas=(0.5, 0.999))
    return Learner(ctx, deep_ctx, optimizer)


def learner_tensors(learner: Learner) -> dict[str, Tensor]:
    """Adam's moments, named for a file, so that `restore_learner` goes on to the same result."""
    states = [learner.optimizer.state[tensor] for tensor in (learner.ctx, learner.deep_ctx)]
    return {
        f"adam.{name}.{key}": state[key].detach().clone()
        for name, state in zip(NAMES, states, strict=True)
        for key in ("step", "exp_avg", "exp_avg_sq")
    }


def restore_learner(clip: CLIP, tensors: dict[str, Tensor], epoch: int, config: LearnConfig) -> Learner:
    """Continue after `epoch` finished epochs from the tensors of a checkpoint."""
    learner = make_learner(clip, tensors["ctx"], tensors["deep_ctx"], config)
    state = {
        index: {key: tensors[f"adam.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for index, name in enumerate(NAMES)
    }
    learner.optimizer.load_state_dict(learner.optimizer.state_dict() | {"state": state})
    learner.epoch = epoch
    return learner


def learn_epoch(
    clip: CLIP, learner: Learner, examples: Examples, config: LearnConfig
) -> Iterator[dict[str, float]]:
    """One pass over the examples; yields the losses of each step.

    The order depends on the seed and the epoch's number only, so a resumed run sees the same one.
    """
    generator = torch.Generator().manual_seed(config.seed * 1000 + learner.epoch)
    order = torch.randperm(len(examples.labels), generator=generator)
    for indices in order.split(config.batch_size):
        losses = step_losses(clip, learner, examples, indices)
        total = total_loss(losses, config)
        learner.optimizer.zero_grad()
        total.backward()
        learner.optimizer.step()
        yield {"loss": total.item()} | {name: loss.sum().item() for name, loss in losses.items()}
    learner.epoch += 1


def step_losses(clip: CLIP, learner: Learner, examples: Examples, indices: Tensor) -> dict[str, Tensor]:
    """The losses of one batch: `image` a scalar; with masks also `focal`, `dice_anomalous`, `dice_normal` (L,)."""
    device = learner.ctx.device
    image_embeddings, patch_embeddings = (tensor.to(device) for tensor in examples.batch(indices))
    text = text_embeddings(clip, learner.ctx, learner.deep_ctx)
    losses = {"image": image_loss(log_odds(image_embeddings, text), examples.labels[indices].to(device))}
    if examples.masks is None:
        return losses
    size = clip.visual.config.image_size
    operator = torch.from_numpy(map_operator(clip.visual.grid, size, 0.0).astype(np.float32)).to(device)
    masks = unpack_masks(examples.masks[indices.numpy()], size).to(device)
    probabilities = pixel_probabilities(patch_embeddings, text, operator)  # (B, L, S, S)
    return losses | {
        "focal": focal_loss(probabilities, masks),
        "dice_anomalous": dice_loss(probabilities, masks),
        "dice_normal": dice_loss(1 - probabilities, 1 - masks),
    }


def total_loss(losses: dict[str, Tensor], config: LearnConfig) -> Tensor:
    """The image loss plus λ times the layers' focal and dice losses, a scalar."""
    local = [loss.sum() for name, loss in losses.items() if name != "image"]
    return losses["image"] + config.recipe.local_weight * sum(local, start=torch.zeros(()))


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """An (S, S) bool mask as ceil(S·S / 8) bytes; a data set's masks then fit in memory."""
    return np.packbits(mask)


def unpack_masks(packed: np.ndarray, size: int) -> Tensor:
    """(B, S, S) float32, 0 or 1, of (B, ceil(S·S / 8)) bytes."""
    bits = np.unpackbits(packed, axis=1, count=size * size)
    return torch.from_numpy(bits.reshape(-1, size, size).astype(np.float32))


def _deep_layers(clip: CLIP, config: LearnConfig) -> int:
    """A shallow text tower takes fewer: the first block's input is never replaced."""
    return min(config.deep_layers, clip.architecture.text_layers - 1)

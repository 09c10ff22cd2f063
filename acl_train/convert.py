"""Prompt checkpoints of the published AnomalyCLIP code, made into ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from acl_train.config import VisionConfig
from acl_train.prompts import Prompts, make_prompts_config
from acl_train.tensor_files import read_state
from acl_train.weights import Weights

CONTEXTS = ("ctx_pos", "ctx_neg")  # normal, anomalous
DEEP = "compound_prompts_text.{}"


def convert_checkpoint(path: Path, weights: Weights, vision: VisionConfig) -> Prompts:
    """Read a `.pth` of the published code.

    Of its 22 MB the learned context and deep tokens are used; the projections never were. The published
    forward pass rounds the deep tokens to fp16; that rounding is applied here, once.

    Args:
        path: A file with one entry `prompt_learner`. Read as plain tensors: a pickle with code is refused.
        weights: The CLIP that the prompts were learned on.
        vision: How the vision tower is to be read out; the checkpoint does not say.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is no such checkpoint, or belongs to a backbone of another width.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; pass a .pth of the published code")
    learner = read_state(path).get("prompt_learner")
    if not isinstance(learner, dict) or not {*CONTEXTS, DEEP.format(0)} <= learner.keys():
        raise ValueError(
            f"{path}: not a checkpoint of the published code, which holds prompt_learner with ctx_pos, ctx_neg "
            "and compound_prompts_text.0 and on"
        )
    deep = [DEEP.format(index) for index in range(sum(name.startswith(DEEP.format("")) for name in learner))]
    ctx = _stack(path, learner, CONTEXTS)[:, 0, 0]  # (2, N, W)
    deep_ctx = _stack(path, learner, deep).half().float()  # (K, M, W)
    _check_width(path, ctx, deep_ctx, weights)
    config = make_prompts_config(weights, vision, "published checkpoint", {"checkpoint": path.name})
    return Prompts({"ctx": ctx, "deep_ctx": deep_ctx}, config)


def _stack(path: Path, learner: dict[str, Tensor], names: Sequence[str]) -> Tensor:
    for name in names:
        shapes = [tuple(learner[other].shape) for other in (names[0], name)]
        if shapes[0] != shapes[1] or len(shapes[0]) != (4 if names is CONTEXTS else 2):
            raise ValueError(f"{path}: {name} must be {shapes[0]} like {names[0]}, got {shapes[1]}")
    return torch.stack([learner[name].float() for name in names])


def _check_width(path: Path, ctx: Tensor, deep_ctx: Tensor, weights: Weights) -> None:
    width, layers = weights.architecture.text_width, weights.architecture.text_layers
    if ctx.shape[-1] != width or deep_ctx.shape[-1] != width or len(deep_ctx) >= layers:
        raise ValueError(
            f"{path}: prompts must be {width} wide and fewer than {layers} deep for {weights.backbone}, got "
            f"{ctx.shape[-1]} wide and {len(deep_ctx)} deep; pass the weights they were learned on"
        )

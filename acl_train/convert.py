"""Prompt checkpoints of the published AnomalyCLIP code, made into ours."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from acl_train.config import VisionConfig
from acl_train.prompts import Prompts, PromptsConfig
from acl_train.weights import Weights, read_state

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
    if not isinstance(learner, dict) or not {"ctx_pos", "ctx_neg", DEEP.format(0)} <= learner.keys():
        raise ValueError(
            f"{path}: not a checkpoint of the published code, which holds prompt_learner with ctx_pos, ctx_neg "
            "and compound_prompts_text.0 and on"
        )
    depth = sum(name.startswith(DEEP.format("")) for name in learner)
    ctx = torch.cat([learner["ctx_pos"], learner["ctx_neg"]]).squeeze(1).float()  # (2, N, W)
    deep_ctx = torch.stack([learner[DEEP.format(index)] for index in range(depth)]).half().float()
    _check_width(path, ctx, deep_ctx, weights)
    config = PromptsConfig(
        backbone=weights.backbone,
        weights=weights.source,
        weights_sha256=weights.sha256,
        quick_gelu=weights.architecture.quick_gelu,
        vision=vision,
        recipe="published checkpoint",
        learning={"checkpoint": path.name},
    )
    return Prompts(ctx, deep_ctx, config)


def _check_width(path: Path, ctx: Tensor, deep_ctx: Tensor, weights: Weights) -> None:
    width, layers = weights.architecture.text_width, weights.architecture.text_layers
    if ctx.shape[-1] != width or deep_ctx.shape[-1] != width or len(deep_ctx) >= layers:
        raise ValueError(
            f"{path}: prompts must be {width} wide and fewer than {layers} deep for {weights.backbone}, got "
            f"{ctx.shape[-1]} wide and {len(deep_ctx)} deep; pass the weights they were learned on"
        )

"""Prompt checkpoints of the published AnomalyCLIP code, made into ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_train.config import VisionConfig
from acl_train.prompts import PUBLISHED, Prompts, check_finite, make_prompts_config
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
        InputError: If it is no such checkpoint, or belongs to a backbone of another width.
    """
    if not weights.architecture.text_layers:
        raise InputError(f"{path}: its prompts are for a text tower, and {weights.backbone} has none")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; pass a .pth of the published code")
    learner = read_state(path, inside="prompt_learner")
    if not {*CONTEXTS, DEEP.format(0)} <= learner.keys():
        raise InputError(
            f"{path}: not a checkpoint of the published code, which holds prompt_learner with ctx_pos, ctx_neg "
            "and compound_prompts_text.0 and on"
        )
    ctx = _stack(path, learner, CONTEXTS)[:, 0, 0]  # (2, N, W)
    deep_ctx = _stack(path, learner, _deep_names(path, learner)).half().float()  # (K, M, W)
    try:
        check_finite({"ctx": ctx, "deep_ctx": deep_ctx})
    except InputError as error:
        raise InputError(f"{path}: {error}; the checkpoint is damaged") from error
    _check_width(path, ctx, deep_ctx, weights)
    config = make_prompts_config(weights, vision, PUBLISHED, {"checkpoint": path.name})
    return Prompts({"ctx": ctx, "deep_ctx": deep_ctx}, config)


def _deep_names(path: Path, learner: dict[str, Tensor]) -> list[str]:
    count = sum(name.startswith(DEEP.format("")) for name in learner)
    names = [DEEP.format(index) for index in range(count)]
    if missing := [name for name in names if name not in learner]:
        raise InputError(f"{path}: its deep tokens must be numbered from 0 on, but {missing[0]} is missing")
    return names


def _stack(path: Path, learner: dict[str, Tensor], names: Sequence[str]) -> Tensor:
    """(len(names), ...) float32."""
    first, dimensions = tuple(learner[names[0]].shape), 4 if names is CONTEXTS else 2
    for name in names:
        shape = tuple(learner[name].shape)
        if shape != first or len(shape) != dimensions or 0 in shape:
            raise InputError(
                f"{path}: {name} must have {dimensions} dimensions and be as large as {names[0]} {first}, got {shape}"
            )
    return torch.stack([learner[name].float() for name in names])


def _check_width(path: Path, ctx: Tensor, deep_ctx: Tensor, weights: Weights) -> None:
    width, layers = weights.architecture.text_width, weights.architecture.text_layers
    if ctx.shape[-1] != width or deep_ctx.shape[-1] != width or len(deep_ctx) >= layers:
        raise InputError(
            f"{path}: prompts must be {width} wide and fewer than {layers} deep for {weights.backbone}, got "
            f"{ctx.shape[-1]} wide and {len(deep_ctx)} deep; pass the weights they were learned on"
        )

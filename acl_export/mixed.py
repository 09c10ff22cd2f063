"""The vision tower in other arithmetics, written into the network as types and casts.

An engine's builder that is free to choose precisions gives another result with each version and GPU; a graph that says
them gives one. Five arithmetics, each more careful than the one before:

- `fp16`: weights, products and the tokens between the blocks in fp16. Layer norms, softmax, the projection to the joint
  space, cosine and map in fp32.
- `fp16-accumulate-fp32`: the same tower; `accumulate.py` has its products summed in fp32, in the ONNX file.
- `fp16-attention-fp32`: as fp16, and also the products inside the attention in fp32.
- `fp16-attention-split`: as fp16, but the softmax is divided by its sum after the product with the values. The result
  is the same; no builder recognises it as attention, so none puts its fused kernel there.
- `fp32`: everything in fp32, on the same weights, rounded to fp16.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from acl_runtime.bundle.manifest import FUSED, Arithmetic
from acl_train.transformer import MultiHeadAttention
from acl_train.weights import Tower

LADDER: tuple[Arithmetic, ...] = (
    "fp16",
    "fp16-accumulate-fp32",
    "fp16-attention-fp32",
    "fp16-attention-split",
    "fp32",
)
HEADROOM = 16.0  # see `attend_split`


class CastLayerNorm(nn.Module):
    """A layer norm in fp32, whatever goes in; `dtype` comes out."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm, self.dtype = norm, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(self.dtype)  # type: ignore[no-any-return]


def attend(a: Tensor, b: Tensor, v: Tensor, *, is_causal: bool = False) -> Tensor:
    """softmax(a bᵀ / √d) v: the softmax in fp32, the products in the precision of `a`, the scale on the queries alone.

    torch exports its own attention with the root of the scale on queries and keys. TensorRT 10.7 computes that wrongly,
    in float32 too (NVIDIA/TensorRT#4333, #4328).
    """
    return torch.softmax(_scores(a, b).float(), dim=-1).to(v.dtype) @ v


def attend_fp32(a: Tensor, b: Tensor, v: Tensor, *, is_causal: bool = False) -> Tensor:
    """softmax(a bᵀ / √d) v, all of it in fp32."""
    return attend(a.float(), b.float(), v.float()).to(v.dtype)


def attend_by_operator(a: Tensor, b: Tensor, v: Tensor, *, is_causal: bool = False) -> Tensor:
    """softmax(a bᵀ / √d) v as one operator of ONNX Runtime's own, `com.microsoft.MultiHeadAttention`; for export only.

    Its CUDA provider has fused kernels for that one, and none for attention that is written out.
    """
    heads, (rows, width) = a.shape[1], a.shape[-2:]
    tokens = [each.transpose(1, 2).flatten(2) for each in (a, b, v)]
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        tokens,
        {"num_heads": heads, "scale": width**-0.5},
        dtype=a.dtype,
        shape=(a.shape[0], rows, heads * width),
        version=1,
    )
    found: Tensor = mixed.unflatten(2, (heads, width)).transpose(1, 2)
    return found


def attend_split(a: Tensor, b: Tensor, v: Tensor, *, is_causal: bool = False) -> Tensor:
    """softmax(a bᵀ / √d) v with the division last: (e v) / Σe.

    e is exp(score − largest score) / 16, so that a sum over the 1,370 tokens of a ViT-L at 518 pixels stays below 86
    times the largest value, far from the largest number of fp16, 65,504.
    """
    scores = _scores(a, b).float()
    largest = scores.amax(dim=-1, keepdim=True)
    weights = torch.exp(scores - largest - math.log(HEADROOM)).to(v.dtype)
    return ((weights @ v).float() / weights.float().sum(dim=-1, keepdim=True)).to(v.dtype)


ATTENTION: dict[Arithmetic, Callable[..., Tensor]] = {
    "fp16": attend,
    "fp16-accumulate-fp32": attend,
    "fp16-attention-fp32": attend_fp32,
    "fp16-attention-split": attend_split,
    FUSED: attend_by_operator,
}


def in_arithmetic(visual: Tower, arithmetic: Arithmetic) -> Tower:
    """A copy of the tower that computes in one of `LADDER`.

    Args:
        visual: In float32.
        arithmetic: Of the copy; or `FUSED`, which is fp16 with another operator.
    """
    mixed = _to_half(copy.deepcopy(visual))
    if arithmetic == "fp32":
        return with_attention(mixed.float(), attend)
    for module in list(mixed.transformer.modules()):
        _cast_norms(module)
        if isinstance(module, MultiHeadAttention):
            module.mix = ATTENTION[arithmetic]
    if isinstance(mixed.ln_pre, nn.LayerNorm):
        mixed.add_module("ln_pre", CastLayerNorm(mixed.ln_pre, torch.half))
    mixed.add_module("ln_post", CastLayerNorm(mixed.ln_post, torch.float))
    return mixed


def with_attention(visual: Tower, mix: Callable[..., Tensor]) -> Tower:
    """A copy of the tower, on the same weights, that computes its attention by `mix`, see `MultiHeadAttention`."""
    other = copy.deepcopy(visual, {id(parameter): parameter for parameter in visual.parameters()})
    for module in other.transformer.modules():
        if isinstance(module, MultiHeadAttention):
            module.mix = mix
    return other


def _cast_norms(module: nn.Module) -> None:
    """Have a module's own layer norms compute in fp32 and give fp16."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.LayerNorm):
            module.add_module(name, CastLayerNorm(child, torch.half))


def _to_half(visual: Tower) -> Tower:
    """Round to fp16 in place what the fp16 arithmetics keep so: all but layer norms and what comes after the last."""
    kept = {id(parameter) for head in visual.heads() for parameter in head}
    for module in visual.modules():
        if isinstance(module, nn.LayerNorm):
            kept |= {id(parameter) for parameter in module.parameters()}
    for parameter in visual.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.half()
    return visual


def _scores(a: Tensor, b: Tensor) -> Tensor:
    scores: Tensor = (a * a.shape[-1] ** -0.5) @ b.transpose(-1, -2)
    return scores

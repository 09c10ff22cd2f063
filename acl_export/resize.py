"""Pillow's antialiased bicubic resize as matrix products, bit for bit, so that it can be part of a graph.

Pillow resizes in two passes, one axis each, in integers: pixels times weights of 22 fractional bits, added up, rounded
to whole grey levels and clipped (its `Resample.c`). float32 holds integers up to 2^24 exactly. Here every weight is the
sum of a coarse and a fine integer, small enough that neither sum of products gets there; so the products are exact in
whatever order an engine adds them up, as long as it computes in true float32 (TF32 and bf16 would round).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acl_runtime.files.errors import InputError
from acl_runtime.images.preprocess import pass_order

WEIGHT_BITS, FINE_BITS = 22, 9  # of a weight; of its fine part
LARGEST_EXACT = 1 << 24
CHUNK = 64  # outputs per product: each reads only the pixels that these need, not the whole axis
RADIUS, SHARPNESS = 2.0, -0.5  # of the kernel at no reduction; Keys' parameter


class PillowResize(nn.Module):
    """(B, H, W, 3) uint8 to (B, S, S, 3) float32 in whole grey levels, the channels in reversed order."""

    turned: Tensor  # (3,) int64

    def __init__(self, height: int, width: int, image_size: int) -> None:
        """Make the weights; ValueError if the frame is so large that a sum would not be exact."""
        super().__init__()
        axes = pass_order(height, width, image_size)
        lengths = (height, width)
        self.passes = nn.ModuleList(
            _Pass(lengths[axis], image_size, axis) for axis in axes if lengths[axis] != image_size
        )
        self.register_buffer("turned", torch.tensor([2, 1, 0]))

    def forward(self, frames: Tensor) -> Tensor:
        """BGR frames to RGB images, or the other way round."""
        planes = frames.float().permute(0, 3, 1, 2).index_select(1, self.turned)  # (B, 3, H, W)
        for each in self.passes:
            planes = each(planes)
        return planes.permute(0, 2, 3, 1)


class _Pass(nn.Module):
    """Resize one axis, chunk by chunk, and round to grey levels."""

    def __init__(self, length: int, size: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.spans: list[slice] = []
        weights = pillow_weights(length, size)
        for start in range(0, size, CHUNK):
            rows = weights[start : start + CHUNK]
            used = np.flatnonzero(rows.any(axis=0))
            span = slice(int(used[0]), int(used[-1]) + 1)
            fine_and_coarse = np.concatenate(_split(rows[:, span])).astype(np.float32)  # (2 · chunk, pixels)
            self.register_buffer(f"weights_{len(self.spans)}", torch.from_numpy(fine_and_coarse))
            self.spans.append(span)

    def forward(self, planes: Tensor) -> Tensor:
        """(B, 3, H, W) grey levels, one of the axes resized."""
        parts = []
        for number, span in enumerate(self.spans):
            weights = self.get_buffer(f"weights_{number}")
            sums = weights @ planes[:, :, span] if self.axis == 0 else planes[..., span] @ weights.T
            fine, coarse = sums.chunk(2, dim=self.axis + 2)
            parts.append(_to_levels(fine, coarse))
        return torch.cat(parts, dim=self.axis + 2)


def pillow_weights(length: int, size: int) -> npt.NDArray[np.int64]:
    """(size, length) weights of 22 fractional bits from `length` pixels to `size`, as Pillow rounds them."""
    scale = length / size
    support = RADIUS * max(scale, 1)
    weights = np.zeros((size, length), np.int64)
    for row in range(size):
        center = (row + 0.5) * scale
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)
        kernel = [_bicubic((pixel - center + 0.5) / max(scale, 1)) for pixel in range(first, last)]
        total = sum(kernel)
        for pixel, value in zip(range(first, last), kernel, strict=True):
            scaled = value / total * (1 << WEIGHT_BITS)
            weights[row, pixel] = int(scaled + math.copysign(0.5, scaled))
    return weights


def _bicubic(x: float) -> float:
    """Keys' kernel (Cubic convolution interpolation, 1981)."""
    x = abs(x)
    if x < 1:
        return ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1
    if x < RADIUS:
        return (((x - 5) * x + 8) * x - 4) * SHARPNESS
    return 0.0


def _split(weights: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fine and coarse parts: fine + coarse · 2^9 is the weight."""
    coarse = (weights + (1 << FINE_BITS - 1)) >> FINE_BITS
    fine = weights - (coarse << FINE_BITS)
    for part in (fine, coarse):
        if 255 * np.abs(part).sum(axis=1).max() >= LARGEST_EXACT // 2:  # and room to carry and to round
            raise InputError(
                f"a frame of {weights.shape[1]} pixels is too large to be resized in a graph; leave --frame-size out"
            )
    return fine, coarse


def _to_levels(fine: Tensor, coarse: Tensor) -> Tensor:
    """floor((fine + coarse · 2^9 + half) / 2^22), clipped to grey levels, with no number past 2^24 on the way."""
    half = float(1 << WEIGHT_BITS - FINE_BITS - 1)
    carried = torch.floor(fine * 2.0**-FINE_BITS)
    return torch.floor((coarse + carried + half) * 2.0 ** (FINE_BITS - WEIGHT_BITS)).clamp(0, 255)

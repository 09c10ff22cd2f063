"""Other ways to what stands for a patch: a learned projection per layer, as in VAND, and windows, as in WinCLIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerProjections(nn.Module):
    """A linear layer per recorded layer, from tokens to unit vectors of the joint space (arXiv 2305.17382)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Use (L, W, D) weights and (L, D) biases, float32."""
        super().__init__()
        self.weight, self.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (weight, bias))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, G·G, W) to (B, L, G·G, D)."""
        return project_layers(tokens, self.weight, self.bias)


def project_layers(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The formula of `LayerProjections`, in the precision of `weight`."""
    return F.normalize(tokens.to(weight.dtype) @ weight + bias.unsqueeze(1), dim=-1)


def window_tokens(grid: int, side: int) -> Tensor:
    """Rows of the tokens that each window sees: the class token and side×side patches, (M, 1 + side²) int64."""
    patches = 1 + torch.arange(grid**2, device="cpu").reshape(grid, grid)  # not on meta
    windows = patches.unfold(0, side, 1).unfold(1, side, 1).flatten(2).flatten(0, 1)  # (M, side²)
    return F.pad(windows, (1, 0))

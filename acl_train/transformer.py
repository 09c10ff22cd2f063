"""The blocks of CLIP's towers, whose attention can be read off on a second path."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALL = slice(None)  # rows of the tokens


class QuickGELU(nn.Module):
    """OpenAI's approximation of GELU; weights trained with one do not work with the other."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class MultiHeadAttention(nn.Module):
    """Attention whose projections can be combined freely: softmax(a bᵀ / √d) v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix: Callable[..., Tensor] = F.scaled_dot_product_attention  # the formula, (a, b, v)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of (B, N, W) tokens, each (B, heads, N, W / heads)."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3W)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def attend(self, a: Tensor, b: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
        """Attention of `a` over `b` applied to `v`, merged and projected to (B, N, W)."""
        return self.merge(self.mix(a, b, v, is_causal=causal))

    def merge(self, heads: Tensor) -> Tensor:
        """(B, heads, N, W / heads) to (B, N, W), projected."""
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, *, quick_gelu: bool, hidden: int | None = None) -> None:
        """Take `hidden` units between the MLP's layers; None for four times the width."""
        super().__init__()
        hidden = hidden or 4 * width
        self.ln_1 = nn.LayerNorm(width)
        self.attn = MultiHeadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden),
                gelu=QuickGELU() if quick_gelu else nn.GELU(),
                c_proj=nn.Linear(hidden, width),
            )
        )

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """(B, N, W) tokens after attention and MLP."""
        q, k, v = self.attn.project(self.ln_1(x))
        x = x + self.attn.attend(q, k, v, causal=causal)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]

    def forward_dual(
        self, x: Tensor, second: Tensor, attentions: Sequence[str], rows: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """The ordinary path `x`, untouched, and the second path: attention read off `x`, no MLP.

        The results of several `attentions` are averaged. Only `rows` of the ordinary path are computed; they attend
        to all.
        """
        q, k, v = self.attn.project(self.ln_1(x))
        pairs = {"vv": (v, v), "qq": (q, q), "kk": (k, k), "qk": (q, k)}
        mixed = [self.attn.mix(*pairs[name], v) for name in attentions]
        heads = mixed[0] if len(mixed) == 1 else torch.stack(mixed).mean(dim=0)
        second = second + self.attn.merge(heads)
        x = x[:, rows] + self.attn.attend(q[:, :, rows], k, v)
        return x + self.mlp(self.ln_2(x)), second


class Transformer(nn.Module):
    """A stack of blocks; the towers walk it themselves, block by block."""

    def __init__(
        self, width: int, layers: int, heads: int, *, quick_gelu: bool, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, quick_gelu=quick_gelu, hidden=hidden) for _ in range(layers)
        )

    def __iter__(self) -> Iterator[ResidualAttentionBlock]:
        return iter(self.resblocks)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.resblocks)

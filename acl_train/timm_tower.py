"""A vision tower without text, made of timm's blocks and read out as CLIP's is.

timm's own modules hold the weights (layer scale, registers, SwiGLU, pooling), so that a new model of theirs works
without a line here. Attention alone is ours, the same module as CLIP's: how its products are written decides whether an
engine computes them right, and the arithmetics of `acl_export/mixed.py` change nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acl_runtime.files.errors import InputError
from acl_train.clip import Architecture, normalize_images
from acl_train.config import VisionConfig
from acl_train.timm_models import final_norm
from acl_train.transformer import MultiHeadAttention


class RotaryAttention(MultiHeadAttention):
    """timm's attention with the weights where CLIP's has them, and the tokens' places turned into queries and keys."""

    sin: Tensor  # (N, W / heads), of each token; the class token and registers are not turned
    cos: Tensor

    def __init__(self, attention: Any, places: tuple[Tensor, Tensor] | None) -> None:
        """Take the weights of timm's module; `places` are the sines and cosines, None for none."""
        with torch.device("meta"):  # nothing is drawn
            super().__init__(attention.proj.out_features, attention.num_heads)
        self.in_proj_weight = attention.qkv.weight
        bias = attention.qkv.bias
        if bias is None and getattr(attention, "q_bias", None) is not None:
            parts = attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias
            bias = torch.cat(parts).detach()
        self.in_proj_bias = nn.Parameter(torch.zeros(len(self.in_proj_weight)) if bias is None else bias)
        self.out_proj = attention.proj
        self.turns, self.halves = places is not None, bool(getattr(attention, "rotate_half", False))
        sin, cos = places or (torch.zeros(0), torch.zeros(0))
        self.register_buffer("sin", sin)
        self.register_buffer("cos", cos)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned, and values of (B, N, W) tokens, each (B, heads, N, W / heads)."""
        q, k, v = super().project(x)
        return (self.turn(q), self.turn(k), v) if self.turns else (q, k, v)

    def turn(self, x: Tensor) -> Tensor:
        """Rotate pairs of (B, heads, N, W / heads) by their token's place, in the precision of the sines."""
        if self.halves:
            left, right = x.chunk(2, dim=-1)
            turned = torch.cat([-right, left], dim=-1)
        else:
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return (x * self.cos + turned * self.sin).to(x.dtype)

    def forward(self, x: Tensor, **ignored: Any) -> Tensor:
        """(B, N, W) tokens to the same, as timm's blocks call it; they name a mask and places, which are none here."""
        return self.attend(*self.project(x))


class TimmTower(nn.Module):
    """timm's ViT with the read-out of `acl_train.clip.VisionTower`, all in the tower's own space (D is W)."""

    windows: tuple[Tensor, ...] = ()

    def __init__(self, trunk: Any, architecture: Architecture, config: VisionConfig) -> None:
        """Take timm's module apart, which must have its values and the image size of `config`."""
        super().__init__()
        config.check(architecture.vision_layers)
        if config.windows or config.vv_from <= architecture.vision_layers or config.learned_projection:
            raise InputError(
                "windows, a second path and a learned projection are CLIP's; a backbone without text has none of them"
            )
        self.config, self.mean, self.std = config, architecture.mean, architecture.std
        self.grid = config.image_size // architecture.patch_size
        if config.class_layers and trunk.cls_token is None:
            raise InputError("the backbone has no class token; choose --head-vectors decoupled")
        self.prefixes = trunk.num_prefix_tokens
        self.conv1 = trunk.patch_embed.proj
        prefix, places = _positions(trunk)
        self.prefix = nn.Parameter(prefix)
        self.places = nn.Parameter(places)
        self.ln_pre = trunk.norm_pre
        self.transformer = trunk.blocks
        rotation = _rotation(trunk, self.grid)
        for block in self.transformer:
            block.add_module("attn", RotaryAttention(block.attn, rotation))
        self.ln_post = final_norm(trunk)
        self.pools_first = isinstance(trunk.norm, nn.Identity)  # and the norm comes after
        self.pool = trunk.attn_pool
        self.pool_from = 0 if getattr(trunk, "pool_include_prefix", True) else self.prefixes
        if self.pool is not None:
            self.pool.fused_attn = False  # products written out, the scale on the query alone
        # where timm pools DINOv3's patches, its authors take the class token
        self.takes_class = trunk.cls_token is not None and not self.pools_first and self.pool is None
        self.patch_projection: nn.Module = nn.Identity()

    def normalize(self, images: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 RGB to what `forward` takes."""
        return normalize_images(images, self.mean, self.std)

    def forward(self, images: Tensor, *, in_full: bool = False) -> tuple[Tensor, Tensor]:
        """Embed images.

        Args:
            images: (B, 3, S, S) float32, see `normalize`.
            in_full: Nothing more to compute here.

        Returns:
            `image_embeddings` (B, D), or (B, L, D) with a class token of each layer, and `patch_embeddings`
            (B, L, G·G, D), unit norm, after the tower's last norm.
        """
        tokens, recorded, classes = self.embed(images), [], []
        for number, block in enumerate(self.transformer, start=1):
            tokens = block(tokens)
            if number in self.config.layers:
                recorded.append(self.embeddings(tokens[:, self.prefixes :]))
                classes.append(tokens[:, 0])
        if self.config.class_layers:
            images_seen = self.embeddings(torch.stack(classes, dim=1))
        else:
            images_seen = F.normalize(self.pooled(tokens), dim=-1)
        return images_seen, torch.stack(recorded, dim=1)

    def heads(self) -> tuple[Iterable[nn.Parameter], ...]:
        """What comes after the last norm, which stays in fp32 in every arithmetic."""
        return (() if self.pool is None else self.pool.parameters(),)

    def embed(self, images: Tensor) -> Tensor:
        """The tokens that enter the first block, (B, P + G·G, W)."""
        patches = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, G·G, W)
        tokens = patches + self.places
        if self.prefixes:
            tokens = torch.cat([self.prefix.expand(patches.shape[0], -1, -1), tokens], dim=1)
        return self.ln_pre(tokens)  # type: ignore[no-any-return]

    def embeddings(self, tokens: Tensor) -> Tensor:
        """(..., W) tokens to unit vectors."""
        return F.normalize(self.ln_post(tokens), dim=-1)

    def pooled(self, tokens: Tensor) -> Tensor:
        """(B, P + G·G, W) tokens after the last block to (B, W): the class token, or as timm's own head pools."""
        if self.takes_class:
            return self.ln_post(tokens[:, 0])  # type: ignore[no-any-return]
        if self.pools_first:
            return self.ln_post(tokens[:, self.prefixes :].mean(dim=1))  # type: ignore[no-any-return]
        normed = self.ln_post(tokens)
        if self.pool is not None:
            return self.pool(normed[:, self.pool_from :])  # type: ignore[no-any-return]
        return normed[:, self.prefixes :].mean(dim=1)  # type: ignore[no-any-return]


class TextlessNetwork(nn.Module):
    """A vision tower alone, where `acl_train.clip.CLIP` has two."""

    def __init__(self, architecture: Architecture, visual: TimmTower) -> None:
        super().__init__()
        self.architecture, self.visual = architecture, visual

    @property
    def device(self) -> torch.device:
        """Where the tower computes."""
        return self.visual.prefix.device


def read_timm_architecture(trunk: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Architecture:
    """The tower's sizes; of the text tower there is nothing."""
    block = trunk.blocks[0]
    return Architecture(
        embed_dim=trunk.embed_dim,
        vision_width=trunk.embed_dim,
        vision_layers=len(trunk.blocks),
        vision_heads=block.attn.num_heads,
        patch_size=trunk.patch_embed.patch_size[0],
        vision_grid=trunk.patch_embed.grid_size[0],
        context_length=0,
        vocab_size=0,
        text_width=0,
        text_layers=0,
        text_heads=0,
        quick_gelu=False,
        vision_hidden=(block.mlp.fc1 if hasattr(block.mlp, "fc1") else block.mlp.fc1_g).weight.shape[0],
        mean=mean,
        std=std,
    )


def _positions(trunk: Any) -> tuple[Tensor, Tensor]:
    """What class token and registers are with their places, (P, W), and the places of patches, (G·G, W)."""
    with torch.no_grad():
        tokens = [token[0] for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        prefix = torch.cat(tokens) if tokens else torch.zeros(0, trunk.embed_dim)
        if trunk.pos_embed is None:
            return prefix, torch.zeros(1, trunk.embed_dim)
        places = trunk.pos_embed[0]
        if trunk.no_embed_class:
            return prefix, places.clone()
        return prefix + places[: len(prefix)], places[len(prefix) :].clone()


def _rotation(trunk: Any, grid: int) -> tuple[Tensor, Tensor] | None:
    """Sines and cosines of every token, (P + G·G, W / heads); None where places are added."""
    if getattr(trunk, "rope", None) is None:
        return None
    sin, cos = trunk.rope.get_embed(shape=(grid, grid)).detach().chunk(2, dim=-1)
    still = torch.zeros(trunk.num_prefix_tokens, sin.shape[-1])
    return torch.cat([still, sin]), torch.cat([still + 1, cos])

"""The small CLIP's sizes, starting values and optimisers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from acl_train.clip import CLIP, Architecture
from acl_train.config import VisionConfig, default_vv_from
from acl_train.transformer import ResidualAttentionBlock

DEPTH = 8
PATCH = 8
LAYERS = (2, 4, 6, 8)


def build_clip(image_size: int) -> CLIP:
    """The network with unset weights, for S×S pictures."""
    grid = image_size // PATCH
    architecture = Architecture(
        embed_dim=128,
        vision_width=128,
        vision_layers=DEPTH,
        vision_heads=2,
        patch_size=PATCH,
        vision_grid=grid,
        context_length=77,
        vocab_size=49408,
        text_width=128,
        text_layers=10,  # nine hold AnomalyCLIP's eight rows of deep tokens
        text_heads=2,
        quick_gelu=True,
    )
    return CLIP(architecture, VisionConfig(image_size, LAYERS, default_vv_from(DEPTH)))


@torch.no_grad()
def initialise(model: CLIP) -> None:
    """CLIP's starting values; patches start as a cosine transform and positions as waves."""
    for tower in (model.transformer, model.visual.transformer):
        for block in tower.resblocks:
            initialise_block(block, len(tower.resblocks))  # type: ignore[arg-type]
    visual, width = model.visual, model.visual.proj.shape[0]
    visual.conv1.weight.copy_(cosine_patches(width, PATCH))
    visual.class_embedding.normal_(0, width**-0.5)
    visual.positional_embedding.copy_(wave_positions(visual.grid, width))
    visual.proj.normal_(0, width**-0.5)
    model.token_embedding.weight.normal_(0, 0.02)
    model.positional_embedding.normal_(0, 0.01)
    model.text_projection.normal_(0, width**-0.5)
    model.logit_scale.fill_(math.log(1 / 0.07))


def initialise_block(block: ResidualAttentionBlock, depth: int) -> None:
    """OpenAI's starting values for a block in a tower of `depth`."""
    width = block.ln_1.weight.shape[0]
    residual = width**-0.5 * (2 * depth) ** -0.5
    block.attn.in_proj_weight.normal_(0, width**-0.5)
    block.attn.out_proj.weight.normal_(0, residual)
    for name, spread in (
        ("attn.out_proj", residual),
        ("mlp.c_fc", (2 * width) ** -0.5),
        ("mlp.c_proj", residual),
    ):
        nn.init.normal_(block.get_parameter(f"{name}.weight"), std=spread)
        nn.init.zeros_(block.get_parameter(f"{name}.bias"))


def cosine_patches(width: int, patch: int) -> Tensor:
    """(W, 3, P, P) filters: the lowest frequencies of brightness, half as many of each colour contrast."""
    steps = torch.arange(patch) + 0.5
    basis = torch.stack([torch.cos(math.pi * k * steps / patch) for k in range(patch)])
    basis = basis / basis.norm(dim=1, keepdim=True)
    pairs = sorted(((u, v) for u in range(patch) for v in range(patch)), key=lambda uv: (sum(uv), uv))
    colours = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    filters = []
    for colour, count in zip(colours, (width // 2, width // 4, width // 4), strict=True):
        for u, v in pairs[:count]:
            gain = 1 / patch if u + v == 0 else 0.175 * math.sqrt(1 + u + v) / math.sqrt(patch)
            filters.append(gain * colour[:, None, None] * torch.outer(basis[u], basis[v]))
    return torch.stack(filters)


def wave_positions(grid: int, width: int) -> Tensor:
    """(1 + G·G, W) waves of both coordinates, mixed by a random rotation; zero for the class token."""
    octaves = 1.5 * 100 ** -(torch.arange(width // 4) / (width // 4))
    phase = torch.arange(grid)[:, None] * octaves  # (G, W/4)
    axis = torch.cat([phase.sin(), phase.cos()], dim=1)  # (G, W/2)
    rows, columns = axis[:, None].expand(-1, grid, -1), axis[None].expand(grid, -1, -1)
    patches = torch.cat([rows, columns], dim=2).flatten(0, 1)  # (G·G, W)
    rotation = torch.linalg.qr(torch.randn(width, width)).Q
    return torch.cat([torch.zeros(1, width), 0.25 * patches @ rotation])


def optimisers(parameters: list[tuple[str, nn.Parameter]], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    matrices = [p for name, p in parameters if "resblocks" in name and p.ndim == 2]
    others = [p for name, p in parameters if not ("resblocks" in name and p.ndim == 2)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]

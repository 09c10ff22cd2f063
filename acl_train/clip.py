"""CLIP's two towers, with a second attention path for patches and learnable tokens for text.

Parameter names are those of OpenAI's checkpoints, so `load_state_dict(strict=True)` is the whole loader and
proves that nothing is missing. Behaviour is that of the published AnomalyCLIP code (arXiv 2310.18961).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acl_runtime.files.errors import InputError
from acl_train.config import MEAN, STD, VisionConfig
from acl_train.patches import window_tokens
from acl_train.transformer import ALL, Transformer

CLASS_TOKEN = slice(1)  # rows of the tokens


@dataclass(frozen=True)
class Architecture:
    """Sizes of the two towers, as read off a checkpoint, and what no shape tells: heads and activation."""

    embed_dim: int  # D
    vision_width: int
    vision_layers: int
    vision_heads: int
    patch_size: int
    vision_grid: int  # side of the position embedding's grid in the checkpoint
    context_length: int
    vocab_size: int
    text_width: int
    text_layers: int
    text_heads: int
    quick_gelu: bool  # x·sigmoid(1.702x), OpenAI's weights; otherwise the exact GELU
    vision_hidden: int | None = None  # units between the MLP's layers; None: four times the width
    text_hidden: int | None = None
    mean: tuple[float, ...] = MEAN  # of the images that the weights were trained on, RGB in [0, 1]
    std: tuple[float, ...] = STD


def normalize_images(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """(B, S, S, 3) uint8 RGB to (B, 3, S, S) float32; CLIP's own normalisation unless another is given."""
    center, scale = (torch.tensor(tuple(values), device=images.device) for values in (mean, std))
    return ((images.float() / 255 - center) / scale).permute(0, 3, 1, 2)


class VisionTower(nn.Module):
    """CLIP's ViT with the diagonally prominent attention path beside the ordinary one."""

    def __init__(self, architecture: Architecture, config: VisionConfig) -> None:
        super().__init__()
        config.check(architecture.vision_layers)
        self.config = config
        self.grid = config.image_size // architecture.patch_size  # conv1 drops the remainder
        if self.grid < 1:
            raise InputError(
                f"image size must be at least one patch ({architecture.patch_size}), got {config.image_size}"
            )
        if any(side > self.grid for side in config.windows):
            raise InputError(f"windows must lie in 1..{self.grid} (the grid), got {list(config.windows)}")
        width = architecture.vision_width
        self.conv1 = nn.Conv2d(3, width, architecture.patch_size, architecture.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + self.grid**2, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width,
            architecture.vision_layers,
            architecture.vision_heads,
            quick_gelu=architecture.quick_gelu,
            hidden=architecture.vision_hidden,
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, architecture.embed_dim))
        self.patch_projection: nn.Module = nn.Identity()  # of `learned_projection`, once it is learned
        self.windows = [window_tokens(self.grid, side) for side in config.windows]

    def normalize(self, images: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 RGB to what `forward` takes."""
        return normalize_images(images)

    def forward(self, images: Tensor, *, in_full: bool = False) -> tuple[Tensor, Tensor]:
        """Embed images.

        Args:
            images: (B, 3, S, S) float32, normalised with CLIP's mean and standard deviation.
            in_full: Whether to compute what nobody reads too, as the published code does: all tokens of the last
                block's ordinary path, of which the class token alone is used.

        Returns:
            `image_embeddings` (B, D), or (B, L, D) with a class token of each layer, and `patch_embeddings`
            (B, L, G·G, D), unit norm. With windows (B, 1, M, D), all windows of one side before those of the next, row
            by row. Where the projection is still to be learned, tokens (B, L, G·G, W).
        """
        tokens = self.embed(images)
        ordinary, second = zip(*self.paths(tokens, last_rows=ALL if in_full else CLASS_TOKEN), strict=True)
        if self.config.class_layers:
            classes = [ordinary[number - 1][:, 0] for number in self.config.layers]
            image_embeddings = self.project_class(torch.stack(classes, dim=1))  # (B, L, D)
        else:
            image_embeddings = self.project_class(ordinary[-1][:, 0])
        if self.windows:
            return image_embeddings, self.embed_windows(tokens)
        recorded = [second[number - 1][:, 1:] for number in self.config.layers]  # without the class token
        return image_embeddings, self.project_patches(torch.stack(recorded, dim=1))

    def heads(self) -> tuple[Iterable[nn.Parameter], ...]:
        """What comes after the last norm, which stays in fp32 in every arithmetic."""
        return (self.proj,), self.patch_projection.parameters()

    def project_class(self, tokens: Tensor) -> Tensor:
        """(..., W) class tokens to (..., D); without `ln_post` in the published AnomalyCLIP, see issue 14 there."""
        return self.project(self.ln_post(tokens) if self.config.class_norm else tokens)

    def project_patches(self, tokens: Tensor) -> Tensor:
        """(B, L, G·G, W) patch tokens to (B, L, G·G, D)."""
        if self.config.learned_projection:
            return self.patch_projection(tokens)  # type: ignore[no-any-return]
        return self.project(self.ln_post(tokens))

    def embed_windows(self, tokens: Tensor) -> Tensor:
        """The class token after a pass over each window alone: (B, 1 + G·G, W) tokens to (B, 1, M, D)."""
        embedded = []
        for rows in self.windows:
            seen = tokens[:, rows].flatten(0, 1)  # (B·M, 1 + side², W)
            for block in self.transformer:
                seen = block(seen)
            embedded.append(self.project_class(seen[:, 0]).unflatten(0, (-1, len(rows))))  # (B, M, D)
        return torch.cat(embedded, dim=1).unsqueeze(1)

    def project(self, tokens: Tensor) -> Tensor:
        """(..., W) tokens to (..., D) unit vectors of CLIP's joint space, in the precision of `proj`."""
        return F.normalize(tokens.to(self.proj.dtype) @ self.proj, dim=-1)

    def paths(self, tokens: Tensor, *, last_rows: slice = ALL) -> Iterator[tuple[Tensor, Tensor]]:
        """After each block: the ordinary path and the second path, both (B, 1 + G·G, W), class token first.

        `tokens` are those of `embed`. Until block `vv_from` the two are the same. Where they are not, the ordinary one
        has only `last_rows` after the last block.
        """
        ordinary = second = tokens
        last = len(self.transformer)
        for number, block in enumerate(self.transformer, start=1):
            if number < self.config.vv_from:
                ordinary = second = block(ordinary)
            else:
                rows = last_rows if number == last else ALL
                ordinary, second = block.forward_dual(ordinary, second, self.config.attentions, rows)
            yield ordinary, second

    def embed(self, images: Tensor) -> Tensor:
        """The tokens that enter the first block, (B, 1 + G·G, W)."""
        patches = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, G·G, W)
        class_token = self.class_embedding.expand(patches.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + self.positional_embedding
        return self.ln_pre(tokens)  # type: ignore[no-any-return]


class CLIP(nn.Module):
    """The two towers; the text tower's parameters lie at the root, as in OpenAI's checkpoints."""

    def __init__(self, architecture: Architecture, config: VisionConfig) -> None:
        super().__init__()
        width = architecture.text_width
        self.architecture = architecture
        self.visual = VisionTower(architecture, config)
        self.transformer = Transformer(
            width,
            architecture.text_layers,
            architecture.text_heads,
            quick_gelu=architecture.quick_gelu,
            hidden=architecture.text_hidden,
        )
        vocabulary = torch.empty(
            architecture.vocab_size, width
        )  # drawn by nobody: on the meta device that takes seconds
        self.token_embedding = nn.Embedding.from_pretrained(vocabulary, freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(architecture.context_length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, architecture.embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))

    @property
    def device(self) -> torch.device:
        """Where the towers compute."""
        return self.text_projection.device

    def encode_text(self, prompts: Tensor, ends: Tensor, deep_ctx: Tensor | None = None) -> Tensor:
        """Embed prompts given as token embeddings.

        The tower is causal, so `prompts` may be cut after the last end-of-text token.

        Args:
            prompts: (N, T, W) float32, token embeddings without position, T at most the context length.
            ends: (N,) int64, position of the end-of-text token.
            deep_ctx: (K, N, M, W) float32: before block k + 2 the tokens 1..M are replaced by `deep_ctx[k]`.

        Returns:
            `text_embeddings` (N, D) float32, unit norm.
        """
        *_, last = self.text_hidden(prompts, deep_ctx)
        rows = self.ln_final(last)[torch.arange(len(ends)), ends]  # (N, W)
        return F.normalize(rows @ self.text_projection, dim=-1)

    def text_hidden(self, prompts: Tensor, deep_ctx: Tensor | None = None) -> Iterator[Tensor]:
        """The text tower's tokens after each block, (N, T, W); arguments as in `encode_text`."""
        x = prompts + self.positional_embedding[: prompts.shape[1]]
        for index, block in enumerate(self.transformer):
            if deep_ctx is not None and 1 <= index <= len(deep_ctx):
                deep = deep_ctx[index - 1]  # (N, M, W)
                x = torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)
            x = block(x, causal=True)
            yield x

"""The learned prompts: two texts whose words are vectors, and the file that carries them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from acl_runtime.files import atomic_file
from acl_train.clip import CLIP
from acl_train.config import Attention, VisionConfig
from acl_train.weights import Weights

METADATA = "anomalyclip_prompts"  # one entry: safetensors shuffles several, and the file's bytes would differ
FORMAT_VERSION = 1
TEMPLATES = ("object.", "damaged object.")  # after the learned context; rows NORMAL, ANOMALOUS


@dataclass(frozen=True)
class PromptsConfig:
    """What the prompts were learned for; it follows them into every bundle.

    Attributes:
        backbone: Name of the CLIP they belong to.
        weights: The open_clip tag or the file's name.
        weights_sha256: Of the weights' float32 values; prompts fit no other weights.
        quick_gelu: The activation that the weights were run with.
        vision: How the vision tower was read out.
        recipe: `paper` or `released`, or `published checkpoint`.
        learning: Facts for the reader: epochs, seed, data, images.
    """

    backbone: str
    weights: str
    weights_sha256: str
    quick_gelu: bool
    vision: VisionConfig
    recipe: str
    learning: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One JSON object: `format_version` and the fields."""
        vision = vars(self.vision) | {"attention": self.vision.attention.value}
        fields = vars(self) | {"vision": vision, "learning": dict(self.learning)}
        return json.dumps({"format_version": FORMAT_VERSION} | fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> PromptsConfig:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError on anything else."""
        fields = json.loads(text)
        if (found := fields.pop("format_version")) > FORMAT_VERSION:
            raise ValueError(f"format version {found} is newer than {FORMAT_VERSION}; update the software")
        vision = fields.pop("vision")
        layers, attention = tuple(vision.pop("layers")), Attention(vision.pop("attention"))
        return PromptsConfig(
            vision=VisionConfig(layers=layers, attention=attention, **vision),
            **fields,
        )


def make_prompts_config(
    weights: Weights, vision: VisionConfig, recipe: str, learning: Mapping[str, Any]
) -> PromptsConfig:
    """The configuration of prompts for these weights, read out this way."""
    return PromptsConfig(
        backbone=weights.backbone,
        weights=weights.source,
        weights_sha256=weights.sha256,
        quick_gelu=weights.architecture.quick_gelu,
        vision=vision,
        recipe=recipe,
        learning=learning,
    )


@dataclass(frozen=True)
class Prompts:
    """Learned vectors and their configuration.

    Attributes:
        ctx: (2, N, W) float32, the words before the template; rows NORMAL, ANOMALOUS.
        deep_ctx: (K, M, W) float32; before block k + 2 of the text tower tokens 1..M become `deep_ctx[k]`.
        config: What they were learned for.
    """

    ctx: Tensor
    deep_ctx: Tensor
    config: PromptsConfig


def save_prompts(path: Path, prompts: Prompts, extra: Mapping[str, Tensor] | None = None) -> None:
    """Write a `.safetensors` file, atomically.

    The file holds `ctx` and `deep_ctx`; its metadata has one entry, `anomalyclip_prompts`, a JSON object with
    `format_version` and the fields of `PromptsConfig`. A checkpoint of the learning also holds the optimiser's
    tensors (`extra`), which readers of prompts ignore.
    """
    metadata = {METADATA: prompts.config.to_json()}
    tensors = {"ctx": prompts.ctx, "deep_ctx": prompts.deep_ctx, **(extra or {})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))  # save_file would not raise an OSError for a full disk


def load_prompts(path: Path) -> Prompts:
    """Read prompts; anything but a prompts file of this format is refused with ValueError."""
    tensors, config = load_prompts_tensors(path)
    return Prompts(tensors["ctx"], tensors["deep_ctx"], config)


def load_prompts_tensors(path: Path) -> tuple[dict[str, Tensor], PromptsConfig]:
    """All tensors of a prompts file, the optimiser's included, and the configuration."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prompts file; make one with acl train or acl convert")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a prompts file ({error}); a .pth of the published code goes through acl convert"
        ) from error
    if METADATA not in metadata or not {"ctx", "deep_ctx"} <= tensors.keys():
        raise ValueError(f"{path}: not a prompts file; make one with acl train or acl convert")
    try:
        return tensors, PromptsConfig.from_json(metadata[METADATA])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its metadata cannot be read ({error}); learn or convert it again"
        ) from error


def text_embeddings(clip: CLIP, ctx: Tensor, deep_ctx: Tensor) -> Tensor:
    """Embed the two prompts `[ctx] object.` and `[ctx] damaged object.`.

    Args:
        clip: The frozen network.
        ctx: (2, N, W) float32.
        deep_ctx: (K, M, W) float32, shared by both prompts. Rounded to fp16 here, and so is the gradient of
            each prompt on its way back, because the published code casts it so.

    Returns:
        (2, D) float32, unit norm; rows NORMAL, ANOMALOUS.
    """
    prompts, ends = assemble(clip, ctx)
    deep = deep_ctx.unsqueeze(1).expand(-1, len(ctx), -1, -1).half().float()  # (K, 2, M, W)
    return clip.encode_text(prompts, ends, deep)


def assemble(clip: CLIP, ctx: Tensor) -> tuple[Tensor, Tensor]:
    """Put learned context into the templates.

    Returns:
        (2, T, W) token embeddings, cut after the longer prompt's end (the tower is causal), and (2,) int64
        positions of the end-of-text tokens.
    """
    placeholders = " ".join("X" * ctx.shape[1])
    tokens = tokenize(clip, [f"{placeholders} {template}" for template in TEMPLATES])
    ends = tokens.argmax(dim=1)  # end-of-text has the highest id
    tokens = tokens[:, : int(ends.max()) + 1]
    embedded = clip.token_embedding(tokens.to(ctx.device))  # (2, T, W)
    words = 1 + ctx.shape[1]
    return torch.cat([embedded[:, :1], ctx, embedded[:, words:]], dim=1), ends.to(ctx.device)


def embed_texts(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """Embed hand-written texts: (N, D) float32, unit norm."""
    tokens = tokenize(clip, texts).to(clip.text_projection.device)
    return clip.encode_text(clip.token_embedding(tokens), tokens.argmax(dim=1))


def tokenize(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """CLIP's byte-pair tokens, (N, context length) int64, zero-padded."""
    return _tokenizer(clip.architecture.context_length)(list(texts))


@lru_cache
def _tokenizer(context_length: int) -> Callable[[list[str]], Tensor]:
    """Reads its vocabulary in 80 ms, which every learning step would otherwise pay."""
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import

    return SimpleTokenizer(context_length=context_length)  # type: ignore[no-any-return]

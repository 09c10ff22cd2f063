"""What a method learned, prompts in most cases: two texts whose words are vectors. And the file that carries it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from acl_runtime.files.atomic import atomic_file, sha256
from acl_train.config import LearnConfig, VisionConfig
from acl_train.methods import METHODS
from acl_train.weights import Weights

METADATA = "anomalyclip_prompts"  # one entry: safetensors shuffles several, and the file's bytes would differ
FORMAT_VERSION = 2
NEEDED: tuple[set[str], ...] = (
    {"ctx", "deep_ctx"},
    {"weight", "bias"},
    {"vectors"},
    set(),
)  # of a learner each; of none that learns


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
        method: Name in `METHODS`.
        words: What follows the learned context, NORMAL and ANOMALOUS; {} is the product's name, or "object".
    """

    backbone: str
    weights: str
    weights_sha256: str
    quick_gelu: bool
    vision: VisionConfig
    recipe: str
    learning: Mapping[str, Any] = field(default_factory=dict)
    method: str = LearnConfig.method
    words: tuple[str, str] = LearnConfig.words

    @property
    def needs_category(self) -> bool:
        """Whether the prompts mean nothing without the product's name."""
        return METHODS[self.method].names_category

    def to_json(self) -> str:
        """One JSON object: `format_version` and the fields."""
        fields = vars(self) | {"vision": vars(self.vision), "learning": dict(self.learning)}
        return json.dumps({"format_version": FORMAT_VERSION} | fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> PromptsConfig:
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError on anything else.

        Version 1 lacked `method`, `words` and in `vision` `class_norm`, `learned_projection` and `windows`.
        """
        fields = json.loads(text)
        if (found := fields.pop("format_version")) > FORMAT_VERSION:
            raise ValueError(f"format version {found} is newer than {FORMAT_VERSION}; update the software")
        vision = {name: _tuple(value) for name, value in fields.pop("vision").items()}
        fields = {name: _tuple(value) for name, value in fields.items()}
        config = PromptsConfig(vision=VisionConfig(**vision), **fields)
        if config.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {config.method}")
        return config


def _tuple(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def make_prompts_config(
    weights: Weights,
    vision: VisionConfig,
    recipe: str,
    learning: Mapping[str, Any],
    *,
    method: str = LearnConfig.method,
    words: tuple[str, str] = LearnConfig.words,
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
        method=method,
        words=words,
    )


@dataclass(frozen=True)
class Prompts:
    """What was learned, and its configuration.

    Attributes:
        tensors: float32, by name:
            `ctx` (2, N, W), or (1, N, W) for both, the words before the template, rows NORMAL, ANOMALOUS, with
            `deep_ctx` (K, M, W): before block k + 2 of the text tower tokens 1..M become `deep_ctx[k]`;
            or `weight` (L, W, D) and `bias` (L, D) of `LayerProjections`;
            or `vectors` (1 + L, 2, D), what images and each layer's patches are compared with;
            none of a method that does not learn.
        config: What it was learned for.
        file_sha256: Of the file it was read from; None if it was not.
    """

    tensors: Mapping[str, Tensor]
    config: PromptsConfig
    file_sha256: str | None = None


def written_prompts(method: str, weights: Weights, vision: VisionConfig) -> Prompts:
    """The prompts of a method that learns none."""
    return Prompts({}, make_prompts_config(weights, vision, method, {}, method=method))


def save_prompts(path: Path, prompts: Prompts, extra: Mapping[str, Tensor] | None = None) -> None:
    """Write a `.safetensors` file, atomically.

    The file holds the tensors of `Prompts`; its metadata has one entry, `anomalyclip_prompts`, a JSON object with
    `format_version` and the fields of `PromptsConfig`. A checkpoint of the learning also holds the optimiser's
    tensors (`extra`), which readers of prompts ignore.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(
            to_bytes(prompts, extra)
        )  # save_file would not raise an OSError for a full disk


def to_bytes(prompts: Prompts, extra: Mapping[str, Tensor] | None = None) -> bytes:
    """The content of the file; see `save_prompts`."""
    tensors = {**prompts.tensors, **(extra or {})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(tensors, {METADATA: prompts.config.to_json()})


def load_prompts(path: Path) -> Prompts:
    """Read prompts; anything but a prompts file of this format is refused with ValueError."""
    tensors, config = load_prompts_tensors(path)
    return Prompts(
        {name: tensor for name, tensor in tensors.items() if "." not in name}, config, sha256(path)
    )


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
    if METADATA not in metadata or {name for name in tensors if "." not in name} not in NEEDED:
        raise ValueError(f"{path}: not a prompts file; make one with acl train or acl convert")
    try:
        return tensors, PromptsConfig.from_json(metadata[METADATA])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its metadata cannot be read ({error}); learn or convert it again"
        ) from error

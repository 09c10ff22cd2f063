"""What a method learned, prompts in most cases: two texts whose words are vectors. And the file that carries it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_strictly
from acl_train.clip import Architecture
from acl_train.config import LearnConfig, VisionConfig, check_words
from acl_train.methods import METHODS
from acl_train.weights import Weights

METADATA = "anomalyclip_prompts"  # one entry: safetensors shuffles several, and the file's bytes would differ
FORMAT_VERSION = 3
PUBLISHED = "published checkpoint"  # recipe of what acl convert made
DIMENSIONS = {"ctx": 3, "deep_ctx": 3, "weight": 3, "bias": 2, "vectors": 3}


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
        """One JSON object: `format_version` and the fields; version 2 where nothing of version 3 is used."""
        vision = dict(vars(self.vision))
        version = FORMAT_VERSION if vision["class_layers"] else FORMAT_VERSION - 1
        if version < FORMAT_VERSION:
            del vision["class_layers"]
        fields = vars(self) | {"vision": vision, "learning": dict(self.learning)}
        return json.dumps({"format_version": version} | fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> PromptsConfig:
        """The inverse of `to_json`; raises ValueError on anything else.

        Version 2 lacked `class_layers` in `vision`; version 1 also `method`, `words` and in `vision` `class_norm`,
        `learned_projection` and `windows`.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or not isinstance(fields.get("vision"), dict):
            raise ValueError("it must be an object with the keys of a prompts file")
        if type(found := fields.pop("format_version", None)) is not int or found > FORMAT_VERSION:
            raise ValueError(f"format version {found} is newer than {FORMAT_VERSION}; update the software")
        learning = fields.pop("learning", {})
        if not isinstance(learning, dict):
            raise ValueError("learning must be an object")
        defaults = {"method": LearnConfig.method, "words": list(LearnConfig.words)}
        later = {"class_norm": False, "learned_projection": False, "windows": [], "class_layers": False}
        vision = later | fields.pop("vision")
        stored = read_strictly(_Stored, defaults | fields | {"vision": vision}, "prompts")
        config = PromptsConfig(**vars(stored) | {"learning": learning, "words": tuple(stored.words)})
        if config.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {config.method}")
        if len(config.words) != 2:
            raise ValueError(f"words must be two, got {list(config.words)}")
        check_words(config.words)
        config.vision.check_values()
        return config


@dataclass(frozen=True)
class _Stored:
    """`PromptsConfig` as JSON has it, without the free-form `learning`."""

    backbone: str
    weights: str
    weights_sha256: str
    quick_gelu: bool
    vision: VisionConfig
    recipe: str
    method: str
    words: tuple[str, ...]


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
            or `vectors` (1 + L, 2, D), what images and each layer's patches are compared with, or (2 L, 2, D) with a
            class token of each layer first;
            none of a method that does not learn.
        config: What it was learned for.
        file_sha256: Of the file it was read from; None if it was not.
    """

    tensors: Mapping[str, Tensor]
    config: PromptsConfig
    file_sha256: str | None = None


def written_prompts(method: str, weights: Weights, vision: VisionConfig) -> Prompts:
    """The prompts of a method that learns none; of one that says nothing, the same vector twice."""
    tensors = {}
    if METHODS[method].is_mute:
        joint = weights.architecture.embed_dim
        tensors["vectors"] = torch.full((1, 2, joint), joint**-0.5)
    return Prompts(tensors, make_prompts_config(weights, vision, method, {}, method=method))


def save_prompts(path: Path, prompts: Prompts, extra: Mapping[str, Tensor] | None = None) -> None:
    """Write a `.safetensors` file, atomically.

    The file holds the tensors of `Prompts`; its metadata has one entry, `anomalyclip_prompts`, a JSON object with
    `format_version` and the fields of `PromptsConfig`. A checkpoint of the learning also holds the optimiser's
    tensors (`extra`), which readers of prompts ignore.
    """
    check_output(path)
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
    """Read prompts; anything but a prompts file of this format is refused with InputError."""
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
    except (SafetensorError, RuntimeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a prompts file ({error}); a .pth of the published code goes through acl convert"
        ) from error
    if METADATA not in metadata:
        raise InputError(f"{path}: not a prompts file; make one with acl train or acl convert")
    try:
        config = PromptsConfig.from_json(metadata[METADATA])
        _check_tensors(tensors, config)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: its metadata or tensors cannot be used ({error}); learn or convert it again"
        ) from error
    return tensors, config


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise InputError if a tensor holds NaN or infinity, or none of the numbers that are learned."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f"{name} must be floating-point, got {tensor.dtype}")
        if not tensor.isfinite().all():
            raise InputError(f"{name} holds NaN or infinity")


def check_output(path: Path) -> None:
    """Raise InputError if `path` is something else than a prompts file, which must not be lost to an output.

    That covers every input under any name, by a link too: an image, a mask, weights.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file; name a file to write")
    if path.stat().st_size == 0:
        return
    try:
        with safe_open(path, "pt") as file:
            is_prompts = METADATA in (file.metadata() or {})
    except (SafetensorError, ValueError):
        is_prompts = False
    if not is_prompts:
        raise InputError(
            f"{path}: is there already and is no prompts file; name another output, or remove it first"
        )


def check_architecture(prompts: Prompts, architecture: Architecture) -> None:
    """Raise InputError unless the tensors are as wide as the network, and not deeper."""
    tensors = prompts.tensors
    wanted = {
        "ctx": ("wide", -1, architecture.text_width),
        "deep_ctx": ("wide", -1, architecture.text_width),
        "weight": ("high", 1, architecture.vision_width),
        "bias": ("wide", -1, architecture.embed_dim),
        "vectors": ("wide", -1, architecture.embed_dim),
    }
    for name, (word, axis, size) in wanted.items():
        if name in tensors and (found := tensors[name].shape[axis]) != size:
            raise InputError(f"{name} must be {size} {word} for {prompts.config.backbone}, got {found}")
    if "deep_ctx" in tensors and len(tensors["deep_ctx"]) >= architecture.text_layers:
        raise InputError(
            f"deep_ctx must have fewer than {architecture.text_layers} rows (the text tower's blocks), got "
            f"{len(tensors['deep_ctx'])}"
        )


def _check_tensors(tensors: Mapping[str, Tensor], config: PromptsConfig) -> None:
    """Raise InputError unless these are the tensors of what was learned, and an optimiser's."""
    learned = {name: tensor for name, tensor in tensors.items() if "." not in name}
    if learned.keys() not in _learned_by(config.method):
        names = ", ".join(sorted(learned)) or "none"
        raise InputError(f"the tensors of {config.method} are other ones, got {names}")
    for name, tensor in learned.items():
        if tensor.ndim != DIMENSIONS[name] or 0 in tensor.shape[1:]:
            raise InputError(
                f"{name} must have {DIMENSIONS[name]} dimensions, got the shape {tuple(tensor.shape)}"
            )
    check_finite(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in learned.items()}
    fits = {
        "ctx": "ctx" not in shapes
        or (shapes["ctx"][0] in (1, 2) and shapes["ctx"][2] == shapes["deep_ctx"][2]),
        "weight": "weight" not in shapes or shapes["bias"] == (shapes["weight"][0], shapes["weight"][2]),
        "vectors": "vectors" not in shapes or (shapes["vectors"][0] > 0 and shapes["vectors"][1] == 2),
        "class_layers": not config.vision.class_layers
        or ("vectors" in shapes and shapes["vectors"][0] == 2 * len(config.vision.layers)),
        "learned_projection": config.vision.learned_projection == ("weight" in shapes),
    }
    if odd := [name for name, fit in fits.items() if not fit]:
        raise InputError(f"{odd[0]} does not go with the other tensors, whose shapes are {shapes}")


def _learned_by(method: str) -> list[set[str]]:
    """Names of the tensors that a method may have learned."""
    learn = METHODS[method].learn
    if learn is None:
        return [{"vectors"}] if METHODS[method].is_mute else [set()]
    return [{"weight", "bias"}] if learn.learns == "projection" else [{"ctx", "deep_ctx"}, {"vectors"}]

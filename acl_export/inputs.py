"""What is exported: prompts and the network they belong to, checked to go together."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from acl_export.config import ExportConfig, Head
from acl_runtime.files.errors import InputError
from acl_train.clip import CLIP, Architecture
from acl_train.config import OBJECT, Recipe, blind_words, check_image_size
from acl_train.methods import METHODS, make_read_out
from acl_train.patches import LayerProjections
from acl_train.prompts import (
    PUBLISHED,
    Prompts,
    PromptsConfig,
    check_architecture,
    load_prompts,
    written_prompts,
)
from acl_train.text import prompts_vectors
from acl_train.weights import Network, Weights, build_network, load_weights

LOG = logging.getLogger("acl")

Chosen = tuple[str | None, str | None, bool | None]
"""Backbone, weights and whether QuickGELU, where the user names them; see `load_weights`."""

ReadOut = tuple[int | None, tuple[int, ...] | None, int | None]
"""Image size, layers and start of the second path, where the user names them; see `make_vision_config`."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What goes into a bundle, checked to go together.

    Attributes:
        prompts: As they were learned, or as a method writes them.
        clip: The network in float32, read out as the prompts say, with their learned projection if they have one.
        vectors: (1, H, 2, D) float32, unit rows NORMAL, ANOMALOUS: what embeddings are compared with.
        basis: What activation and heads are known from, see `Weights`.
    """

    prompts: Prompts
    clip: Network
    vectors: Tensor
    basis: str


def prepare_inputs(prompts: Path | Prompts, weights: Weights, config: ExportConfig) -> Inputs:
    """Check that prompts, weights and what is asked go together, and build the network.

    Args:
        prompts: A prompts file, or the prompts of a method that learns none.
        weights: The CLIP that the prompts were learned on.
        config: What is asked.

    Raises:
        InputError: They do not go together, or the product's name is missing.
    """
    prompts = prompts if isinstance(prompts, Prompts) else load_prompts(prompts)
    _check_weights(prompts, weights)
    if METHODS[prompts.config.method].is_mute and config.head is not Head.embeddings:
        raise InputError(
            "method memory compares patches with those of good parts, and head map gives none; pass --head embeddings"
        )
    _check_category(prompts, config.category)
    _check_layers(prompts)
    check_architecture(prompts, weights.architecture)
    check_sizes(prompts, weights.architecture, config)
    clip = build_network(weights, prompts.config.vision)
    if clip.visual.config.learned_projection:
        assert isinstance(clip, CLIP)
        clip.visual.patch_projection = LayerProjections(**prompts.tensors)
    vectors = prompts_vectors(clip, prompts, config.category or OBJECT)
    return Inputs(prompts=prompts, clip=clip, vectors=vectors, basis=weights.basis)


def find_prompts(
    path: Path | None, method: str | None, chosen: Chosen, read_out: ReadOut
) -> tuple[Prompts, Weights]:
    """The prompts of a file, or of a method that learns none, and the weights they belong to.

    Args:
        path: A prompts file; None with a method.
        method: Name in `WRITTEN`; None with a file.
        chosen: The user's weights; None for those that the prompts were learned on.
        read_out: The user's read-out; None for that of the prompts or the method.
    """
    backbone, weights, quick_gelu = chosen
    image_size, layers, vv_from = read_out
    if path is None:
        assert method is not None
        loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
        vision = make_read_out(
            loaded.backbone,
            loaded.architecture,
            method=method,
            recipe=Recipe.paper if METHODS[method].is_mute else None,
            image_size=image_size,
            layers=layers,
            vv_from=vv_from,
        )
        return written_prompts(method, loaded, vision), loaded
    prompts = load_prompts(path)
    learned = prompts.config.vision
    loaded = find_weights(prompts.config, backbone, weights, quick_gelu=quick_gelu)
    vision = replace(
        learned,
        image_size=image_size or learned.image_size,
        layers=layers or learned.layers,
        vv_from=learned.vv_from if vv_from is None else vv_from or loaded.architecture.vision_layers + 1,
    )
    return replace(prompts, config=replace(prompts.config, vision=vision)), loaded


def find_weights(
    config: PromptsConfig, backbone: str | None, weights: str | None, *, quick_gelu: bool | None = None
) -> Weights:
    """The weights that prompts were learned on, or those the user names instead.

    Raises:
        FileNotFoundError: If they were learned on a file that is not named.
    """
    backbone = backbone or config.backbone
    quick_gelu = config.quick_gelu if quick_gelu is None else quick_gelu
    if weights is None and backbone != "tiny":
        weights = config.weights
        if Path(weights).suffix and not Path(weights).is_file():
            raise FileNotFoundError(f"{weights}: the prompts were learned on this file; pass --weights FILE")
    return load_weights(backbone, weights, quick_gelu=quick_gelu)


def _check_category(prompts: Prompts, category: str | None) -> None:
    """Raise InputError if the prompts need the product's name and have none, or have no place for one."""
    method = prompts.config.method
    if prompts.config.needs_category and not category:
        raise InputError(f"prompts of {method} name the product; pass its name, such as --category hazelnut")
    if category and "vectors" in prompts.tensors:
        raise InputError(
            f"decoupled vectors have no place for a product's name, got {category}; leave it out"
        )


def check_sizes(prompts: Prompts, architecture: Architecture, config: ExportConfig) -> None:
    """Raise InputError if a part of the image would not be looked at, or the blur is wider than the image.

    Prompts of a published checkpoint may have such an image size, because its figures belong to it; that is noted.
    """
    vision = prompts.config.vision
    vision.check(architecture.vision_layers)
    rest = vision.image_size % architecture.patch_size
    if rest and prompts.config.recipe == PUBLISHED:
        LOG.info(
            "image size %d is no multiple of the patch (%d): %s",
            *(vision.image_size, architecture.patch_size, blind_words(rest)),
        )
    else:
        check_image_size(vision.image_size, architecture.patch_size)
    if not 0 <= config.blur_sigma <= vision.image_size:
        raise InputError(
            f"blur must lie in 0..{vision.image_size} pixels (the image), got {config.blur_sigma:g}"
        )


def _check_layers(prompts: Prompts) -> None:
    """Raise InputError if something was learned for each layer and other layers are read out."""
    tensors, layers = prompts.tensors, prompts.config.vision.layers
    of_images = len(layers) if prompts.config.vision.class_layers else 1
    learned = len(tensors["weight"]) if "weight" in tensors else len(tensors.get("vectors", [])) - of_images
    if learned > 0 and learned != len(layers):
        raise InputError(
            f"layers must be the {learned} that something was learned for each, got {list(layers)}; leave --layers out"
        )


def _check_weights(prompts: Prompts, weights: Weights) -> None:
    """Raise InputError unless the prompts were learned on these very weights."""
    if prompts.config.weights_sha256 != weights.sha256:
        raise InputError(
            f"weights must be those the prompts were learned on ({prompts.config.backbone} "
            f"{prompts.config.weights}, sha256 {prompts.config.weights_sha256[:12]}), got {weights.backbone} "
            f"{weights.source}, sha256 {weights.sha256[:12]}; pass the same --backbone and --weights"
        )
    if prompts.config.quick_gelu != weights.architecture.quick_gelu:
        raise InputError(
            f"quick_gelu must be {prompts.config.quick_gelu} as in the learning, got "
            f"{weights.architecture.quick_gelu}; pass the same option"
        )

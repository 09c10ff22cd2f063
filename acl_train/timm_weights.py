"""Weights of timm's ViTs, from a tag or a file, and the tower they fill."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from acl_runtime.files.errors import InputError
from acl_train.clip import Architecture
from acl_train.config import VisionConfig, check_image_size
from acl_train.hub import check_hub, find_in_cache, first_line
from acl_train.tensor_files import read_state
from acl_train.timm_models import (
    FILES,
    PREFIX,
    TimmModel,
    check_fits,
    find_model,
    make_trunk,
    to_trunk_state,
)
from acl_train.timm_tower import TextlessNetwork, TimmTower, read_timm_architecture

LOG = logging.getLogger("acl")


@dataclass(frozen=True)
class Found:
    """What a tag or a file holds; see `acl_train.weights.Weights`."""

    state: Mapping[str, Tensor]  # as the file has them, under timm's names
    architecture: Architecture
    backbone: str
    source: str
    basis: str


def read_timm(backbone: str, weights: str | None) -> Found:
    """Read weights of one of timm's plain ViTs; what does not fit is refused before anything is fetched.

    Args:
        backbone: `timm:NAME` or `timm:NAME.TAG`.
        weights: A tag or a file; None for the tag in the name, or else timm's default.

    Raises:
        FileNotFoundError: `weights` looks like a file and there is none.
        InputError: There is no such model or tag, it is no plain ViT, or the file is not of it.
    """
    file = Path(weights) if weights is not None and Path(weights).is_file() else None
    if weights is not None and file is None and (Path(weights).suffix or "/" in weights):
        raise FileNotFoundError(f"{weights}: no such file; --weights takes a file or one of timm's tags")
    model = find_model(backbone, weights if file is None else None)
    trunk = check_fits(model.name)
    path = _download(model) if file is None else file
    return Found(
        to_trunk_state(path, read_state(path), trunk),
        read_timm_architecture(trunk, model.mean, model.std),
        model.backbone,
        model.tag if file is None else path.name,
        f"timm's configuration of {model.name}",
    )


def build_timm(
    backbone: str, state: Mapping[str, Tensor], architecture: Architecture, config: VisionConfig
) -> TextlessNetwork:
    """The frozen tower for one image size; tensors are shared, positions resized as timm does."""
    from timm.layers import resample_abs_pos_embed

    name = backbone.removeprefix(PREFIX).partition(".")[0]
    check_image_size(config.image_size, architecture.patch_size)
    with torch.device("meta"):  # nothing is drawn
        trunk = make_trunk(name, depth=architecture.vision_layers, image_size=config.image_size)
    if getattr(trunk, "rope", None) is not None:  # its values are computed, no file has them
        trunk.rope = make_trunk(name, depth=1, image_size=config.image_size).rope
    values = dict(state)
    if "pos_embed" in values:
        values["pos_embed"] = resample_abs_pos_embed(
            values["pos_embed"],
            new_size=list(trunk.patch_embed.grid_size),
            old_size=[architecture.vision_grid] * 2,
            num_prefix_tokens=0 if trunk.no_embed_class else trunk.num_prefix_tokens,
        )
    trunk.load_state_dict(values, strict=True, assign=True)
    network = TextlessNetwork(architecture, TimmTower(trunk, architecture, config))
    return network.eval().requires_grad_(False)


def _download(model: TimmModel) -> Path:
    """The file of a model's weights in the Hub's cache, fetched if it is not there."""
    if model.repository is None:
        raise InputError(
            f"timm has no file for {model.backbone} on the Hugging Face Hub; pass --weights FILE"
        )
    if (cached := find_in_cache(model.repository, FILES)) is not None:
        return cached
    from huggingface_hub import hf_hub_download

    LOG.info("the weights of %s come from the internet, %s", model.backbone, model.repository)
    try:
        check_hub()
        return Path(hf_hub_download(model.repository, FILES[0]))
    except OSError as error:
        raise InputError(
            f"{model.backbone} could not be fetched ({first_line(error)}); where there is a network, fetch {FILES[0]} "
            f"from the Hugging Face repository {model.repository} and pass it with --weights FILE"
        ) from error

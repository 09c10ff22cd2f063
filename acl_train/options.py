"""Command-line options that the commands of the workshop share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_train.config import LOSSES, check_attention
from acl_train.methods import LEARNED, METHODS, WRITTEN

LEARNING = "Learning"  # panels of the help: what one needs stands above them
ABLATIONS = "Ablations: for research"


class Device(str, Enum):
    """Where torch computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def parse_numbers(text: str | None, name: str = "layers") -> tuple[int, ...] | None:
    """`6,12,18,24` as numbers, None as None; typer.BadParameter, with the option's name, if it is anything else."""
    if text is None:
        return None
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{name} must be numbers such as 6,12,18,24, got {text}") from error


def parse_frame_size(text: str | None) -> tuple[int, int] | None:
    """`1080x1920` as height and width, None as None; typer.BadParameter if it is anything else."""
    if text is None:
        return None
    try:
        height, width = map(int, text.lower().replace("×", "x").split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"must be height x width such as 1080x1920, got {text}") from error
    if height < 1 or width < 1:
        raise typer.BadParameter(f"must be at least 1x1, got {text}")
    return height, width


def check_frame_size(text: str | None) -> str | None:
    """For typer: a typing mistake is told before anything is loaded."""
    parse_frame_size(text)
    return text


def _check_layers(text: str | None) -> str | None:
    parse_numbers(text)  # a typing mistake is told before anything is loaded
    return text


def _check_attention(text: str) -> str:
    try:
        check_attention(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def parse_losses(text: str | None) -> tuple[str, ...] | None:
    """`image,focal` as names of `LOSSES`, None as None; typer.BadParameter if it is anything else."""
    names = None if text is None else tuple(text.split(","))
    if names is not None and (not set(names) <= set(LOSSES) or len(set(names)) < len(names)):
        raise typer.BadParameter(f"must be some of {','.join(LOSSES)}, got {text}")
    return names


def _check_losses(text: str | None) -> str | None:
    parse_losses(text)
    return text


LearnedMethod = Enum("LearnedMethod", {name: name for name in LEARNED}, type=str)  # type: ignore[misc]
WrittenMethod = Enum("WrittenMethod", {name: name for name in WRITTEN}, type=str)  # type: ignore[misc]


def about(names: tuple[str, ...]) -> str:
    """What the methods are, for a help text."""
    return "; ".join(f"{name}: {METHODS[name].about}" for name in names)


class HeadVectors(str, Enum):
    """What images and patches are compared with."""

    shared = "shared"
    decoupled = "decoupled"
    per_layer = "per-layer"


Backbone = Annotated[
    str | None,
    typer.Option(
        help="open_clip name such as ViT-L-14-336, or tiny; of a file it tells heads and activation. timm:NAME: a ViT "
        "without text, such as timm:vit_base_patch14_reg4_dinov2.",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="open_clip tag such as openai, an OpenAI archive, .pt or .safetensors; of timm:NAME timm's default tag.",
        show_default=False,
    ),
]
QuickGelu = Annotated[
    bool | None,
    typer.Option(
        "--quick-gelu/--gelu",
        help="Activation of the weights; as open_clip declares it for the tag or the file's --backbone, "
        "QuickGELU for other files.",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side of the network input, a multiple of the patch; 518, tiny 168; timm:NAME at most 518.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="6,12,18,24",
        help="Blocks whose patches are used; the recipe's.",
        callback=_check_layers,
        show_default=False,
        rich_help_panel=ABLATIONS,
    ),
]
VVFrom = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Block where the second path starts; depth / 4; 0: none.",
        show_default=False,
        rich_help_panel=ABLATIONS,
    ),
]
AttentionOf = Annotated[
    str,
    typer.Option(
        "--attention",
        metavar="vv|qq|kk|qk",
        help="What the second path attends with; several, averaged: vv+kk.",
        callback=_check_attention,
        rich_help_panel=ABLATIONS,
    ),
]
Losses = Annotated[
    str | None,
    typer.Option(
        metavar=",".join(LOSSES),
        help="What to learn from; the method's.",
        callback=_check_losses,
        show_default=False,
        rich_help_panel=ABLATIONS,
    ),
]
Category = Annotated[
    str | None,
    typer.Option(
        help="The product's name, where the prompts name it, or in place of “object”.", show_default=False
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.", show_default=False)]

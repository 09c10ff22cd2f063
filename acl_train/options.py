"""Command-line options that the commands of the workshop share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


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


Backbone = Annotated[
    str | None, typer.Option(help="open_clip name such as ViT-L-14-336, or tiny.", show_default=False)
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="open_clip tag such as openai, an OpenAI archive, .pt or .safetensors.", show_default=False
    ),
]
QuickGelu = Annotated[
    bool | None,
    typer.Option(
        "--quick-gelu/--gelu", help="Activation of the weights; as the tag says, QuickGELU for files."
    ),
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the network input; 518, tiny 168.", show_default=False)
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="6,12,18,24",
        help="Blocks whose patches are used; the recipe's.",
        callback=_check_layers,
        show_default=False,
    ),
]
VVFrom = Annotated[
    int | None,
    typer.Option(min=1, help="Block where the second path starts; depth / 4.", show_default=False),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.", show_default=False)]

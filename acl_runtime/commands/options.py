"""Command-line options that the box's commands share."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acl_runtime.backends.choose import Backend as BackendName

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Tiling
    from acl_runtime.images.decode import ReadSettings


LARGE = "Large frames"
READING = "Reading images"
COMPUTING = "What runs the network"


class Tile(str, Enum):
    """Ways to cut a frame that are no number."""

    bundle = "bundle"
    auto = "auto"
    off = "off"


class Maps(str, Enum):
    """Of which frames the anomaly map leaves the GPU."""

    all = "all"
    defects = "defects"


class Drop(str, Enum):
    """Frames to drop where they come faster than they are judged."""

    none = "none"
    oldest = "oldest"


def parse_share(text: str) -> float:
    """Read `0.5%` or `0.005` as 0.005; typer.BadParameter unless it lies between 0 and 1."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError as error:
        raise typer.BadParameter(f"must be a share such as 0.5% or 0.005, got {text}") from error
    if not 0 < share < 1:
        meant = f"; did you mean {number}%?" if number == text.strip() and 1 <= share < 100 else ""
        raise typer.BadParameter(
            f"must lie between 0% and 100%, such as 1% or 0.01, got {100 * share:g}%{meant}"
        )
    return share


def check_share(text: str | None) -> str | None:
    """For typer: a typing mistake is told before anything is loaded."""
    if text is not None:
        parse_share(text)
    return text


def parse_tiling(tile: str, overlap: int | None, min_defect: int | None) -> Tiling | Literal["bundle"] | None:
    """What `--tile`, `--overlap` and `--min-defect` ask for; see `Detector`."""
    from acl_runtime.bundle.manifest import Tiling, check_tiling

    if tile in (Tile.bundle.value, Tile.off.value):
        if overlap is not None or min_defect is not None:
            raise typer.BadParameter("--overlap and --min-defect need --tile, a number of pixels or auto")
        return "bundle" if tile == Tile.bundle.value else None
    tiling = Tiling("auto" if tile == Tile.auto.value else int(tile), overlap, min_defect)
    if tiling.tile != "auto" and min_defect is not None:
        raise typer.BadParameter("--min-defect chooses the tile: give --tile auto, or leave it out")
    try:
        check_tiling(tiling)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return tiling


def parse_reading(bits: int | None, exif: bool, max_megapixels: float) -> ReadSettings:
    """What `--bits`, `--exif` and `--max-megapixels` ask for."""
    from acl_runtime.images.decode import ReadSettings

    return ReadSettings(bits, exif, max_megapixels)


def parse_camera_settings(settings: list[str] | None) -> list[tuple[str, str]]:
    """What `--set` gives, each NAME=VALUE, in order."""
    pairs = [setting.partition("=") for setting in settings or ()]
    for name, separator, value in pairs:
        if not (name and separator and value):
            raise typer.BadParameter(
                f"--set must be NAME=VALUE, such as Height=64, got {name}{separator}{value}"
            )
    return [(name, value) for name, _, value in pairs]


def _check_tile(text: str) -> str:
    if text not in Tile.__members__ and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"must be a number of pixels, auto or off, got {text}")
    return text


TileSize = Annotated[
    str,
    typer.Option(
        "--tile",
        metavar="PX|auto|off",
        help="Cut large frames into tiles of so many frame pixels; the same for calibrate and run.",
        callback=_check_tile,
        rich_help_panel=LARGE,
        show_default=False,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Pixels that neighbouring tiles share; a quarter of the tile.",
        rich_help_panel=LARGE,
        show_default=False,
    ),
]
MinDefect = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --tile auto: smallest defect of interest, in frame pixels.",
        rich_help_panel=LARGE,
        show_default=False,
    ),
]
Backend = Annotated[
    BackendName,
    typer.Option(
        help="What runs the graph; auto: the bundle's engine if it has one for this GPU, else ONNX Runtime.",
        rich_help_panel=COMPUTING,
    ),
]
Provider = Annotated[
    str,
    typer.Option(
        help="Device of ONNX Runtime: cpu, cuda ...; auto: the GPU if this ONNX Runtime serves it.",
        rich_help_panel=COMPUTING,
    ),
]
Triton = Annotated[
    str | None,
    typer.Option(
        metavar="HOST[:PORT][/MODEL]",
        help="Triton server that runs the graph, as acl triton prepares it; the HTTP port is 8000 unless named.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Smallest score of a defect; then it alone decides, not the bundle."),
]
FastResize = Annotated[
    bool,
    typer.Option(
        "--fast-resize",
        help="Resize several times faster than Pillow and nearly the same; use it for calibrate and run alike. Needs "
        "the extra fast-resize.",
        rich_help_panel=READING,
    ),
]
MapsOf = Annotated[
    Maps,
    typer.Option(
        help="Anomaly maps to fetch from the GPU: all, or those of frames that are anomalous or have a region; "
        "verdicts, regions and peaks are the same.",
        rich_help_panel=COMPUTING,
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=16,
        help="Significant bits of pixels that are stored in 16, such as 12 of a 12-bit camera; the same for calibrate "
        "and run. What a file says itself goes first.",
        rich_help_panel=READING,
        show_default=False,
    ),
]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif",
        help="Turn images and videos as their orientation tag says, as viewers do; otherwise pixels are judged as they "
        "are stored.",
        rich_help_panel=READING,
    ),
]
MaxMegapixels = Annotated[
    float,
    typer.Option(
        min=0.001,
        help="Largest image that is decoded, in millions of pixels; each takes up to 18 bytes of memory.",
        rich_help_panel=READING,
    ),
]
CameraSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="GenICam setting of the camera, written in the order given and read back; may be given again.",
        show_default=False,
    ),
]
TILE = Tile.bundle.value  # the default
MAX_MEGAPIXELS = 200.0  # the default, as of ReadSettings

"""`acl plan`: whether a box keeps up with a web."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.text.terminal import echo

if TYPE_CHECKING:
    from acl_runtime.web.capacity import Capacity, TileChoice, WebDemand

MB_PER_S = ((115, "GigE"), (1150, "10 GigE"))  # what a link carries


def plan(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    width: Annotated[int, typer.Option(min=1, help="Pixels of a line.", show_default=False)],
    mm_per_pixel: Annotated[
        float, typer.Option(metavar="MM", help="Size of a pixel across the web.", show_default=False)
    ],
    mm_per_line: Annotated[
        float | None,
        typer.Option(metavar="MM", help="From a line to the next; as --mm-per-pixel.", show_default=False),
    ] = None,
    line_rate: Annotated[
        float | None, typer.Option(metavar="HZ", help="Lines per second.", show_default=False)
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="M/MIN", help="Speed of the web, instead of --line-rate.", show_default=False),
    ] = None,
    smallest_defect: Annotated[
        float | None,
        typer.Option(
            metavar="MM", help="Smallest defect of interest; as fine as pixels.", show_default=False
        ),
    ] = None,
    overlap: options.Overlap = None,
    height: Annotated[int, typer.Option(min=1, help="Lines of a block.")] = 64,
    color: Annotated[bool, typer.Option("--color", help="The camera gives colour.")] = False,
    tiles_per_s: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Tiles per second that a box judges; measured here at once.", show_default=False
        ),
    ] = None,
    fast_resize: options.FastResize = False,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    triton: options.Triton = None,
) -> None:
    """Say whether this box keeps up with a web, with which tiles, and how long a defect waits.

    Give the camera's width and resolution, and either its line rate or the web's
    speed. What this bundle judges here is measured at once. The exit code is 1
    where the box does not keep up.
    """
    from acl_runtime.commands.detector import open_detector
    from acl_runtime.web import capacity as box
    from acl_runtime.web.capacity import WebDemand, largest_tile, measure_tiles_per_s, weigh
    from acl_runtime.web.judge import TileJudge
    from acl_runtime.web.records import Scale

    if (line_rate is None) == (speed is None):
        raise typer.BadParameter("give --line-rate, or --speed")
    scale = Scale(mm_per_line=mm_per_pixel if mm_per_line is None else mm_per_line, mm_per_pixel=mm_per_pixel)
    demand = WebDemand(
        width=width,
        lines_per_s=line_rate if line_rate is not None else (speed or 0) * 1000 / 60 / scale.mm_per_line,
        scale=scale,
        smallest_mm=smallest_defect,
        bytes_per_pixel=3 if color else 1,
        height=height,
        overlap=overlap,
    )
    detector = open_detector(
        context,
        bundle,
        tile=options.Tile.off.value,
        overlap=None,
        min_defect=None,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        triton=triton,
        says_mismatches=False,
    )
    manifest = detector.bundle.manifest
    side = largest_tile(demand, manifest)
    measured = tiles_per_s or measure_tiles_per_s(
        TileJudge(detector.stages),
        side=side,
        batch=manifest.max_batch,
        shape=(3,) if color else (),
        seconds=box.MEASURE_S,
    )
    capacity = weigh(demand, manifest, measured)
    machine = f"{detector.backend} {detector.provider}".strip()
    how = "as given" if tiles_per_s else f"measured here with {machine}, {manifest.max_batch} at a time"
    for line in plan_lines(demand, capacity, how):
        echo(line)
    raise typer.Exit(0 if capacity.finest is not None else 1)


def plan_lines(demand: WebDemand, capacity: Capacity, how: str) -> list[str]:
    """What a plan says, a line each."""
    link = next((f", {name} carries it" for most, name in MB_PER_S if demand.mb_per_s <= most), "")
    rate = f"{round(demand.lines_per_s, 1):g}"
    lines = [
        f"the web     {demand.metres_per_min:.4g} m/min, {rate} lines/s of {demand.width} pixels",
        f"camera      {demand.mb_per_s:.4g} MB/s{link}; {1 / demand.scale.mm_per_line:.4g} encoder steps per mm",
        f"this box    {capacity.measured:.4g} tiles/s {how}; {capacity.usable:.4g} of them are planned with",
    ]
    if capacity.finest is not None and capacity.finest != capacity.coarsest:
        lines += _tile_lines("finest", capacity.finest)
    lines += _tile_lines("coarsest", capacity.coarsest)
    coarsest, most = capacity.coarsest, demand.metres_per_min * capacity.speed_share
    if capacity.finest is None:
        lines.append(
            f"does not keep up: {coarsest.tiles_per_s:.4g} tiles/s are needed and {capacity.usable:.4g} can be had; "
            f"{capacity.boxes} such boxes would, or this one up to {most:.4g} m/min "
            f"({demand.lines_per_s * capacity.speed_share:.4g} lines/s)"
        )
    else:
        lines.append(
            f"keeps up: any tile of {capacity.finest.plan.tile} to {coarsest.plan.tile} pixels; with the largest up to "
            f"{most:.4g} m/min ({demand.lines_per_s * capacity.speed_share:.4g} lines/s)"
        )
    return lines


def _tile_lines(name: str, choice: TileChoice) -> list[str]:
    plan = choice.plan
    return [
        f"{name:<11} --tile {plan.tile} --overlap {plan.tile - plan.step}: {len(plan.columns.spans)} across, "
        f"{choice.tiles_per_s:.4g} tiles/s needed; a patch shows {choice.patch_mm:.3g} mm",
        f"{'':<11} a defect is told {choice.wait_lines} lines, {choice.wait_mm:.4g} mm, {choice.wait_ms:.4g} ms "
        "behind its first line at the latest",
    ]

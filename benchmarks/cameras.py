"""How many lines a second cameras are read at, drawn webs are drawn at, and the flat field corrects."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer

from acl_runtime.sources.lines import open_line_source
from acl_runtime.web.flat_field import FlatField
from acl_runtime.web.reference import Reference, ReferenceFacts
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import clock

HEIGHT = 64
HEADER = ("what", "pixels", "lines/s", "core", "lines lost")
Setting = Annotated[list[str] | None, typer.Option("--set", help="GenICam setting NAME=VALUE of the camera.")]


class Row(NamedTuple):
    """A measurement."""

    what: str
    pixels: int
    lines_per_s: float
    core: float  # share of one, 0 to 1
    lost: int


def measure(what: str, pixels: int, work: Callable[[], object], *, seconds: float) -> Row:
    """Call `work`, which takes HEIGHT lines, again and again on one thread; by the median of its CPU time."""
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        times.append(clock(lambda: [work() for _ in range(10)]).cpu_s)
    return Row(what, pixels, 10 * HEIGHT / float(np.median(times)), 1.0, 0)


def correct(dtype: type, width: int, seconds: float) -> Row:
    """The flat field, into an array that is there."""
    rng, full = np.random.default_rng(0), int(np.iinfo(dtype).max)
    now = datetime.now(timezone.utc).isoformat()

    def reference(low: float, high: float, facts: ReferenceFacts) -> Reference:
        return Reference(rng.uniform(low * full, high * full, width), facts)

    dark, bright = (
        ReferenceFacts(kind=kind, created=now, source="drawn", settings=(), lines=1, full_scale=full)
        for kind in ("dark", "bright")
    )
    flat = FlatField(reference(0, 0.02, dark), reference(0.5, 0.8, bright))
    lines = rng.integers(0, full, (HEIGHT, width), dtype)
    out = np.empty_like(lines)
    return measure(f"flat field, {np.dtype(dtype)}", width, lambda: flat(lines, out=out), seconds=seconds)


def draw(text: str, seconds: float) -> Row:
    """A drawn web."""
    with closing(open_line_source(text)) as source:
        return measure(f"`{text}`", source.width, lambda: source.read(1.0), seconds=seconds)


def read(text: str, settings: list[tuple[str, str]], seconds: float) -> Row:
    """A camera that sends as fast as it was set to; lines lost by incomplete blocks and gaps in the numbers."""
    with closing(open_line_source(text, settings)) as source:
        lines = lost = 0
        last: int | None = None
        while last is None:
            block = source.read(5.0)
            last = None if block is None else block.number
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() < began + seconds:
            block = source.read(1.0)
            if block is None or block.number is None:
                continue
            period = len(source.numbers) if source.numbers else 1 << 64
            lost += source.height * ((block.number - last) % period - block.complete)
            lines += len(block.lines) if block.complete else 0
            last = block.number
        took = time.perf_counter() - began
        core = (time.process_time() - cpu) / took
        return Row(f"`{text}`", source.width, lines / took, core, lost)


def main(
    cameras: Annotated[
        list[str] | None, typer.Option("--read", help="Camera to read, such as aravis:10.0.0.7.")
    ] = None,
    setting: Setting = None,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 5.0,
    json: Annotated[Path | None, typer.Option(help="File for every number.")] = None,
) -> None:
    """Measure, and print a Markdown table."""
    cv2.setNumThreads(1)
    machine = describe_machine()
    pairs = [(name, value) for name, _, value in (each.partition("=") for each in setting or ())]
    rows = [read(text, pairs, seconds) for text in cameras or ()]
    if not cameras:
        sizes = ((np.uint8, 2048), (np.uint8, 4096), (np.uint8, 16384), (np.uint16, 4096))
        rows += [correct(dtype, width, seconds) for dtype, width in sizes]
        rows += [draw(f"drawn:7?width={width}&defects_per_m=20", seconds) for width in (2048, 4096)]
    typer.echo(machine_line(machine) + "\n")
    cells = [
        (row.what, str(row.pixels), f"{row.lines_per_s:,.0f}", f"{row.core:.0%}", str(row.lost))
        for row in rows
    ]
    typer.echo(markdown_table(HEADER, cells))
    write_json(json, {"machine": machine, "rows": [row._asdict() for row in rows]})


if __name__ == "__main__":
    typer.run(main)

"""What a memory of good parts costs in frames per second. `python -m benchmarks.memory_speed BUNDLE`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.calibration.memory_images import Request, fit_memory_to_images
from acl_runtime.detection.detector import Detector
from acl_runtime.images.decode import load_frame
from acl_runtime.scoring.memory_kinds import kinds_text, parse_kinds
from acl_runtime.sources.files import list_sources
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table
from benchmarks.timing import in_turn


def main(
    bundle: Annotated[Path, typer.Argument(help='Bundle with head "embeddings".')],
    good: Annotated[
        list[str], typer.Argument(help="Images to remember, and to judge; what they show is all one.")
    ],
    remembered: Annotated[int, typer.Option(min=2, help="Images to remember.")] = 4,
    kind: Annotated[str, typer.Option(help="Kind of memory, as of acl calibrate.")] = "patches",
    turns: Annotated[int, typer.Option(min=10, help="Frames that each judges.")] = 200,
) -> None:
    """Judge the same frames by the text alone and with a memory, in turn."""
    machine = describe_machine()
    alone = Detector(bundle, provider="cpu").with_memory(None)
    sources = list_sources(good)
    request = Request(remembered, parse_kinds(kind))
    memory = fit_memory_to_images(alone, sources, request, seed=0, progress=lambda *at: None).memory
    both = alone.with_memory(memory)
    frames = [load_frame(source.path) for source in sources]
    pairs = in_turn(
        lambda turn: alone(frames[turn % len(frames)]),
        lambda turn: both(frames[turn % len(frames)]),
        turns=turns,
    )
    low, high = pairs.spread
    times = [f"{1000 * float(sorted(side[:, 0])[turns // 2]):.2f}" for side in (pairs.reference, pairs.ours)]
    row = [
        bundle.name,
        kinds_text(memory.kinds),
        f"{pairs.ratio:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{pairs.quiet_ratio:.2f}",
        " → ".join(times),
    ]
    header = ["bundle", "memory", "frames/s, times text alone", "10-90 %", "fastest tenths", "ms a frame"]
    typer.echo(f"{machine_line(machine)}\n\n{markdown_table(header, [row])}")


if __name__ == "__main__":
    typer.run(main)

"""What overlapping the stages gives, and whether memory stays flat. `python -m benchmarks.pipeline BUNDLE`"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from acl_runtime.backends.host import peak_memory
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.pipeline import Pipeline
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table

STAGES_MS = ((2, 3, 10), (8, 8, 8), (10, 3, 2), (1, 5, 5))  # reading, preparing, judging
WARM_UP = 1000  # frames before memory is looked at


def waiting(milliseconds: float) -> Callable[[Any], Any]:
    """A stage that takes so long without the processor, as a GPU or a camera does."""

    def stage(thing: Any) -> Any:
        time.sleep(milliseconds / 1000)
        return thing

    return stage


def measure_overlap(stages_ms: tuple[int, ...], items: int) -> tuple[float, float]:
    """Items per second, overlapped, over those of the slowest stage alone and over those of all in a row."""
    read, *others = map(waiting, stages_ms)
    alone = []
    for milliseconds in stages_ms:
        stage, started = waiting(milliseconds), time.perf_counter()
        for _ in range(items):
            stage(None)
        alone.append((time.perf_counter() - started) / items)
    started = time.perf_counter()
    done = sum(1 for _ in Pipeline(map(read, range(items)), lambda group: group, others))
    overlapped = (time.perf_counter() - started) / done
    return max(alone) / overlapped, sum(alone) / overlapped


def measure_memory(bundle: Path, count: int) -> tuple[int, int]:
    """Bytes that the process had at most after a thousand frames, and after all."""

    def frames() -> Iterator[np.ndarray]:
        for number in range(count):
            yield np.full((64, 64, 3), number % 251, np.uint8)

    before = 0
    for number, _ in enumerate(Detector(bundle, provider="cpu").stream(frames())):
        if number == WARM_UP:
            before = peak_memory() or 0
    return before, peak_memory() or 0


def main(
    bundle: Annotated[Path, typer.Argument(help="Of a small network.")],
    items: Annotated[int, typer.Option(help="Items per row.")] = 300,
    frames: Annotated[int, typer.Option(help="For the memory.")] = 20_000,
) -> None:
    """Measure and print."""
    typer.echo(machine_line(describe_machine()))
    rows = []
    for stages_ms in STAGES_MS:
        of_slowest, of_all = measure_overlap(stages_ms, items)
        rows.append([" + ".join(map(str, stages_ms)), f"{100 * of_slowest:.0f} %", f"{of_all:.2f}"])
    typer.echo(markdown_table(["stages, ms", "of the slowest alone", "times all in a row"], rows))
    before, after = measure_memory(bundle, frames)
    typer.echo(f"{frames} frames: {before / 1e6:.1f} MB after {WARM_UP}, {after / 1e6:.1f} MB after all")


if __name__ == "__main__":
    typer.run(main)

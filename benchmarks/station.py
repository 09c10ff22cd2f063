"""From a frame to the output's call: latency of a station, idle and beside a busy core.

    python -m benchmarks.station demo/bundle

A station in part mode with a drawn camera, in this process; the time is from the moment when the camera's frame was
there to the moment when an output is called, so it holds copying, waiting, resizing, the network, postprocessing and
the handing over between threads. “Added” is what of it is not the detector's own. Beside a busy core means that another
process computes all the time.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from acl_runtime.detection.verdict import Inspected
from acl_runtime.inspection.station.service import Station
from acl_runtime.inspection.station.station_file import load_station
from acl_runtime.outputs.station import PartResult, StationEvent
from benchmarks.machine import describe_machine, machine_line

PATIENCE_S = 600.0


@dataclass(frozen=True)
class Row:
    """What was measured in one condition."""

    condition: str
    parts: int
    not_judged: int
    latency_ms: np.ndarray  # (parts,) from the frame to the call of the output
    added_ms: np.ndarray  # (judged,) of that, beside what the detector took for the frame


class Stopwatch:
    """An output that remembers when it was called."""

    name, problem, dropped = "stopwatch", "", 0

    def __init__(self, parts: int) -> None:
        self.latency_ms: list[float] = []
        self.added_ms: list[float] = []
        self.not_judged = 0
        self.done = threading.Event()
        self._parts = parts

    def __call__(self, event: StationEvent) -> None:
        """Take the time of a part."""
        if not isinstance(event, PartResult):
            return
        self.latency_ms.append(1000 * (time.time() - event.exposed_at))
        self.not_judged += event.verdict == "not judged"
        if isinstance(event.result, Inspected):
            self.added_ms.append(self.latency_ms[-1] - sum(event.result.verdict.latency_ms.values()))
        if len(self.latency_ms) == self._parts:
            self.done.set()

    def close(self, within_s: float) -> None:
        """Nothing to deliver."""


def measure(bundle: Path, condition: str, *, parts: int, per_s: float, side: int, busy: int) -> Row:
    """Latency of so many parts.

    Args:
        bundle: What judges.
        condition: What to call it.
        parts: To measure.
        per_s: Parts a second.
        side: Of a frame, in pixels.
        busy: Processes that compute meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder, _busy_cores(busy):
        path = Path(folder) / "station.toml"
        source = f"drawn:7?width={side}&height={side}&rate={round(per_s * side)}"
        path.write_text(
            f'[station]\nbundle = "{bundle.resolve()}"\nmode = "part"\n[[camera]]\nsource = "{source}"\n'
        )
        watch = Stopwatch(parts)
        station = Station(load_station(path), outputs=[watch])
        thread = threading.Thread(target=station.run, args=(watch.done.is_set, lambda: False))
        thread.start()
        watch.done.wait(PATIENCE_S)
        watch.done.set()
        thread.join()
    return Row(
        condition, parts, watch.not_judged, np.array(watch.latency_ms[:parts]), np.array(watch.added_ms)
    )


@contextmanager
def _busy_cores(count: int) -> Iterator[None]:
    processes = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _compute() -> None:
    while True:
        sum(range(10_000))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| condition | parts | not judged | p50 ms | p99 ms | worst ms | added p50 ms | added p99 ms |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        all_ms = (float(np.percentile(row.latency_ms, share)) for share in (50, 99, 100))
        added_ms = (float(np.percentile(row.added_ms, share)) for share in (50, 99))
        numbers = " | ".join(f"{ms:.1f}" for ms in (*all_ms, *added_ms))
        lines.append(f"| {row.condition} | {row.parts} | {row.not_judged} | {numbers} |")
    return "\n".join(lines)


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    parts: Annotated[int, typer.Option(min=10, help="Parts in each condition.")] = 1000,
    per_s: Annotated[float, typer.Option(min=0.1, help="Parts a second.")] = 10.0,
    side: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 256,
) -> None:
    """Measure a station's latency."""
    typer.echo(machine_line(describe_machine()))
    rows = [
        measure(bundle, condition, parts=parts, per_s=per_s, side=side, busy=busy)
        for condition, busy in (("idle", 0), ("beside a busy core", 1))
    ]
    typer.echo(table(rows))


if __name__ == "__main__":
    typer.run(main)

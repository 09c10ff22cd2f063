"""How many frames a second are prepared for the network on 1, 2 and 4 cores. `python -m benchmarks.preparing BUNDLE`

The first stage of the detector alone, on frames of 1920×1080 and 640×480 and on tiles of the network's size, a full
batch at a time. A large frame is resized in four strips at a time whatever the number of workers, so that more workers
help it on more than four cores only. The numbers of workers take turns, so that whatever disturbs one disturbs all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated

import numpy as np
import typer

from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stages import Stages
from acl_runtime.images.frame import Frame
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

BATCH = 8
SIZES = ((1080, 1920), (480, 640))  # height, width


@dataclass(frozen=True)
class Row:
    """One kind of image and number of workers."""

    what: str
    workers: int
    image_ms: float  # of a batch, by image; median of the turns
    fastest_ms: float  # 10th percentile
    speedup: float  # over one worker, by the medians


def batches(detector: Detector) -> dict[str, Callable[[Stages], None]]:
    """What is prepared: calls that run the first stage on a batch."""
    rng = np.random.default_rng(0)
    side = detector.bundle.manifest.image_size
    large = rng.integers(0, 256, (2 * side, BATCH // 2 * side, 3), dtype=np.uint8)

    def prepare(stages: Stages, arrays: list[np.ndarray], tiling: Tiling | None) -> None:
        manifest = replace(stages.manifest, max_batch=BATCH)
        given = [Frame("", number, PurePath(str(number)), array) for number, array in enumerate(arrays)]
        for _ in replace(stages, manifest=manifest, tiling=tiling).preprocess(given):
            pass

    calls: dict[str, Callable[[Stages], None]] = {}
    for size in SIZES:
        frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(BATCH)]
        calls[f"frames of {size[1]}×{size[0]}, resized"] = partial(prepare, arrays=frames, tiling=None)
    calls[f"tiles of {side}, cut out"] = partial(prepare, arrays=[large], tiling=Tiling(side, 0, None))
    return calls


def measure(detector: Detector, workers: list[int], *, turns: int) -> list[Row]:
    """Time every kind with every number of workers, in turn."""
    rows = []
    for what, call in batches(detector).items():
        times: dict[int, list[float]] = {count: [] for count in workers}
        for turn in range(turns + 1):  # the first one starts the threads and does not count
            for count in workers if turn % 2 else workers[::-1]:
                stages = replace(detector.stages, workers=count)
                started = time.perf_counter()
                call(stages)
                if turn:
                    times[count].append(1000 * (time.perf_counter() - started) / BATCH)
        alone = float(np.median(times[workers[0]]))
        for count in workers:
            median, fastest = (float(np.percentile(times[count], share)) for share in (50, 10))
            rows.append(Row(what, count, median, fastest, alone / median))
    return rows


def to_text(rows: list[Row]) -> str:
    """The table."""
    header = ["what", "workers", "ms an image", "fastest tenth", "times as fast"]
    return markdown_table(
        header,
        [
            [row.what, str(row.workers), f"{row.image_ms:.2f}", f"{row.fastest_ms:.2f}", f"{row.speedup:.2f}"]
            for row in rows
        ],
    )


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle; only its input size matters.")],
    workers: Annotated[
        str, typer.Option(help="Numbers of workers, the first of them the measure.")
    ] = "1,2,4",
    turns: Annotated[int, typer.Option(help="Timed batches of each.")] = 30,
    fast_resize: Annotated[bool, typer.Option("--fast-resize", help="As acl run --fast-resize.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure and print the table."""
    machine = describe_machine()
    with Detector(bundle, provider="cpu", tiling=None, fast_resize=fast_resize) as detector:
        rows = measure(detector, [int(count) for count in workers.split(",")], turns=turns)
    typer.echo(f"{machine_line(machine)}\n\n{to_text(rows)}")
    write_json(json_path, {"machine": machine, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    typer.run(main)

"""Resizing a frame: Pillow as in the published code, ours, and the fast one. `python -m benchmarks.resize`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image

from acl_runtime.images.fast_resize import resize_fast
from acl_runtime.images.preprocess import preprocess
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Pairs, in_turn

FRAMES = ((1080, 1920), (720, 1280), (2048, 4096))  # height, width
SIDES = (518, 336, 224)
INPUTS = 4  # different ones, taken in turn
PACKAGES = ("pillow", "cykooz-resizer")


@dataclass(frozen=True)
class Measured:
    """One size of frame and side of the network's input.

    Attributes:
        height: Of the frame.
        width: Of the frame.
        side: S of the result.
        ours: Times of the published way and of `preprocess`.
        fast: Times of the published way and of `preprocess` with the fast resize.
        ours_off: Largest difference of any value from the published way's, grey levels.
        fast_off: The same of the fast one.
        share_off: Of the fast one's values that differ at all, 0 to 1.
    """

    height: int
    width: int
    side: int
    ours: Pairs
    fast: Pairs
    ours_off: int
    fast_off: int
    share_off: float


def draw_frames(height: int, width: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 BGR: noise, and noise that is blurred, in turn."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(INPUTS)]
    return [
        np.asarray(cv2.GaussianBlur(one, (0, 0), 3), np.uint8) if number % 2 else one
        for number, one in enumerate(noise)
    ]


def measure(height: int, width: int, side: int, *, turns: int) -> Measured:
    """Time all three from the frame in memory to the square in memory; the published way has a picture of Pillow's."""
    frames = draw_frames(height, width)
    pictures = [Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1])) for frame in frames]

    def published(turn: int) -> np.ndarray:
        return np.asarray(pictures[turn % INPUTS].resize((side, side), Image.Resampling.BICUBIC))

    def ours(turn: int) -> np.ndarray:
        return preprocess([frames[turn % INPUTS]], image_size=side)

    def fast(turn: int) -> np.ndarray:
        return preprocess([frames[turn % INPUTS]], image_size=side, resize=resize_fast)

    off = [
        np.stack([np.abs(published(turn).astype(int) - way(turn)[0]) for turn in range(INPUTS)])
        for way in (ours, fast)
    ]
    return Measured(
        height,
        width,
        side,
        in_turn(published, ours, turns=turns),
        in_turn(published, fast, turns=turns),
        int(off[0].max()),
        int(off[1].max()),
        float(np.mean(off[1] > 0)),
    )


def to_table(measured: Sequence[Measured]) -> str:
    """One row per measurement; the ratios are to the published way."""
    header = ["frame", "px", "ours", "fast", "10-90 %", "fastest tenths", "by CPU time", "ms", "ms of CPU"]
    return markdown_table([*header, "ours off", "fast off"], [_cells(one) for one in measured])


def _cells(one: Measured) -> list[str]:
    low, high = one.fast.spread
    reference, ours, fast = one.fast.reference, one.ours.ours, one.fast.ours
    wall, cpu = (
        [1000 * float(np.median(times[:, clock])) for times in (reference, ours, fast)] for clock in (0, 1)
    )
    return [
        f"{one.width}×{one.height}",
        str(one.side),
        f"{one.ours.ratio:.2f}",
        f"**{one.fast.ratio:.1f}**",
        f"{low:.1f}-{high:.1f}",
        f"{one.fast.quiet_ratio:.1f}",
        f"{cpu[0] / cpu[2]:.1f}",
        " → ".join(f"{ms:.1f}" for ms in wall),
        " → ".join(f"{ms:.1f}" for ms in cpu),
        str(one.ours_off),
        f"{one.fast_off} in {100 * one.share_off:.2f} %",
    ]


def to_record(one: Measured) -> dict[str, object]:
    """A measurement for the JSON file."""
    times = {
        f"{name}_{which}_s": getattr(pairs, which).tolist()
        for name, pairs in (("ours", one.ours), ("fast", one.fast))
        for which in ("reference", "ours")
    }
    return {name: value for name, value in asdict(one).items() if name not in ("ours", "fast")} | times


def main(
    turns: Annotated[int, typer.Option(min=1, help="Timed calls of each way, in turn.")] = 60,
    json: Annotated[Path | None, typer.Option(help="Also write every time to this file.")] = None,
) -> None:
    """Time the three ways for usual cameras and networks."""
    machine = describe_machine() | {name: version(name) for name in PACKAGES}
    measured = [measure(*size, side, turns=turns) for size, side in product(FRAMES, SIDES)]
    versions = ", ".join(f"{name} {machine[name]}" for name in PACKAGES)
    typer.echo(f"{machine_line(machine)}, {versions}\n\n{to_table(measured)}")
    write_json(json, {"machine": machine, "turns": turns, "rows": [to_record(one) for one in measured]})


if __name__ == "__main__":
    typer.run(main)

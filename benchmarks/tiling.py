"""What tiling finds that squashing loses, and the memory it takes. `python -m benchmarks.tiling BUNDLE`"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.images.tiles import plan_tiles
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

DEFECT = 12  # pixels
SIZE = (2048, 4096)  # height and width of the frames that a defect is hidden in
MEMORY_SIZES = ((1024, 2048), (2048, 4096), (4096, 8192))
TILING = Tiling("auto", None, DEFECT)
WAYS = {"squashed": None, "tiled": TILING}


@dataclass(frozen=True)
class Found:
    """The same frame with and without its defect, judged one way.

    Attributes:
        surface: What the frame is a picture of.
        way: How it was judged.
        tiles: How many tiles it was cut into.
        scores: Without and with the defect.
        peaks: Without and with it.
        distance: From the defect's centre to the peak of the map of the frame with it, in frame pixels, along the
            worse of the axes.
        seconds: For one frame.
    """

    surface: str
    way: str
    tiles: int
    scores: tuple[float, float]
    peaks: tuple[float, float]
    distance: float
    seconds: float


def cloudy(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) float32, about unit variance: a painted sheet under uneven light, with a fine grain."""
    field: np.ndarray = rng.standard_normal((height, width), dtype=np.float32) / 3
    for cell in (512, 100, 10):
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        field += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 2
    return field


def grainy(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) float32, about unit variance: cast metal, grains of some three pixels."""
    return _unit(cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), 1.5))


def brushed(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) float32, about unit variance: sheet brushed along the rows."""
    noise = rng.standard_normal((height, width), dtype=np.float32)
    return _unit(cv2.GaussianBlur(noise, (0, 0), sigmaX=20, sigmaY=1))


SURFACES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "cloudy": cloudy,
    "grainy": grainy,
    "brushed": brushed,
}


def draw_surface(name: str, *, height: int, width: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a good frame, mid-grey and slightly warm, with a contrast of some 7 grey levels."""
    field = SURFACES[name](np.random.default_rng(seed), height, width)
    pixels = 140 + 7 * field[..., None] + np.array([-8, 0, 8], np.float32)
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


def with_spot(frame: np.ndarray, top: int, left: int) -> np.ndarray:
    """The frame with a dark round spot of DEFECT pixels, its edges antialiased."""
    centre = (DEFECT - 1) / 2
    axis = np.arange(DEFECT) - centre
    coverage = np.clip(centre + 1 - np.hypot(axis[:, None], axis), 0, 1)[..., None]
    spotted = np.array(frame)
    below = spotted[top : top + DEFECT, left : left + DEFECT]
    below[:] = np.rint(below * (1 - coverage) + 45 * coverage)
    return spotted


def find_spot(bundle: Bundle, surface: str, way: str, *, size: tuple[int, int], seed: int) -> Found:
    """Judge a frame without and with a spot at a random place."""
    (height, width), tiling = size, WAYS[way]
    rng = np.random.default_rng((seed, 1))
    top, left = (int(rng.integers(0, length - DEFECT + 1)) for length in size)
    detector = Detector(bundle, provider="CPUExecutionProvider", tiling=tiling)
    good = draw_surface(surface, height=height, width=width, seed=seed)
    started = time.perf_counter()
    verdicts = [detector(frame) for frame in (good, with_spot(good, top, left))]
    return Found(
        surface,
        way,
        _count_tiles(bundle, tiling, size),
        (verdicts[0].score, verdicts[1].score),
        (verdicts[0].peak, verdicts[1].peak),
        _distance(verdicts[1], size, (top + DEFECT / 2, left + DEFECT / 2)),
        (time.perf_counter() - started) / len(verdicts),
    )


@dataclass(frozen=True)
class Memory:
    """What judging one frame took, in bytes.

    Attributes:
        height: Of the frame.
        width: Of the frame.
        tiles: How many.
        frame: The frame itself.
        anomaly_map: Its map.
        peak: Most resident memory during the verdict, less that before the frame was drawn.
    """

    height: int
    width: int
    tiles: int
    frame: int
    anomaly_map: int
    peak: int


def measure_memory(bundle: Bundle, *, height: int, width: int) -> Memory:
    """Judge a tiled frame in a process of its own; Linux only."""
    command = [sys.executable, "-m", "benchmarks.tiling_memory", *map(str, (bundle.path, height, width))]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    frame, anomaly_map, peak = map(int, run.stdout.split())
    return Memory(height, width, _count_tiles(bundle, TILING, (height, width)), frame, anomaly_map, peak)


def found_table(found: Sequence[Found]) -> str:
    """One row per surface and way."""
    header = ["surface", "way", "tiles", "score without → with", "peak without → with", "peak off by", "s"]
    rows = [
        [
            one.surface,
            one.way,
            str(one.tiles),
            f"{one.scores[0]:.4f} → {one.scores[1]:.4f}",
            f"{one.peaks[0]:.5f} → {one.peaks[1]:.5f}",
            f"{one.distance:.0f} px",
            f"{one.seconds:.1f}",
        ]
        for one in found
    ]
    return markdown_table(header, rows)


def memory_table(memory: Sequence[Memory]) -> str:
    """One row per frame size, in MB."""
    header = ["frame", "tiles", "frame, MB", "map, MB", "peak, MB", "beyond frame and map, MB"]
    rows = [
        [f"{one.width}×{one.height}", str(one.tiles)]
        + [
            f"{size / 1e6:.0f}"
            for size in (one.frame, one.anomaly_map, one.peak, one.peak - one.frame - one.anomaly_map)
        ]
        for one in memory
    ]
    return markdown_table(header, rows)


def _count_tiles(bundle: Bundle, tiling: Tiling | None, size: tuple[int, int]) -> int:
    manifest = bundle.manifest
    if tiling is None:
        return 1
    return len(plan_tiles(*size, tiling, image_size=manifest.image_size, grid=manifest.grid))


def _distance(verdict: Verdict, size: tuple[int, int], centre: tuple[float, float]) -> float:
    shape = verdict.anomaly_map.shape
    at = np.unravel_index(verdict.anomaly_map.argmax(), shape)
    offsets = [(int(at[i]) + 0.5) * size[i] / shape[i] - centre[i] for i in (0, 1)]
    return float(np.abs(offsets).max())


def _unit(field: np.ndarray) -> np.ndarray:
    return np.asarray(field / field.std())


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the embedded backbone, as acl demo makes one.")],
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Hide a spot of 12 pixels in large frames, judge them squashed and tiled (auto), and measure memory."""
    machine, loaded = describe_machine(), load_bundle(bundle)
    found = [find_spot(loaded, surface, way, size=SIZE, seed=0) for surface in SURFACES for way in WAYS]
    memory = [measure_memory(loaded, height=height, width=width) for height, width in MEMORY_SIZES]
    typer.echo(f"{machine_line(machine)}\n\n{found_table(found)}\n\n{memory_table(memory)}")
    rows = {"found": [asdict(one) for one in found], "memory": [asdict(one) for one in memory]}
    write_json(json, {"machine": machine, **rows})


if __name__ == "__main__":
    typer.run(main)

"""What a web asks of a box, and what the box can follow: tiles per second, the tiles that keep up, and the wait.

A tile of t pixels shows the network G patches across, so that a defect of d pixels is as large as a patch at t = G · d:
the largest tile in which it is still told apart, as the tile "auto" is chosen in `images/tiles.py`. Smaller tiles show
more and cost more: the tiles per second that a web needs fall about with the square of t.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from acl_runtime.bundle.manifest import Manifest, Tiling
from acl_runtime.detection.brief import Answer
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.tiles import SMALLEST_TILE
from acl_runtime.web.plan import WebPlan, plan_web
from acl_runtime.web.records import Scale

SHARE = 0.8  # of the tiles per second that were measured, so that there is time for all else and for bursts
LARGEST = 8  # network inputs that a tile may be wide: shrunk more, nothing small is left
WARM_UP, LEAST_CALLS, MEASURE_S = 2, 5, 3.0


@dataclass(frozen=True, kw_only=True)
class WebDemand:
    """What passes the camera.

    Attributes:
        width: Pixels of a line.
        lines_per_s: Line rate.
        scale: How large lines and pixels are.
        smallest_mm: Smallest defect of interest; None if it is not known.
        bytes_per_pixel: 1 for 8 bits grey, 2 for more, 3 for colour.
        height: Lines of a block.
        overlap: Pixels that neighbouring tiles share; None for a quarter.
    """

    width: int
    lines_per_s: float
    scale: Scale
    smallest_mm: float | None = None
    bytes_per_pixel: int = 1
    height: int = 64
    overlap: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no web."""
        for name in ("width", "lines_per_s", "bytes_per_pixel", "height"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise InputError(f"{name} must be above 0, got {value}")
        if self.smallest_mm is not None and not self.smallest_mm > 0:
            raise InputError(f"smallest_mm must be above 0, got {self.smallest_mm}")

    @property
    def mb_per_s(self) -> float:
        """Of the camera's pixels, in millions of bytes."""
        return self.width * self.lines_per_s * self.bytes_per_pixel / 1e6

    @property
    def metres_per_min(self) -> float:
        """Speed of the web."""
        return self.lines_per_s * self.scale.mm_per_line * 60 / 1000


@dataclass(frozen=True, kw_only=True)
class TileChoice:
    """A tile, and what it asks for.

    Attributes:
        plan: Where its tiles lie.
        tiles_per_s: That it needs.
        patch_mm: Length of web that a patch of the network shows: smaller defects are seen as a part of one.
        wait_lines: Lines from the first of a row to its being final, without the judging.
        wait_ms: The same, with the judging of a row.
        wait_mm: What passed the camera meanwhile.
    """

    plan: WebPlan
    tiles_per_s: float
    patch_mm: float
    wait_lines: int
    wait_ms: float
    wait_mm: float


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the box can do about a web.

    Attributes:
        measured: Tiles per second that it judged, resizing among it.
        usable: Of these, what is planned with.
        finest: The smallest tile that keeps up; None if none does.
        coarsest: The largest one that still shows the smallest defect as a patch, or, where that is not known, as the
            network sees it without shrinking.
        boxes: How many such boxes or GPUs the coarsest needs; 1 if it keeps up.
        speed_share: Share of the line rate that this box follows with the coarsest; above 1 if it could be faster.
    """

    measured: float
    usable: float
    finest: TileChoice | None
    coarsest: TileChoice
    boxes: int
    speed_share: float


def weigh(demand: WebDemand, manifest: Manifest, measured: float) -> Capacity:
    """Compare what a web needs with what a box can do.

    Args:
        demand: The web.
        manifest: Of the bundle.
        measured: Tiles per second that the box judges.

    Raises:
        InputError: The smallest defect is so small that no tile shows it, or the overlap is too large.
    """
    usable = SHARE * measured
    largest = largest_tile(demand, manifest)
    coarsest = choose_tile(largest, demand, manifest, usable)
    sides = range(min(SMALLEST_TILE, largest), largest + 1)
    keeps = [side for side in sides if _needed(side, demand) <= usable]
    finest = choose_tile(keeps[0], demand, manifest, usable) if keeps else None
    return Capacity(
        measured=measured,
        usable=usable,
        finest=finest,
        coarsest=coarsest,
        boxes=max(1, math.ceil(coarsest.tiles_per_s / usable)),
        speed_share=usable / coarsest.tiles_per_s,
    )


def largest_tile(demand: WebDemand, manifest: Manifest) -> int:
    """Side of the largest tile that shows the smallest defect, in pixels."""
    if demand.smallest_mm is None:
        return manifest.image_size
    pixels = demand.smallest_mm / max(demand.scale.mm_per_pixel, demand.scale.mm_per_line)
    side = min(math.floor(manifest.grid * pixels), LARGEST * manifest.image_size)
    if side < SMALLEST_TILE:
        raise InputError(
            f"a defect of {demand.smallest_mm:g} mm is {pixels:.2g} pixels, too few for a tile to show it as a patch; "
            f"take a camera with {SMALLEST_TILE / side if side else math.inf:.2g} times the resolution"
        )
    return side


def choose_tile(side: int, demand: WebDemand, manifest: Manifest, usable: float) -> TileChoice:
    """What tiles of a side ask for."""
    plan = plan_web(demand.width, Tiling(side, demand.overlap, None), manifest)
    columns = len(plan.columns.spans)
    lines = plan.tile + demand.height
    return TileChoice(
        plan=plan,
        tiles_per_s=columns * demand.lines_per_s / plan.step,
        patch_mm=plan.tile / manifest.grid * max(demand.scale.mm_per_line, demand.scale.mm_per_pixel),
        wait_lines=lines,
        wait_ms=1000 * (lines / demand.lines_per_s + columns / usable),
        wait_mm=(lines + columns / usable * demand.lines_per_s) * demand.scale.mm_per_line,
    )


def measure_tiles_per_s(
    judge: Callable[[Sequence[np.ndarray]], list[Answer]],
    *,
    side: int,
    batch: int,
    shape: tuple[int, ...] = (),
    seconds: float = MEASURE_S,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """How many tiles a box judges in a second, from pixels to maps; the median of calls.

    Args:
        judge: Judges tiles, see `TileJudge`.
        side: Of a tile, in pixels.
        batch: Tiles of a call.
        shape: (3,) for colour, () for grey.
        seconds: Time to measure for, at least.
        clock: Seconds.

    Raises:
        FrameError: The network gives no numbers.
    """
    tiles = [*np.random.default_rng(0).integers(0, 256, (batch, side, side, *shape), dtype=np.uint8)]
    took: list[float] = []
    began = clock()
    while len(took) < WARM_UP + LEAST_CALLS or clock() - began < seconds:
        started = clock()
        answers = judge(tiles)
        took.append(clock() - started)
        for answer in answers:
            if isinstance(answer, FrameError):
                raise answer
    return batch / float(np.median(took[WARM_UP:]))


def _needed(side: int, demand: WebDemand) -> float:
    """Tiles per second of a side, as `choose_tile` counts them, without laying them out."""
    tile, across = min(side, max(demand.width, SMALLEST_TILE)), min(side, demand.width)
    overlap = tile // 4 if demand.overlap is None else demand.overlap
    if 2 * overlap > tile:
        return math.inf
    columns = 1 + -(-(demand.width - across) // (across - min(overlap, across // 2)))
    return columns * demand.lines_per_s / (tile - overlap)

"""Where to cut a large frame into tiles, and how much each tile counts where they overlap.

A frame is cut along each axis on its own, so a plan is two `Axis`: every row of tiles has the same columns.
All tiles of a plan have one size. The last one is not padded but moved inwards, and the spacing is even.

What the network sees of a tile is squashed to S×S like any frame. So a tile of S pixels is seen as the camera
gave it, a larger one shrunk, a smaller one enlarged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.bundle.manifest import Tiling, check_tiling
from acl_runtime.files.errors import FrameError, InputError

SMALLEST_TILE = 32  # pixels: less is hardly a picture any more
WHOLE_SHRINK = 2  # a frame of up to so many network inputs is not cut unless something asks for it
MOST_TILES = 100_000  # of a frame: hours on a CPU
WHOLE_ASPECT = 2  # nor one whose longer side is up to so many shorter ones, where a tile would hold it


@dataclass(frozen=True)
class Span:
    """Where a tile lies along one axis: pixels of the frame, and the pixels of the map that show them."""

    start: int
    stop: int
    map_start: int
    map_stop: int

    @property
    def pixels(self) -> slice:
        """Of the frame."""
        return slice(self.start, self.stop)

    @property
    def map_pixels(self) -> slice:
        """Of the blended map."""
        return slice(self.map_start, self.map_stop)


@dataclass(frozen=True)
class Axis:
    """How one axis of a frame is cut."""

    length: int  # of the frame, in pixels
    map_length: int  # of the blended map, in pixels
    spans: tuple[Span, ...]  # from the first pixel to the last, evenly spaced, all of one length in the frame


@dataclass(frozen=True)
class TilePlan:
    """How a frame is cut: a tile for every pair of a row span and a column span."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        """How many tiles."""
        return len(self.rows.spans) * len(self.columns.spans)

    @property
    def map_shape(self) -> tuple[int, int]:
        """Height and width of the blended map, in pixels."""
        return self.rows.map_length, self.columns.map_length


def plan_tiles(height: int, width: int, tiling: Tiling, *, image_size: int, grid: int) -> TilePlan:
    """Choose the tiles of a frame.

    Tiles are squares, so that the network sees things as they are: of the side that `tile_side` gives, or of
    the frame's shorter side where that is less. A strip of 8192 × 512 is cut into squares of 512 at most,
    which may be seen in more detail than asked for, never in less; then neighbours share half a tile at most. One
    exception: a frame that fits into a tile, and is at most twice as long as high, is one tile, squashed whole.

    With the tile "auto" and no min_defect, the side is S, which is the frame's own resolution, but a frame of
    up to 2 S pixels in each direction counts as fitting into a tile: squashing shrinks it by two at most.

    The map has the network's resolution where tiles are shrunk, and the frame's where they are enlarged.

    Args:
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        tiling: What was asked for.
        image_size: Side S of the network input, in pixels.
        grid: Patches per side of the network input, G.

    Raises:
        InputError: The sizes of the tiling do not go together.
        FrameError: The tiles would be more than `MOST_TILES`.
    """
    tile, longer = tile_side(tiling, image_size=image_size, grid=grid), max(height, width)
    if tiling.tile == "auto" and tiling.min_defect is None and longer <= WHOLE_SHRINK * image_size:
        tile = max(tile, longer)
    cuts = []
    for length, side in zip((height, width), _sides(height, width, tile), strict=True):
        overlap = side // 4 if tiling.overlap is None else tiling.overlap
        cuts.append((length, side, overlap if side == tile else min(overlap, side // 2)))
    if (count := math.prod(1 + _steps(*cut) for cut in cuts)) > MOST_TILES:
        raise FrameError(
            f"a frame of {width}×{height} pixels would be cut into {count} tiles, more than {MOST_TILES}; choose a "
            "larger tile or a smaller overlap"
        )
    return TilePlan(*(cut_axis(*cut, image_size=image_size) for cut in cuts))


def tile_side(tiling: Tiling, *, image_size: int, grid: int) -> int:
    """The side of a tile in frame pixels, where the frame is large enough for it.

    The tile "auto" is G · min_defect pixels: then a patch of the network covers min_defect pixels of the frame,
    so that the smallest defect of interest is about as large as what the network tells apart. Without min_defect
    it is S pixels, so that a patch covers as many pixels of the frame as it has.

    Args:
        tiling: What was asked for.
        image_size: Side S of the network input, in pixels.
        grid: Patches per side of the network input, G.

    Raises:
        ValueError: The sizes do not go together.
    """
    check_tiling(tiling)
    if tiling.tile == "auto":
        tile = max(SMALLEST_TILE, image_size if tiling.min_defect is None else grid * tiling.min_defect)
    elif tiling.min_defect is None:
        tile = tiling.tile
    else:
        raise InputError(
            f"min_defect must not be given beside a tile of {tiling.tile}; pass tile auto, or no min_defect"
        )
    if tile < SMALLEST_TILE:
        raise InputError(f"tile must be at least {SMALLEST_TILE} pixels, got {tile}; pass a larger one")
    if tiling.overlap is not None and tiling.overlap >= tile:
        raise InputError(
            f"overlap must be less than the tile ({tile}), got {tiling.overlap}; pass a smaller one"
        )
    return tile


def cut_axis(length: int, side: int, overlap: int, *, image_size: int) -> Axis:
    """Spread tiles evenly from edge to edge, as few as share `overlap` pixels with each neighbour at least.

    An edge of a tile lies on the map where it lies in the frame, to the nearest pixel: tiles that meet in the
    frame meet on the map, and nothing is shown more than half a map pixel away from its place.

    Args:
        length: Of the frame, in pixels.
        side: Of a tile, in pixels, up to `length`.
        overlap: Less than `side`.
        image_size: Side S of a tile's own map, in pixels.
    """
    steps = _steps(length, side, overlap)
    starts = [_nearest(step * (length - side), steps) for step in range(steps + 1)] if steps else [0]
    map_length = _nearest(length * min(side, image_size), side)
    edges = [(start, start + side) for start in starts]
    spans = [Span(*pair, *(_nearest(edge * map_length, length) for edge in pair)) for pair in edges]
    return Axis(length, map_length, tuple(spans))


def blend_weights(axis: Axis) -> list[npt.NDArray[np.float32]]:
    """How much each tile counts along one axis; those of a tile are the products of its row's and column's.

    A tile counts in proportion to the distance from its own edge, because there the network lacks what lies
    beyond. Where two tiles overlap, that is a straight ramp from one to the other.

    Returns:
        An array per span, (map pixels of the span,) float32 in (0, 1]; over all spans, those of a map pixel
        sum to 1.
    """
    distances = [_distance_to_edge(span, axis.map_length) for span in axis.spans]
    total = np.zeros(axis.map_length)
    for span, distance in zip(axis.spans, distances, strict=True):
        total[span.map_pixels] += distance
    pairs = zip(axis.spans, distances, strict=True)
    return [np.asarray(distance / total[span.map_pixels], np.float32) for span, distance in pairs]


def _sides(height: int, width: int, tile: int) -> tuple[int, int]:
    """Height and width of a tile, neither larger than the frame's."""
    shorter, longer = sorted((height, width))
    if longer <= min(tile, WHOLE_ASPECT * shorter):
        return height, width
    side = min(tile, max(shorter, SMALLEST_TILE))
    return min(side, height), min(side, width)


def _steps(length: int, side: int, overlap: int) -> int:
    """From the first tile of an axis to its last."""
    return -(-(length - side) // (side - overlap))


def _nearest(numerator: int, denominator: int) -> int:
    """The quotient of whole numbers, rounded; halves go up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _distance_to_edge(span: Span, map_length: int) -> npt.NDArray[np.float64]:
    """Of each of the span's map pixels to the nearer end of it; the ends of the map itself are none."""
    before = np.arange(0.5, span.map_stop - span.map_start, dtype=np.float64)
    after = before[::-1]
    at_start, at_stop = span.map_start == 0, span.map_stop == map_length
    if at_start and at_stop:
        return np.ones_like(before)
    return after if at_start else before if at_stop else np.asarray(np.minimum(before, after))

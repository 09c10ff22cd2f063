"""Judge a large frame tile by tile, and blend the tiles' maps into one without seams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.tiles import Span, TilePlan, blend_weights
from acl_runtime.scoring.heads import Answers

Judge = Callable[[Sequence[np.ndarray]], Answers]
"""From frames, `max_batch` at most, to `image_logits` (B,) and `anomaly_maps` (B, S, S) in [0, 1]."""


@dataclass(frozen=True)
class Part:
    """A tile's place along one axis, and its weights there: (map pixels of the span,) float32."""

    span: Span
    weights: npt.NDArray[np.float32]


def judge_tiled(
    frame: np.ndarray, plan: TilePlan, judge: Judge, *, max_batch: int
) -> tuple[float, npt.NDArray[np.float32]]:
    """Judge a frame's tiles in batches; a batch is dropped as soon as it is in the map.

    The answer does not depend on `max_batch`, other than through what the judge itself rounds. The frame's
    log-odds are the largest of any tile: a frame is as bad as its worst part. More tiles are more chances of a
    false alarm, so thresholds hold for the tiling that they were measured with.

    Args:
        frame: (H, W[, 3|4]), of the size that the plan was made for.
        plan: Where the tiles are.
        judge: Says what it thinks of each tile.
        max_batch: Most tiles to judge at once.

    Returns:
        The frame's log-odds, and its map, (h, w) float32 in [0, 1] with the plan's `map_shape`.
    """
    planned = plan.rows.length, plan.columns.length
    if frame.shape[:2] != planned:
        raise ValueError(f"frame must have the plan's size {planned}, got {frame.shape[:2]}")
    tiles = list(product(*(_parts(axis.spans, blend_weights(axis)) for axis in (plan.rows, plan.columns))))
    blended, highest = np.zeros(plan.map_shape, np.float32), -np.inf
    for start in range(0, len(tiles), max_batch):
        batch = tiles[start : start + max_batch]
        image_logits, maps = judge([frame[row.span.pixels, column.span.pixels] for row, column in batch])
        highest = max(highest, float(image_logits.max()))
        for (row, column), tile_map in zip(batch, maps, strict=True):
            _add(blended, tile_map, row, column)
    return highest, np.clip(blended, 0, 1, out=blended)  # rounding only: weights sum to 1


def _parts(spans: Sequence[Span], weights: Sequence[npt.NDArray[np.float32]]) -> list[Part]:
    return [Part(*pair) for pair in zip(spans, weights, strict=True)]


def _add(blended: npt.NDArray[np.float32], tile_map: np.ndarray, row: Part, column: Part) -> None:
    """Add a tile's map, (S, S), weighted, at its place in the blended one."""
    size = len(column.weights), len(row.weights)
    shrinks = min(size) < len(tile_map) - 1  # by one pixel or none it is only fitted into rounded edges
    placed = cv2.resize(tile_map, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    blended[row.span.map_pixels, column.span.map_pixels] += row.weights[:, None] * placed * column.weights

"""Cut a large frame into tiles, and blend the tiles' maps into one without seams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.tiles import Span, TilePlan, blend_weights


@dataclass(frozen=True)
class Part:
    """A tile's place along one axis, and its weights there: (map pixels of the span,) float32."""

    span: Span
    weights: npt.NDArray[np.float32]


Place = tuple[Part, Part]
"""Where a tile lies: its row and its column."""


def cut(frame: np.ndarray, place: Place) -> np.ndarray:
    """The tile at a place of a frame, (H, W[, 3|4]); a view."""
    row, column = place
    return frame[row.span.pixels, column.span.pixels]


class Blend:
    """The map of a frame that is cut into tiles; a tile's map can be dropped as soon as it is added."""

    def __init__(self, plan: TilePlan) -> None:
        """Begin with the plan of the frame; memory for the map is taken with the first tile."""
        self._rows, self._columns = (
            _parts(axis.spans, blend_weights(axis)) for axis in (plan.rows, plan.columns)
        )
        self._shape = plan.map_shape
        self._blended: npt.NDArray[np.float32] | None = None

    @property
    def places(self) -> Iterator[Place]:
        """Where the tiles lie, row by row."""
        return product(self._rows, self._columns)

    def add(self, tile_map: np.ndarray, place: Place) -> None:
        """Add a tile's map, (S, S) float32, weighted, at its place."""
        if self._blended is None:
            self._blended = np.zeros(self._shape, np.float32)
        row, column = place
        size = len(column.weights), len(row.weights)
        shrinks = min(size) < len(tile_map) - 1  # by one pixel or none it is only fitted into rounded edges
        placed = cv2.resize(tile_map, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        here = self._blended[row.span.map_pixels, column.span.map_pixels]
        here += row.weights[:, None] * placed * column.weights

    def finish(self) -> npt.NDArray[np.float32]:
        """The frame's map once all tiles are added, (h, w) float32 in [0, 1] with the plan's `map_shape`."""
        if self._blended is None:
            raise ValueError("a blend needs the maps of all its tiles, got none")
        return np.clip(self._blended, 0, 1, out=self._blended)  # rounding only: weights sum to 1


def _parts(spans: Sequence[Span], weights: Sequence[npt.NDArray[np.float32]]) -> list[Part]:
    return [Part(*pair) for pair in zip(spans, weights, strict=True)]

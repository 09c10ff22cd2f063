"""The map of a web out of its tiles' maps: every map line is final once, a row of tiles after it began at the latest.

Across, tiles count as in `images/tiles.py`. Along, a tile counts in proportion to the distance from its own edge too,
which is a straight ramp where two rows overlap: since no two share more than half, it is the ramp that `blend_weights`
gives for the whole strip. Up to three rows overlap behind a gap, so that a line keeps what its rows count so far.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.tiles import Span, blend_weights
from acl_runtime.web.buffer import LineBuffer
from acl_runtime.web.plan import WebPlan

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Piece:
    """A stretch of a row's map that one tile writes, or adds to what the one before wrote."""

    column: int  # of the tile
    source: slice  # of the tile's map, fitted to its span
    target: slice  # of the row's
    weights: Floats | None  # None: it counts alone
    adds: bool


class WebBlend:
    """Rows of tile maps go in, final map lines come out; between them it holds the tail of the last rows."""

    def __init__(self, plan: WebPlan, *, keep: int) -> None:
        """Take memory for a row, and for `keep` map lines that are final and may still be looked at."""
        self._plan = plan
        self._pieces = _cut_pieces(plan.columns.spans, blend_weights(plan.columns), plan.map_width)
        self._lines = LineBuffer(keep + 2 * plan.map_tile, (plan.map_width,), np.float32)
        self._counts = LineBuffer(self._lines.hold, (), np.float64)  # what the rows so far count on each line
        self._is_first = True
        self.final = 0  # map line that is not final yet, the first
        middle = np.arange(0.5, plan.map_tile)
        self._distance = np.minimum(middle, middle[::-1])  # of a row's map lines to its nearer edge

    def begin(self, line: int) -> None:
        """Begin a strip at a line of the web."""
        self.final = self._plan.map_line(line)
        self._lines.begin(self.final)
        self._counts.begin(self.final)
        self._is_first = True

    def add(self, start: int, maps: Sequence[np.ndarray], *, is_moved: bool = False) -> None:
        """Add a row.

        Args:
            start: First line of it.
            maps: Of its tiles, from left to right, (S, S) float32 each.
            is_moved: Whether it ends the strip and was moved back for that. What is final of the lines that it covers
                stays; from there on it counts as if it began there, so that no edge is seen.
        """
        size = self._plan.map_tile
        first = self._plan.map_line(start)
        begin = max(first, self.final)
        distance = self._distance
        if self._is_first:
            distance = np.arange(size - 0.5, 0, -1)
        elif is_moved:
            distance = np.arange(first - begin + 0.5, first - begin + size)
        offset, filled = begin - first, self._lines.stop
        if filled > begin:  # rows before it reach so far
            shared = np.empty((filled - begin, self._plan.map_width), np.float32)
            self._write(shared, maps, slice(offset, filled - first))
            self._mix(begin, shared, distance[offset : filled - first])
        fresh = self._lines.reserve(first + size - filled)
        self._write(fresh, maps, slice(filled - first, size))
        self._counts.append(distance[filled - first :])
        self._is_first = False

    def take(self, line: int) -> Floats:
        """The map lines up to a line of the web, final from now on: (n, map width) float32, its own memory.

        Rounding may leave a value above 1 by a few of its last bits.
        """
        first, self.final = self.final, max(self.final, self._plan.map_line(line))
        return self.view(first, self.final)

    def view(self, first: int, stop: int) -> Floats:
        """Map lines that are still held; see `kept`."""
        return np.asarray(self._lines.view(first, stop), np.float32)

    @property
    def kept(self) -> int:
        """Number of the first map line that is held."""
        return self._lines.first

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self._lines.nbytes + self._counts.nbytes

    def _write(self, target: np.ndarray, maps: Sequence[np.ndarray], rows: slice) -> None:
        """Write a stretch of a row's map, from its tiles'."""
        column, fitted = -1, maps[0]
        for piece in self._pieces:
            if piece.column != column:
                column = piece.column
                fitted = self.fit(maps[column], self._plan.columns.spans[column])
            source, place = fitted[rows, piece.source], target[:, piece.target]
            if piece.weights is None:
                place[:] = source
            elif piece.adds:
                place += source * piece.weights
            else:
                np.multiply(source, piece.weights, out=place)

    def fit(self, tile_map: np.ndarray, span: Span) -> np.ndarray:
        """A tile's map at the size that it has on the web's, as `Blend.add` does."""
        size = span.map_stop - span.map_start, self._plan.map_tile
        if tile_map.shape == size[::-1]:
            return tile_map
        shrinks = min(size) < len(tile_map) - 1
        return np.asarray(
            cv2.resize(tile_map, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        )

    def _mix(self, first: int, lines: Floats, distance: npt.NDArray[np.float64]) -> None:
        """Average lines into those of earlier rows."""
        before = np.asarray(self._counts.view(first, first + len(lines)), np.float64)
        total = before + distance
        held = self.view(first, first + len(lines))
        held *= np.asarray(before / total, np.float32)[:, None]
        lines *= np.asarray(distance / total, np.float32)[:, None]
        held += lines
        self._counts.view(first, first + len(lines))[:] = total


def _cut_pieces(spans: Sequence[Span], weights: Sequence[Floats], width: int) -> list[_Piece]:
    """The stretches between all edges of spans, column by column."""
    edges = sorted({0, width, *(edge for span in spans for edge in (span.map_start, span.map_stop))})
    pieces, written = [], 0
    for column, (span, own) in enumerate(zip(spans, weights, strict=True)):
        inside = [edge for edge in edges if span.map_start <= edge <= span.map_stop]
        for left, right in itertools.pairwise(inside):
            source = slice(left - span.map_start, right - span.map_start)
            alone = bool((own[source] == 1).all())
            pieces.append(
                _Piece(column, source, slice(left, right), None if alone else own[source], left < written)
            )
        written = max(written, span.map_stop)
    return pieces

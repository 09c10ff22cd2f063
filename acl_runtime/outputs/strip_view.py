"""The newest metres of a web as a small picture: filled by the thread that judges, read by whoever shows it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

ACROSS = 160  # pixels of the picture across the web, at most
MOST_ROWS = 4000  # along it
OF_A_PIXEL = 4  # of the camera's that a pixel of the picture is the mean of, at least
GAP = 0  # grey of what was not judged


@dataclass(frozen=True, kw_only=True, eq=False)
class StripPiece:
    """Rows of the picture.

    Attributes:
        strip: Which web they are of; another number begins with its row 0.
        first: Number of the first row.
        lines_per_row: Lines of the web in a row, from the start of the roll.
        rows: (n, w) uint8, grey; a row is across the web.
    """

    strip: int
    first: int
    lines_per_row: int
    rows: npt.NDArray[np.uint8]


class StripView:
    """A ring of rows; a row is the mean of a few lines, about as long as a pixel is wide."""

    def __init__(self) -> None:
        """Begin without a web."""
        self._lock = threading.Lock()
        self._strip, self._across, self._per_row = 0, 1, 1
        self._ring = np.zeros((MOST_ROWS, 1), np.uint8)
        self._stop = 0  # row behind the newest

    def begin(self, width: int, *, lines_per_pixel: float) -> None:
        """Begin another roll.

        Args:
            width: Pixels of a line.
            lines_per_pixel: Lines of the web that are as long as a pixel is wide.
        """
        across = min(width, ACROSS)
        with self._lock:
            self._strip += 1
            self._across, self._stop = across, 0
            self._per_row = max(1, round(width / across * lines_per_pixel))
            self._ring = np.full((MOST_ROWS, across), GAP, np.uint8)

    def add(self, first: int, lines: npt.NDArray[np.uint8]) -> None:
        """Take lines that are judged; see `SeeLines`.

        Args:
            first: Number of the first, never below those before.
            lines: (n, W) or (n, W, 3) uint8, n at least 1.
        """
        few = lines[
            :, :: max(1, lines.shape[1] // (OF_A_PIXEL * self._across))
        ]  # all would cost milliseconds
        small = np.asarray(
            cv2.resize(np.ascontiguousarray(few), (self._across, len(lines)), interpolation=cv2.INTER_AREA)
        )
        if small.ndim == 3:
            small = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
        row, stop = first // self._per_row, (first + len(small) - 1) // self._per_row + 1
        begins = np.maximum(np.arange(row, stop) * self._per_row - first, 0)
        counts = np.diff(begins, append=len(small))
        means = (np.add.reduceat(small.astype(np.uint32), begins) // counts[:, None]).astype(np.uint8)
        with self._lock:
            gap = np.arange(max(self._stop, row - MOST_ROWS), row)
            self._ring[gap % MOST_ROWS] = GAP
            newest = np.arange(row, stop)[-MOST_ROWS:]
            self._ring[newest % MOST_ROWS] = means[-MOST_ROWS:]
            self._stop = stop

    def after(self, strip: int, row: int) -> StripPiece:
        """The rows from one on that are still there, of this strip; all, if it is another, or never had as many."""
        with self._lock:
            is_known = strip == self._strip and row <= self._stop
            first = max(row if is_known else 0, self._stop - MOST_ROWS, 0)
            rows = self._ring[np.arange(first, self._stop) % MOST_ROWS]
            return StripPiece(strip=self._strip, first=first, lines_per_row=self._per_row, rows=rows)

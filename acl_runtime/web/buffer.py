"""The last lines of a web in one piece of memory, so that any stretch of them is an array without copying."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class LineBuffer:
    """Lines by their absolute numbers; old ones make room for new ones.

    It takes `2 * hold` lines of memory once, and never more: when the end is reached, the lines that are held go to the
    front, which costs a copy of each line at most.
    """

    def __init__(self, hold: int, line_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        """Make room.

        Args:
            hold: Number of lines that can be seen at any time.
            line_shape: Of a line, (W,) or (W, 3).
            dtype: Of its pixels.
        """
        self.hold = hold
        self._lines = np.empty((2 * hold, *line_shape), dtype)
        self._at = 0  # where line `first` lies
        self.first = self.stop = 0  # numbers of the first line that is held, and of the one behind the last

    def begin(self, line: int) -> None:
        """Forget all; the next line has this number."""
        self._at, self.first, self.stop = 0, line, line

    def reserve(self, count: int) -> npt.NDArray[np.generic]:
        """Append lines that the caller writes, up to `hold` of them: (count, ...), their memory."""
        if count > self.hold:
            raise ValueError(f"count must be at most {self.hold}, which the buffer holds, got {count}")
        surplus = max(0, self.stop - self.first + count - self.hold)
        self._at, self.first = self._at + surplus, self.first + surplus
        end = self._at + self.stop - self.first
        if end + count > len(self._lines):
            held = end - self._at  # fewer than `at`, so that both ends lie apart
            self._lines[:held] = self._lines[self._at : end]
            self._at, end = 0, held
        self.stop += count
        return self._lines[end : end + count]

    def append(self, lines: np.ndarray) -> None:
        """Append lines, (n, ...)."""
        self.reserve(len(lines))[:] = lines

    def view(self, first: int, stop: int) -> npt.NDArray[np.generic]:
        """Lines that are held, (stop - first, ...), their memory: valid until the next `reserve`."""
        if not self.first <= first <= stop <= self.stop:
            raise ValueError(f"lines must lie in {self.first}..{self.stop}, got {first}..{stop}")
        start = self._at + first - self.first
        return self._lines[start : start + stop - first]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self._lines.nbytes

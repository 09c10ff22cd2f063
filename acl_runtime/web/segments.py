"""Stretches of a web of one length, and the largest values on each: what the thresholds of a web are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.web.account import Lost
from acl_runtime.web.records import Event, Judged


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch that was judged from end to end.

    Attributes:
        first: First line.
        stop: Line behind the last one.
        score: Largest probability of the tiles that show any of it, in [0, 1].
        peak: Largest value of the map on it, in [0, 1]; a stretch of the map that reaches into two counts for both.
        brightness: See `Appearance`, of its parts on average.
        sharpness: The same.
    """

    first: int
    stop: int
    score: float
    peak: float
    brightness: float
    sharpness: float


@dataclass
class _Open:
    """What is known of a segment so far."""

    judged: int = 0  # lines
    score: float = 0.0
    peak: float = 0.0
    brightness: float = 0.0  # times lines
    sharpness: float = 0.0


class Segments:
    """From what an engine tells to segments, each once all that shows it is known.

    Segment j covers the lines [j · lines, (j + 1) · lines); one of which a line was not judged is left out.
    """

    def __init__(self, lines: int) -> None:
        """Begin at line 0 with segments of so many lines."""
        if lines < 1:
            raise InputError(f"a segment must be at least 1 line, got {lines}; make it longer")
        self.left_out = 0
        self._lines = lines
        self._open: dict[int, _Open] = {}
        self._appearance = (0.0, 0.0)  # of the lines that are told as judged next

    def see_lines(self, first: int, lines: npt.NDArray[np.uint8]) -> None:
        """Look at lines that are told as judged next; for `WebEngine`."""
        seen = measure_appearance(lines)
        self._appearance = seen.brightness, seen.sharpness

    def add(self, event: Event) -> Iterator[Segment]:
        """The segments that are complete with an event."""
        if isinstance(event, Judged):
            for number in range(event.first // self._lines, -(-event.row_stop // self._lines)):
                own = self._open.setdefault(number, _Open())
                own.score = max(own.score, event.score)
                start, stop = number * self._lines, (number + 1) * self._lines
                count = max(0, min(stop, event.stop) - max(start, event.first))
                if count:
                    own.judged += count
                    own.peak = max(own.peak, event.peak)
                    own.brightness += count * self._appearance[0]
                    own.sharpness += count * self._appearance[1]
            yield from self._close(event.stop)
        elif isinstance(event, Lost):
            yield from self._close(event.stop)

    def _close(self, line: int) -> Iterator[Segment]:
        """Segments that end at a line or before it."""
        for number in sorted(number for number in self._open if (number + 1) * self._lines <= line):
            own = self._open.pop(number)
            if own.judged == self._lines:
                yield Segment(
                    first=number * self._lines,
                    stop=(number + 1) * self._lines,
                    score=own.score,
                    peak=own.peak,
                    brightness=own.brightness / self._lines,
                    sharpness=own.sharpness / self._lines,
                )
            elif own.judged:
                self.left_out += 1

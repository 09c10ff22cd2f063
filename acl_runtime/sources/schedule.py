"""When a replayed line camera exposes each line: rates, acceleration and standstills."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from acl_runtime.files.errors import InputError


@dataclass(frozen=True)
class _Stretch:
    """Lines whose rate changes evenly from line to line, as when a drive speeds up."""

    line: float  # where it begins
    time: float  # seconds from the start to there
    rate: float  # lines per second there
    slope: float  # change of the rate per line

    def time_of(self, line: float) -> float:
        ahead = line - self.line
        if self.slope == 0:
            return self.time + ahead / self.rate
        return self.time + math.log1p(self.slope * ahead / self.rate) / self.slope  # from dt = dn / rate(n)

    def line_at(self, time: float) -> float:
        ahead = time - self.time
        if self.slope == 0:
            return self.line + ahead * self.rate
        return self.line + math.expm1(self.slope * ahead) * self.rate / self.slope


class Schedule:
    """Times of lines, in seconds from line 0 on."""

    def __init__(self, rate: str, stop: str, text: str) -> None:
        """Read what the user wrote.

        Args:
            rate: Lines per second, such as `10000`; or rates at lines, such as `2000@0,10000@50000`: between them it
                changes evenly from line to line, and after the last it stays. 0: as fast as lines are read.
            stop: Standstills, as `LINE:SECONDS,LINE:SECONDS`; the line is the first one after it. Empty for none.
            text: What to call it in messages.

        Raises:
            InputError: It is neither.
        """
        rates = _read_pairs(rate if "@" in rate else f"{rate}@0", "@", f"{text}: rate")
        points = [(line, value) for value, line in rates]
        stops = [(line, seconds) for line, seconds in _read_pairs(stop, ":", f"{text}: stop")] if stop else []
        for what, lines in (("rate", [line for line, _ in points]), ("stop", [line for line, _ in stops])):
            if lines != sorted(set(lines)) or lines[0] < 0 if lines else False:
                raise InputError(f"{text}: {what} must name lines in order, none twice")
        if points[0][0] != 0:
            raise InputError(f"{text}: rate must begin at line 0, such as 2000@0,10000@50000")
        self.is_timed = points != [(0, 0)]
        if self.is_timed and min(value for _, value in points) <= 0:
            raise InputError(
                f"{text}: rate must be above 0 at every line; write a standstill as stop=LINE:SECONDS"
            )
        if not self.is_timed and stops:
            raise InputError(f"{text}: stop needs a rate, such as rate=10000")
        self._stretches = _stretches(points, stops) if self.is_timed else []
        self._lines = [stretch.line for stretch in self._stretches]
        self._times = [stretch.time for stretch in self._stretches]

    def time_of(self, line: int) -> float:
        """Seconds from the start at which a line is exposed; that of line 0 is 0, or what it stands before."""
        return self._stretches[_place(self._lines, line)].time_of(line)

    def lines_until(self, time: float) -> int:
        """How many lines have been exposed so many seconds after the start; the inverse of `time_of`."""
        index = _place(self._times, time)
        line = self._stretches[index].line_at(time)
        if index + 1 < len(self._stretches):
            line = min(line, self._lines[index + 1])  # it stands there
        count = max(0, math.floor(line))
        while count and self.time_of(count - 1) > time:  # what rounding added
            count -= 1
        while self.time_of(count) <= time:
            count += 1
        return count


def _stretches(points: list[tuple[float, float]], stops: list[tuple[float, float]]) -> list[_Stretch]:
    marks = sorted({line for line, _ in points} | {line for line, _ in stops})
    waits = dict(stops)
    made: list[_Stretch] = []
    for mark in marks:
        time = (made[-1].time_of(mark) if made else 0.0) + waits.get(mark, 0.0)
        index = _place([line for line, _ in points], mark)
        (line, rate), slope = points[index], 0.0
        if index + 1 < len(points):
            next_line, next_rate = points[index + 1]
            slope = (next_rate - rate) / (next_line - line)
        made.append(_Stretch(mark, time, rate + slope * (mark - line), slope))
    return made


def _place(values: list[float], value: float) -> int:
    """Index of the last of the rising values that is not above `value`; 0 if all are."""
    return max(0, bisect.bisect_right(values, value) - 1)


def _read_pairs(text: str, separator: str, what: str) -> list[tuple[float, float]]:
    pairs = []
    for part in text.split(","):
        try:
            one, other = (float(number) for number in part.split(separator))
            if not (math.isfinite(one) and math.isfinite(other)):
                raise ValueError
        except ValueError as error:
            wanted = f"NUMBER{separator}NUMBER"
            raise InputError(f"{what} must be numbers such as {wanted},{wanted}, got {part}") from error
        pairs.append((one, other))
    return pairs

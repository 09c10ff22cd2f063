"""What a station counts, for its status."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from acl_runtime.outputs.station import PartResult

_LATENCIES = 1000  # of the last parts


@dataclass(frozen=True)
class Counts:
    """Counts since they were reset; see `StationStatus`."""

    judged: int = 0
    ng: int = 0
    not_judged: int = 0
    lines_lost: int = 0
    defects: int = 0
    p99_ms: float = 0.0


class Counters:
    """Counts of parts and of a web; for any thread."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin again at zero."""
        with self._lock:
            self._verdicts = {"ok": 0, "ng": 0, "not judged": 0}
            self._lines_lost = self._defects = 0
            self._latencies: deque[float] = deque(maxlen=_LATENCIES)

    def count(self, part: PartResult) -> None:
        """Count a part."""
        with self._lock:
            self._verdicts[part.verdict] += 1
            if part.verdict != "not judged":
                self._latencies.append(part.latency_ms)

    def lose_lines(self, lines: int) -> None:
        """Count lines of a web that were not judged."""
        with self._lock:
            self._lines_lost += lines

    def set_defects(self, defects: int) -> None:
        """Take the defects of the roll that runs."""
        with self._lock:
            self._defects = defects

    @property
    def counts(self) -> Counts:
        """All of them, of one moment."""
        with self._lock:
            verdicts = self._verdicts
            return Counts(
                judged=verdicts["ok"] + verdicts["ng"],
                ng=verdicts["ng"],
                not_judged=verdicts["not judged"],
                lines_lost=self._lines_lost,
                defects=self._defects,
                p99_ms=float(np.percentile(self._latencies, 99)) if self._latencies else 0.0,
            )

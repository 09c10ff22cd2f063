"""Times two ways of computing the same thing in turn, so that whatever disturbs one disturbs the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

PAUSE_S = 0.01  # before each call, as between a camera's frames


class Clock(NamedTuple):
    """How long something took, in seconds."""

    wall_s: float
    cpu_s: float  # of all threads of this process; hardly moved by what else the machine does


@dataclass(frozen=True)
class Pairs:
    """Times of N turns; in each, the reference and ours worked on the same input.

    Attributes:
        reference: (N, 2) float64, seconds: wall, CPU.
        ours: (N, 2) float64, seconds: wall, CPU.
    """

    reference: np.ndarray
    ours: np.ndarray

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the ratio of the medians by the wall clock."""
        return float(np.median(self.reference[:, 0]) / np.median(self.ours[:, 0]))

    @property
    def quiet_ratio(self) -> float:
        """The ratio of the fastest tenths by the wall clock: what a machine with other work shows of an idle one."""
        reference, ours = (np.percentile(times[:, 0], 10) for times in (self.reference, self.ours))
        return float(reference / ours)

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and 90th percentile of the turns' own ratios, by the wall clock."""
        low, high = np.percentile(self.reference[:, 0] / self.ours[:, 0], [10, 90])
        return float(low), float(high)


def clock(call: Callable[[], object]) -> Clock:
    """Time one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Clock(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(
    reference: Callable[[int], object], ours: Callable[[int], object], *, turns: int, warm_up: int = 3
) -> Pairs:
    """Time both on each input, the first one changing every turn.

    Args:
        reference: Takes the number of the turn.
        ours: Takes the number of the turn.
        turns: That are counted.
        warm_up: Turns before them.
    """
    times = np.array([_one_turn(reference, ours, turn) for turn in range(-warm_up, turns)])
    return Pairs(times[warm_up:, 0], times[warm_up:, 1])


def _one_turn(
    reference: Callable[[int], object], ours: Callable[[int], object], turn: int
) -> tuple[Clock, Clock]:
    if turn % 2:
        first = _after_pause(reference, turn)
        return first, _after_pause(ours, turn)
    first = _after_pause(ours, turn)
    return _after_pause(reference, turn), first


def _after_pause(call: Callable[[int], object], turn: int) -> Clock:
    """Without it the other side's idle threads are still spinning and hold the cores that this side needs."""
    time.sleep(PAUSE_S)
    return clock(lambda: call(turn))

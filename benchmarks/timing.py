"""Times two ways of computing the same thing in turn, so that whatever disturbs one disturbs the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

SETTLE_S = 0.05  # of uncounted calls before each block


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
    reference: Callable[[int], object], ours: Callable[[int], object], *, turns: int, block: int = 10
) -> Pairs:
    """Time both on each input, in alternating blocks, of which the first one changes every time.

    Args:
        reference: Takes the number of the turn.
        ours: Takes the number of the turn.
        turns: Timed calls of each.
        block: Calls of the one before the other goes on.
    """
    times: dict[Callable[[int], object], list[Clock]] = {reference: [], ours: []}
    for first in range(0, turns, block):
        for call in list(times) if first // block % 2 else list(times)[::-1]:
            times[call] += time_block(call, range(first, min(first + block, turns)))
    return Pairs(np.array(times[reference]), np.array(times[ours]))


def time_block(call: Callable[[int], object], turns: range) -> list[Clock]:
    """Time a call for each turn.

    Uncounted calls come first: until then the other side's idle threads spin on the cores we need.
    """
    settled = time.perf_counter() + SETTLE_S
    while time.perf_counter() < settled:
        call(turns[0])
    return [clock(partial(call, turn)) for turn in turns]

"""An axis of probabilities in log-odds, where 0.9 and 0.9999 lie as far apart as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.calibration.report import LIMIT, TICKS
from acl_runtime.scoring.rule import log_odds
from acl_runtime.text.percent import probability

BINS = 40
LEAST = 0.3  # log-odds that the axis goes on beyond the outermost values
EDGE = 0.03  # share of the axis at its right end where a label would be cut off
GAP = 12  # share of the axis, one in so many, that a label of usual length needs
MORE_TICKS = (  # where there is room
    *(1e-4, 0.9999, 1e-5, 0.99999, 1e-6, 0.999999, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6),
    *(0.05, 0.95, 0.02, 0.98, 0.005, 0.995, 0.002, 0.998),
)


@dataclass(frozen=True)
class OddsAxis:
    """Where an axis begins and ends, and its bins."""

    edges: npt.NDArray[np.float64]  # (B + 1,) ascending log-odds; the threshold is one of them

    @property
    def low(self) -> float:
        """Its left end, log-odds."""
        return float(self.edges[0])

    @property
    def high(self) -> float:
        """Its right end, log-odds."""
        return float(self.edges[-1])

    def ticks(self) -> list[tuple[float, str]]:
        """Log-odds and their probabilities as text: round ones that have room, else two others."""
        span = self.high - self.low
        chosen: list[float] = []
        for tick in (0.5, *TICKS, *MORE_TICKS):
            place = log_odds(tick)
            room = span / GAP * max(1.0, len(_text(tick)) / 5)
            if self.low <= place <= self.high - EDGE * span and all(
                abs(place - log_odds(other)) >= room for other in chosen
            ):
                chosen.append(tick)
        if len(chosen) > 1:
            return [(log_odds(tick), _text(tick)) for tick in sorted(chosen)]
        return [
            (place, probability(to_probability(place)))
            for place in (self.low + 0.1 * span, self.high - 0.1 * span)
        ]


def fit_axis(groups: Sequence[np.ndarray], threshold: float) -> OddsAxis:
    """An axis of some BINS bins that holds all the probabilities and the threshold, which parts two bins."""
    limit = float(to_odds(np.array([threshold]))[0])
    values = np.concatenate([*(to_odds(group) for group in groups), [limit]])
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) / BINS, LEAST)
    width = (high - low + 2 * margin) / BINS
    first, last = math.floor((low - margin - limit) / width), math.ceil((high + margin - limit) / width)
    return OddsAxis(limit + width * np.arange(first, last + 1, dtype=np.float64))


def to_odds(probabilities: np.ndarray) -> npt.NDArray[np.float64]:
    """(N,) log-odds of (N,) probabilities, those beyond LIMIT at it."""
    odds = np.array([log_odds(value) for value in probabilities.tolist()], np.float64)
    return np.clip(odds, -LIMIT, LIMIT)


def to_probability(odds: float) -> float:
    """The probability that has these log-odds."""
    return 1 / (1 + math.exp(-odds))


def _text(tick: float) -> str:
    return f"{tick:.6f}".rstrip("0")

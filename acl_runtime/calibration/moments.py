"""Count, sum and products of vectors: all that a mean and leading directions need, added up piece by piece.

Sums are in float64, each with what rounding left of it (Neumaier's compensation), so that a year of updates ends where
all frames at once would. The vectors themselves are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.scoring.memory_kinds import Floats

Doubles = npt.NDArray[np.float64]

EXPLAINED = (
    0.99  # share of the variance that the leading directions hold, as in SubspaceAD (arXiv 2602.23013)
)


@dataclass(frozen=True)
class Sum:
    """A sum of float64 arrays, any shape, and what rounding left of it."""

    rounded: Doubles
    rest: Doubles

    @property
    def value(self) -> Doubles:
        """The sum."""
        total: Doubles = self.rounded + self.rest
        return total

    def __add__(self, other: Sum) -> Sum:
        """The sum of both."""
        rounded = self.rounded + other.rounded
        part = rounded - self.rounded
        lost = (self.rounded - (rounded - part)) + (other.rounded - part)
        return Sum(rounded, self.rest + other.rest + lost)


@dataclass(frozen=True)
class Moments:
    """Of vectors in each layer."""

    count: int
    total: Sum  # (L, D)
    products: Sum  # (L, D, D), symmetric

    def __add__(self, other: Moments) -> Moments:
        """The moments of the vectors of both."""
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)


def measure_moments(vectors: Floats) -> Moments:
    """Return the moments of vectors, (P, L, D) float32."""
    doubles = vectors.astype(np.float64).swapaxes(0, 1)  # (L, P, D)
    return Moments(len(vectors), exact(doubles.sum(axis=1)), exact(doubles.swapaxes(1, 2) @ doubles))


def exact(values: Doubles) -> Sum:
    """Return a sum of one term."""
    return Sum(values, np.zeros_like(values))


def add_up(moments: Sequence[Moments]) -> Moments:
    """Return the moments of all vectors of several, one at least."""
    total = moments[0]
    for each in moments[1:]:
        total = total + each
    return total


def leading_directions(moments: Moments, *, explained: float = EXPLAINED) -> tuple[Floats, Floats]:
    """Return mean and leading directions of vectors.

    In each layer there are as many directions as hold the share `explained` of the variance, and one fewer than there
    are dimensions at most, so that something can lie outside.

    Args:
        moments: Of the vectors.
        explained: Share of the variance.

    Returns:
        (L, D) and (L, D, R) float32; orthonormal columns, zeros after those that a layer needs.
    """
    mean = moments.total.value / moments.count  # (L, D)
    covariance = moments.products.value / moments.count - mean[:, :, None] * mean[:, None, :]
    values, vectors = np.linalg.eigh(covariance)  # ascending
    values, vectors = np.maximum(values[:, ::-1], 0), vectors[:, :, ::-1]
    held = np.cumsum(values, axis=1)
    most = min(moments.count, covariance.shape[1]) - 1
    needed = 1 + (held < explained * held[:, -1:]).sum(axis=1)  # (L,)
    counts = np.where(held[:, -1] > 0, np.minimum(needed, max(most, 1)), 1)
    largest = int(counts.max())
    kept = np.arange(largest) < counts[:, None]  # (L, R)
    return mean.astype(np.float32), np.float32(vectors[:, :, :largest] * kept[:, None, :])


@dataclass(frozen=True)
class Spread:
    """Of numbers: how many, their mean, and the sum of squares of what they differ from it by."""

    count: int
    mean: float
    squares: float

    def __add__(self, other: Spread) -> Spread:
        """That of the numbers of both."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        squares = self.squares + other.squares + step**2 * self.count * other.count / count
        return Spread(count, self.mean + step * other.count / count, squares)

    @property
    def deviation(self) -> float:
        """Standard deviation; 0 of no numbers."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


NO_SPREAD = Spread(0, 0.0, 0.0)


def measure_spread(values: np.ndarray) -> Spread:
    """Return the spread of numbers, any shape."""
    doubles = values.astype(np.float64)
    if not doubles.size:
        return NO_SPREAD
    return Spread(doubles.size, float(doubles.mean()), float(((doubles - doubles.mean()) ** 2).sum()))

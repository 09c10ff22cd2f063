"""Shares and probabilities as people read them."""

from __future__ import annotations

import math


def percent(share: float | None, *, dash: str = "-") -> str:
    """One decimal, without the sign; a dash for None."""
    return dash if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A signed difference in percentage points; nothing for None."""
    return "" if difference is None else f"{100 * difference:+.1f}".replace("-0.0", "+0.0")


def counted_share(count: int, total: int, *, dash: str = "-") -> str:
    """A count and what part of the total that is; a dash for a part of nothing."""
    return f"{count} ({percent(count / total)} %)" if total else dash


def probability(value: float) -> str:
    """Three decimals; more close to 0 and 1, so that 0.99976 is not called 1."""
    distance = min(value, 1 - value)
    decimals = 3 if distance <= 0 else max(3, min(6, 2 + math.floor(-math.log10(distance))))
    return f"{value:.{decimals}f}"

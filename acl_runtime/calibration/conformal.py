"""Thresholds from good parts alone, with a promise of how many good parts they reject.

Let m values of good parts be drawn as those of later good parts will be, and let the threshold lie just above
the (m - j)-th smallest, so that j of them are rejected. The share R of later good parts that is rejected is then
distributed as Beta(j + 1, m - j), whatever the distribution of the values (ties only make it smaller), so that

    P(R > a) = P(Binomial(m, a) <= j).

If c of the m parts are in truth defective, the other m - c still are good ones, at most j of which are rejected,
whatever the values of the c: P(R > a) <= P(Binomial(m - c, a) <= j). Fewer hidden defects than c mean more good
parts and a smaller probability, so c is the worst case. With j >= c the threshold is never above all good parts
because of a hidden defect.

Some of the images are not among the m: they make one value out of two, see `thresholds.py`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from acl_runtime.files.errors import InputError

LEAST_IMAGES = 20  # the best that these can promise, at 95 %, is 17 %
SCALE_IMAGES = 20  # a spread to 26 % of itself (one standard error, Gaussian), for 6 % more images at 1 %
SCALE_SHARE = 5  # of few images, only every fifth is a scale image


LEAST_OVERKILL = 1e-6  # needs three million images; less is a slip of the finger
MOST_CONFIDENCE = 1 - 1e-9
MOST_HIDDEN_DEFECTS = 1000  # they need 3000 images at least; so many defective parts are sorted out by hand


@dataclass(frozen=True)
class Demand:
    """What the thresholds are to keep to."""

    max_overkill: float = 0.01  # largest share of good parts that may be rejected
    confidence: float = 0.95  # of the promise, over the draw of the good images
    hidden_defects: int = 0  # number of good images that may be defective in truth

    def __post_init__(self) -> None:
        """Refuse what no threshold could keep to, and what would take for ever to find out."""
        for name in ("max_overkill", "confidence"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {value}")
        if self.max_overkill < LEAST_OVERKILL:
            raise InputError(f"max_overkill must be at least {LEAST_OVERKILL}, got {self.max_overkill}")
        if self.confidence > MOST_CONFIDENCE:
            raise InputError(f"confidence must be at most {MOST_CONFIDENCE}, got {self.confidence}")
        if not 0 <= self.hidden_defects <= MOST_HIDDEN_DEFECTS:
            raise InputError(
                f"hidden_defects must lie in 0..{MOST_HIDDEN_DEFECTS}, got {self.hidden_defects}; leave images of "
                "defective parts out"
            )


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Return P(Binomial(trials, probability) <= successes), the probability inside 0..1.

    SciPy has it (`binom.cdf`), and a test compares the two; the box is spared 100 MB for this one sum.
    """
    if successes >= trials:
        return 1.0
    whole, success, failure = math.lgamma(trials + 1), math.log(probability), math.log1p(-probability)
    return math.fsum(
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * success + (trials - k) * failure
        )
        for k in range(successes + 1)
    )


def allowed_rejections(images: int, demand: Demand) -> int:
    """Return the number of calibrating images to reject: as many as keep to the demand, and all hidden defects."""
    good, risk = images - demand.hidden_defects, 1 - demand.confidence
    return (
        _first(lambda j: binomial_tail(j, good, demand.max_overkill) > risk, above=demand.hidden_defects) - 1
    )


def promised_overkill(images: int, rejections: int, demand: Demand) -> float:
    """Return the least share of good parts that a rule which rejects so many calibrating images can promise."""
    good, risk = images - demand.hidden_defects, 1 - demand.confidence
    if rejections >= good:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if binomial_tail(rejections, good, middle) <= risk:
            high = middle
        else:
            low = middle
    return high


def needed_images(max_overkill: float, *, confidence: float, hidden_defects: int = 0) -> int:
    """Return the number of images, scale images among them, that can promise this overkill."""
    demand = Demand(max_overkill, confidence, hidden_defects)
    enough = _first(lambda images: _suffices(images, demand), above=2 * hidden_defects)
    return next(n for n in itertools.count(max(enough, LEAST_IMAGES)) if n - scale_images(n) >= enough)


def scale_images(images: int) -> int:
    """Return the number of images that are scale images."""
    return min(SCALE_IMAGES, images // SCALE_SHARE)


def check_images(images: int, demand: Demand) -> None:
    """Raise InputError unless so many good images are worth calibrating on."""
    least = max(LEAST_IMAGES, 3 * demand.hidden_defects)
    if images < least:
        share = demand.max_overkill
        enough = needed_images(share, confidence=demand.confidence, hidden_defects=demand.hidden_defects)
        raise InputError(
            f"good images must be at least {least}, all different, got {images}; to promise {100 * share:.4g} % at "
            f"{100 * demand.confidence:.4g} % confidence, {max(least, enough)}"
        )


def _suffices(images: int, demand: Demand) -> bool:
    """Whether so many calibrating images can promise what is demanded."""
    tail = binomial_tail(demand.hidden_defects, images - demand.hidden_defects, demand.max_overkill)
    return tail <= 1 - demand.confidence


def _first(holds: Callable[[int], bool], *, above: int) -> int:
    """Return the first number above another for which something holds that holds from there on."""
    step = 1
    while not holds(above + step):
        step *= 2
    return bisect.bisect_left(range(above + step), True, lo=above + step // 2 + 1, key=holds)

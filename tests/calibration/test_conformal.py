"""The promise is kept as often as it says, no less and no more, and an error by one in the rank would show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.special
import scipy.stats

from acl_runtime.calibration.conformal import (
    Demand,
    allowed_rejections,
    binomial_tail,
    check_images,
    needed_images,
    promised_overkill,
    scale_images,
)
from acl_runtime.calibration.thresholds import draw_scale_images, find_rule
from acl_runtime.scoring.rule import Rule, log_odds

TRIALS = 800
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Parts:
    """A distribution of good parts that is known."""

    draw: Draw  # log-odds of score and peak, (N,) each
    accepted: Callable[[float, float], float]  # P(score's log-odds < a and peak's < b)


STUDENT, NORMAL = scipy.stats.t(1.5, scale=0.02), scipy.stats.norm(-3, 1)
LOGNORMAL = scipy.stats.lognorm(1.0, loc=-2, scale=0.3)
SHARED = 0.7  # of the parts of `correlated` have the very same value in score and peak


def independent(one: object, two: object) -> Parts:
    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        return one.rvs(count, random_state=rng), two.rvs(count, random_state=rng)  # type: ignore[attr-defined]

    return Parts(draw, lambda a, b: float(one.cdf(a) * two.cdf(b)))  # type: ignore[attr-defined]


def correlated() -> Parts:
    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        score, other = LOGNORMAL.rvs((2, count), random_state=rng)
        return score, np.where(rng.random(count) < SHARED, score, other)

    def accepted(a: float, b: float) -> float:
        same, apart = LOGNORMAL.cdf(min(a, b)), LOGNORMAL.cdf(a) * LOGNORMAL.cdf(b)
        return float(SHARED * same + (1 - SHARED) * apart)

    return Parts(draw, accepted)


PARTS = {
    "Student 1.5 and Gaussian": independent(STUDENT, NORMAL),
    "log-normal and Gaussian": independent(LOGNORMAL, NORMAL),
    "log-normal, correlated": correlated(),
}


def overkills(
    parts: Parts,
    images: int,
    demand: Demand,
    *,
    shift: int = 0,
    defects: float | None = None,
    trials: int = TRIALS,
) -> Iterator[float]:
    """True overkill of the rules from many sets of good images, the rank off by `shift`.

    `defects`: log-odds of the demand's hidden defects, which are among the images; None for no defects.
    """
    rng = np.random.default_rng(5)
    rejections = allowed_rejections(images - scale_images(images), demand) + shift
    for trial in range(trials):
        score, peak = parts.draw(rng, images)
        if defects is not None:
            hidden = rng.permutation(images)[: demand.hidden_defects]
            score[hidden] = peak[hidden] = defects
        rule = find_rule(
            scipy.special.expit(score),
            scipy.special.expit(peak),
            draw_scale_images(images, seed=trial),
            rejections=rejections,
            hidden_defects=demand.hidden_defects,
        )
        yield 1 - parts.accepted(log_odds(rule.score_threshold), peak_limit(rule))


def peak_limit(rule: Rule) -> float:
    return math.inf if rule.peak_threshold is None else log_odds(rule.peak_threshold)


def best_promise(images: int, *, confidence: float, hidden_defects: int = 0) -> float:
    """The smallest overkill that so many images, those that set the scales among them, can promise."""
    demand = Demand(confidence=confidence, hidden_defects=hidden_defects)
    return promised_overkill(images - scale_images(images), hidden_defects, demand)


def is_kept_as_stated(found: list[float], images: int, demand: Demand) -> bool:
    """Whether the promise holds in the stated share of trials, within three standard errors on both sides."""
    calibrating = images - scale_images(images)
    promised = promised_overkill(calibrating, allowed_rejections(calibrating, demand), demand)
    error = math.sqrt(demand.confidence * (1 - demand.confidence) / TRIALS)
    return bool(abs(np.mean(np.array(found) <= promised) - demand.confidence) < 3 * error)


def is_beta(found: list[float], images: int, demand: Demand) -> bool:
    """Whether the whole distribution of the overkill is the one that the promise is derived from."""
    calibrating = images - scale_images(images)
    rejections = allowed_rejections(calibrating, demand)
    beta = scipy.stats.beta(rejections + 1, calibrating - rejections)
    return bool(scipy.stats.kstest(found, beta.cdf).pvalue > 1e-3)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize(("images", "demand"), [(120, Demand(0.1)), (60, Demand(0.01, 0.8))])
def test_the_promise_is_kept_as_often_as_it_says(parts: Parts, images: int, demand: Demand) -> None:
    found = list(overkills(parts, images, demand))
    assert is_kept_as_stated(found, images, demand)
    assert is_beta(found, images, demand)


@pytest.mark.parametrize(
    ("images", "demand", "shift"), [(120, Demand(0.1), -1), (120, Demand(0.1), 1), (60, Demand(0.01, 0.8), 1)]
)
def test_an_error_by_one_in_the_rank_would_be_noticed(images: int, demand: Demand, shift: int) -> None:
    found = list(overkills(PARTS["log-normal, correlated"], images, demand, shift=shift))
    assert not is_kept_as_stated(found, images, demand)
    assert not is_beta(found, images, demand)


@pytest.mark.parametrize("share", [0.01, 0.03])
@pytest.mark.parametrize("defects", [8.0, -3.5])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_hidden_defects_break_no_promise(parts: Parts, defects: float, share: float) -> None:
    images = 200
    demand = Demand(0.1, hidden_defects=round(share * images))
    calibrating = images - scale_images(images)
    promised = promised_overkill(calibrating, allowed_rejections(calibrating, demand), demand)
    assert promised <= 0.1
    found = np.array(list(overkills(parts, images, demand, defects=defects, trials=300)))
    error = math.sqrt(demand.confidence * (1 - demand.confidence) / 300)
    assert np.mean(found <= promised) >= demand.confidence - 3 * error


def test_a_hidden_defect_does_not_set_the_threshold() -> None:
    demand = Demand(0.05, hidden_defects=2)
    found = list(overkills(PARTS["log-normal and Gaussian"], 60, demand, defects=15.0, trials=100))
    assert min(found) > 1e-4  # were a defect at 15 the threshold, nothing good would ever be rejected


def test_ties_only_make_the_overkill_smaller() -> None:
    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        score, peak = PARTS["log-normal and Gaussian"].draw(rng, count)
        return np.round(score), np.round(peak)

    def accepted(a: float, b: float) -> float:  # a threshold lies just above a whole number, or between two
        return PARTS["log-normal and Gaussian"].accepted(*np.floor(np.array([a, b]) + 1e-9) + 0.5)

    images, demand = 120, Demand(0.1)
    rejections = allowed_rejections(images - scale_images(images), demand)
    promised = promised_overkill(images - scale_images(images), rejections, demand)
    found = np.array(list(overkills(Parts(draw, accepted), images, demand, trials=300)))
    assert np.mean(found <= promised) >= demand.confidence


@pytest.mark.parametrize("trials", [1, 20, 473, 5000])
@pytest.mark.parametrize("probability", [1e-9, 0.01, 0.5, 0.999])
def test_the_binomial_tail_is_scipys(trials: int, probability: float) -> None:
    for successes in {0, 1, trials // 100, trials // 2, trials}:
        expected = scipy.stats.binom.cdf(successes, trials, probability)
        assert binomial_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_known_numbers_of_images() -> None:
    calibrating = {0.025: 119, 0.01: 299, 0.005: 598}
    for overkill, images in calibrating.items():
        assert (1 - overkill) ** images <= 0.05 < (1 - overkill) ** (images - 1)
        assert needed_images(overkill, confidence=0.95) == images + 20
    assert best_promise(140, confidence=0.95) == pytest.approx(1 - 0.05 ** (1 / 120))
    assert needed_images(0.01, confidence=0.95, hidden_defects=1) == 474 + 20  # 473 good ones and the defect


@pytest.mark.parametrize("hidden", [0, 1, 4])
@pytest.mark.parametrize("overkill", [0.004, 0.02, 0.3])
def test_the_needed_images_are_enough_and_one_less_is_not(overkill: float, hidden: int) -> None:
    needed = needed_images(overkill, confidence=0.9, hidden_defects=hidden)
    assert best_promise(needed, confidence=0.9, hidden_defects=hidden) <= overkill + 1e-11
    if needed > max(20, 3 * hidden):
        assert best_promise(needed - 1, confidence=0.9, hidden_defects=hidden) > overkill


@pytest.mark.parametrize("hidden", [0, 3])
@pytest.mark.parametrize("images", [20, 299, 474, 3000])
def test_as_many_images_are_rejected_as_the_demand_allows(images: int, hidden: int) -> None:
    demand = Demand(0.01, 0.95, hidden)
    kept = [
        j
        for j in range(hidden, images)
        if scipy.stats.binom.cdf(j, images - hidden, 0.01) <= 1 - demand.confidence
    ]
    rejections = allowed_rejections(images, demand)
    assert rejections == max(kept, default=hidden)
    promised = promised_overkill(images, rejections, demand)
    exact = scipy.stats.beta.ppf(0.95, rejections + 1, images - hidden - rejections)
    assert promised == pytest.approx(exact, abs=1e-9)
    assert (promised <= 0.01) == bool(kept)


def test_more_hidden_defects_than_stated_images_promise_nothing() -> None:
    assert promised_overkill(5, 3, Demand(hidden_defects=3)) == 1


def test_the_images_that_set_the_scales_are_few_and_drawn_anew_by_each_seed() -> None:
    assert [scale_images(count) for count in (20, 60, 99, 100, 5000)] == [4, 12, 19, 20, 20]
    one, again, other = (draw_scale_images(300, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.sum() == other.sum() == 20
    assert (one != other).any()


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_overkill must lie between 0 and 1, got 0"):
        Demand(0)
    with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1, got 95"):
        Demand(confidence=95)
    with pytest.raises(ValueError, match=r"hidden_defects must lie in 0..1000, got -1"):
        Demand(hidden_defects=-1)
    with pytest.raises(ValueError, match=r"good images must be at least 20, all different, got 19; .* 319$"):
        check_images(19, Demand())
    with pytest.raises(ValueError, match=r"good images must be at least 30, all different, got 29; .* 1723$"):
        check_images(29, Demand(hidden_defects=10))
    check_images(20, Demand())


def test_what_no_number_of_images_could_prove_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="max_overkill must be at least 1e-06, got 1e-30"):
        Demand(1e-30)
    with pytest.raises(ValueError, match="confidence must be at most"):
        Demand(confidence=1 - 1e-16)
    with pytest.raises(
        ValueError, match=r"lie in 0\.\.1000, got 1000000; leave images of defective parts out"
    ):
        Demand(hidden_defects=1_000_000)
    started = time.perf_counter()
    with pytest.raises(ValueError, match="good images must be at least 3000"):
        check_images(40, Demand(1e-6, 1 - 1e-9, 1000))
    assert time.perf_counter() - started < 5

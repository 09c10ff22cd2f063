"""One rule out of two values, score and peak, on which a promise about good parts holds exactly.

A frame is rejected for its score or for its map's peak. A few of the good images, drawn at random, the scale images,
set nothing but a location and a spread of each; the larger of the two standardised log-odds is then one value of a
frame, and what `conformal.py` says about one value holds for the two thresholds together: both lie at the same level,
in units of their own spread. Other ways to two thresholds need more images for 1 % at 95 % than the 299 + 20 of this
one: 473 with one of Tukey's equivalent blocks for each, 736 with half of the overkill and half of the risk for each
(Bonferroni).

How the allowed overkill is split between score and peak follows from the two spreads. They may be chosen in any way
that looks at the scale images alone: given these, the other images and all later good parts are still drawn alike, so
the promise is exact whatever the spreads are. `fit_scales` says how they are chosen, so that neither threshold is
carried off to where it never decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.calibration.conformal import (
    Demand,
    allowed_rejections,
    check_images,
    promised_overkill,
    scale_images,
)
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.rule import Rule, log_odds

LEAST_SPREAD = 1.0  # log-odds; tails are wider than a handful of images that are all alike can show
MOST_DEVIATIONS = 3  # median deviations that a spread is at most: an outlier among the scale images sets none
OWN_WEIGHT = 0.5  # of a value's own spread, against the one that score and peak have in common
REGION_SHARE = 0.9  # of the good images have no place on their maps as hot as a region
PEAK_LIMIT = 17.0  # log-odds beyond that of any float32 below 1: what a saturated peak counts as

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogOddsScale:
    """Where the log-odds of good parts lie, and how far they spread upwards."""

    location: float  # median
    spread: float

    def standardise(self, values: Values) -> Values:
        """Return log-odds, any shape, in units of the spread above the location."""
        return (values - self.location) / self.spread

    def probability(self, level: float) -> float:
        """Return the probability whose log-odds lie `level` spreads above the location."""
        value = self.location + self.spread * level
        return 1 / (1 + math.exp(-value)) if value > 0 else math.exp(value) / (1 + math.exp(value))


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """A rule, and the share of good parts that it rejects at most."""

    rule: Rule
    promised_overkill: float  # with the demand's confidence
    sets_scales: npt.NDArray[np.bool_]  # (N,) which of the images are scale images


def find_thresholds(scores: Values, peaks: Values, demand: Demand, *, seed: int) -> Thresholds:
    """Find the rule that keeps to a demand, or comes as close as the number of images allows.

    Args:
        scores: (N,) scores of good parts, in [0, 1].
        peaks: (N,) map peaks of the same parts, in [0, 1].
        demand: What the rule is to keep to.
        seed: Seed of the draw of the scale images.

    Raises:
        InputError: The images are too few, or too many scores are exactly 1.
    """
    check_images(len(scores), demand)
    sets_scales = draw_scale_images(len(scores), seed=seed)
    calibrating = len(scores) - int(sets_scales.sum())
    rejections = allowed_rejections(calibrating, demand)
    rule = find_rule(scores, peaks, sets_scales, rejections=rejections, hidden_defects=demand.hidden_defects)
    promised = promised_overkill(calibrating, rejections, demand)
    return Thresholds(rule=rule, promised_overkill=promised, sets_scales=sets_scales)


def find_rule(
    scores: Values, peaks: Values, sets_scales: npt.NDArray[np.bool_], *, rejections: int, hidden_defects: int
) -> Rule:
    """Find the rule that rejects at most so many of the calibrating images, and on which the promise holds.

    The peak decides too, unless it is 1 on good parts and no threshold could keep them: then the rule is the
    score's alone, found in a way that leaves the promise exact. Either the scale images show it, or the one level for
    both asks for a peak above 1.

    Args:
        scores: (N,) scores of good parts, in [0, 1].
        peaks: (N,) map peaks of the same parts, in [0, 1].
        sets_scales: (N,) which of them are scale images; the others calibrate.
        rejections: From `allowed_rejections`, fewer than there are calibrating images.
        hidden_defects: As in the demand.

    Raises:
        InputError: Too many scores are exactly 1.
    """
    calibrates = ~sets_scales
    score_values, peak_values = _log_odds(scores), np.minimum(_log_odds(peaks), PEAK_LIMIT)
    score_scale, peak_scale = fit_scales(score_values[sets_scales], peak_values[sets_scales])
    levels = np.where(scores < 1, score_scale.standardise(score_values), np.inf)[calibrates]
    share = (rejections + 1) / (len(levels) + 1)  # the expected overkill
    peak_decides = (peaks[sets_scales] >= 1).sum() <= hidden_defects + share * sets_scales.sum()
    if peak_decides:
        levels = np.maximum(levels, peak_scale.standardise(peak_values)[calibrates])
    level = float(np.sort(levels)[-1 - rejections])
    _check_level(level, scores)
    kept = np.flatnonzero(calibrates)[levels <= level]
    score_threshold = math.nextafter(max(score_scale.probability(level), scores[kept].max()), 1.0)
    if not peak_decides or level >= peak_scale.standardise(np.array(PEAK_LIMIT)):
        rule = Rule(score_threshold, None)
    else:
        rule = Rule(score_threshold, _next_float32(max(peak_scale.probability(level), peaks[kept].max())))
    _check_rule(rule, scores[calibrates], peaks[calibrates], rejections)
    return rule


def _check_level(level: float, scores: Values) -> None:
    if math.isinf(level):
        raise InputError(
            f"score must be below 1 on good parts, got exactly 1 on {(scores >= 1).sum()} of {len(scores)}: the "
            "prompts are certain of everything here and no threshold helps; learn other prompts"
        )


def _check_rule(rule: Rule, scores: Values, peaks: Values, rejections: int) -> None:
    rejected = sum(map(rule.is_anomalous, scores.tolist(), peaks.tolist()))
    if rejected > rejections:
        raise RuntimeError(f"the rule must reject at most {rejections} calibrating images, got {rejected}")


def find_region_threshold(peaks: Values, rule: Rule) -> float:
    """Return the map value from which a place is drawn as a region, in [0, 1].

    It is a level of its own, because a part that is NG by its score alone has defects too: nine of ten good parts have
    no place as hot. It never lies above the peak that makes a part NG. No promise hangs on it.

    Args:
        peaks: (N,) map peaks of good parts, in [0, 1].
        rule: The rule that was found.
    """
    level = float(np.quantile(peaks, REGION_SHARE, method="higher"))
    return min(_next_float32(level), 1.0 if rule.peak_threshold is None else rule.peak_threshold)


def draw_scale_images(images: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Draw the scale images at random, whatever they show: (N,), True for a scale image."""
    chosen = np.zeros(images, np.bool_)
    chosen[np.random.default_rng(seed).permutation(images)[: scale_images(images)]] = True
    return chosen


def fit_scales(scores: Values, peaks: Values) -> tuple[LogOddsScale, LogOddsScale]:
    """Fit the scales of score and peak to log-odds of scale images, (N,) each.

    A threshold lies above the good parts, so a spread is the distance from the median up to the highest image, or three
    median deviations where that is less: fewer than half of the images may be anything at all. Few images tell a spread
    badly, and one taken too large carries its threshold off to where it never decides. So each is drawn half-way, as a
    geometric mean, to the spread that both have in common, and none counts for less than one log-odds.
    """
    locations = float(np.median(scores)), float(np.median(peaks))
    own = [
        _spread_above(values, location) for values, location in zip((scores, peaks), locations, strict=True)
    ]
    common = math.sqrt(own[0] * own[1])
    score, peak = (
        LogOddsScale(location, spread**OWN_WEIGHT * common ** (1 - OWN_WEIGHT))
        for location, spread in zip(locations, own, strict=True)
    )
    return score, peak


def _spread_above(values: Values, location: float) -> float:
    deviation = float(np.median(np.abs(values - location)))
    return max(min(float(values.max()) - location, MOST_DEVIATIONS * deviation), LEAST_SPREAD)


def _log_odds(probabilities: Values) -> Values:
    return np.array([log_odds(value) for value in probabilities.tolist()])


def _next_float32(probability: float) -> float:
    """The next number above a probability that a map can hold; 1 at most."""
    return float(np.nextafter(np.float32(probability), np.float32(1)))

"""One rule out of two values, score and peak, on which a promise about good parts holds exactly.

A frame is rejected for its score or for its map's peak. A few of the good images, drawn at random, set nothing but a
location and a spread of each; the larger of the two standardised log-odds is then one value of a frame, and what
`conformal.py` says about one value holds for the two thresholds together: both lie at the same level, in units of
their own spread. Other ways to two thresholds need more images for 1 % at 95 % than the 299 + 20 of this one: 473
with one of Tukey's equivalent blocks for each, 736 with half of the overkill and half of the risk for each
(Bonferroni).
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

LEAST_SPREAD = 0.05  # log-odds; a value that never moved on good parts may move so far and be called usual
PEAK_LIMIT = 17.0  # log-odds beyond that of any float32 below 1: what a saturated peak counts as

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Where the log-odds of good parts lie, and how far they spread."""

    location: float  # median
    spread: float  # median distance from it

    def standardise(self, values: Values) -> Values:
        """Log-odds, any shape, in units of the spread above the location."""
        return (values - self.location) / self.spread

    def probability(self, level: float) -> float:
        """The probability whose log-odds lie `level` spreads above the location."""
        value = self.location + self.spread * level
        return 1 / (1 + math.exp(-value)) if value > 0 else math.exp(value) / (1 + math.exp(value))


@dataclass(frozen=True)
class Thresholds:
    """A rule, and how many good parts it rejects at most."""

    rule: Rule
    promised_overkill: float  # with the demand's confidence
    sets_scales: npt.NDArray[np.bool_]  # (N,) which of the images set the scales


def find_thresholds(scores: Values, peaks: Values, demand: Demand, *, seed: int) -> Thresholds:
    """The rule that keeps to a demand, or comes as close as the number of images allows.

    Args:
        scores: (N,) of good parts, in [0, 1].
        peaks: (N,) of the same parts, in [0, 1].
        demand: What the rule is to keep to.
        seed: Of the draw of the images that set the scales.
    """
    check_images(len(scores), demand)
    sets_scales = draw_scale_images(len(scores), seed=seed)
    calibrating = len(scores) - int(sets_scales.sum())
    rejections = allowed_rejections(calibrating, demand)
    rule = find_rule(scores, peaks, sets_scales, rejections=rejections, hidden_defects=demand.hidden_defects)
    return Thresholds(rule, promised_overkill(calibrating, rejections, demand), sets_scales)


def find_rule(
    scores: Values, peaks: Values, sets_scales: npt.NDArray[np.bool_], *, rejections: int, hidden_defects: int
) -> Rule:
    """The rule that rejects at most so many of the calibrating images, and on which the promise holds.

    The peak decides too, unless it is 1 on good parts and no threshold could keep them: then the rule is the
    score's alone, found in a way that leaves the promise exact. Either the images that set the scales show it, or
    the one level for both asks for a peak above 1.

    Args:
        scores: (N,) of good parts, in [0, 1].
        peaks: (N,) of the same parts, in [0, 1].
        sets_scales: (N,) which of them set the scales; the others calibrate.
        rejections: From `allowed_rejections`, fewer than there are calibrating images.
        hidden_defects: As in the demand.

    Raises:
        ValueError: Too many scores are exactly 1.
    """
    calibrates = ~sets_scales
    score_values, peak_values = _log_odds(scores), np.minimum(_log_odds(peaks), PEAK_LIMIT)
    score_scale, peak_scale = fit_scale(score_values[sets_scales]), fit_scale(peak_values[sets_scales])
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


def draw_scale_images(images: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the images set the scales, (N,), drawn at random whatever they show."""
    chosen = np.zeros(images, np.bool_)
    chosen[np.random.default_rng(seed).permutation(images)[: scale_images(images)]] = True
    return chosen


def fit_scale(values: Values) -> Scale:
    """The scale of log-odds, (N,); fewer than half of them may be anything at all."""
    location = float(np.median(values))
    return Scale(location, max(float(np.median(np.abs(values - location))), LEAST_SPREAD))


def _log_odds(probabilities: Values) -> Values:
    return np.array([log_odds(value) for value in probabilities.tolist()])


def _next_float32(probability: float) -> float:
    """The next number above a probability that a map can hold; 1 at most."""
    return float(np.nextafter(np.float32(probability), np.float32(1)))

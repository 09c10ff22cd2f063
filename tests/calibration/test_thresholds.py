"""One rule out of score and peak: exactly the images that may be rejected are, and saturation is dealt with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.thresholds import (
    draw_scale_images,
    find_region_threshold,
    find_rule,
    find_thresholds,
    fit_scales,
)
from acl_runtime.scoring.rule import Rule

IMAGES = 120
SETS_SCALES = draw_scale_images(IMAGES, seed=0)


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and peaks of good parts; the peaks spread less."""
    rng = np.random.default_rng(seed)
    return expit(rng.normal(-2, 2, IMAGES)), expit(rng.normal(-4, 0.5, IMAGES)).astype(np.float32).astype(
        float
    )


def count_rejected(rule: Rule, scores: np.ndarray, peaks: np.ndarray) -> int:
    return sum(map(rule.is_anomalous, scores.tolist(), peaks.tolist()))


@pytest.mark.parametrize("rejections", [0, 1, 7, 99])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_so_many_calibrating_images_are_rejected(rejections: int, seed: int) -> None:
    scores, peaks = draw(seed)
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=rejections, hidden_defects=0)
    assert count_rejected(rule, scores[~SETS_SCALES], peaks[~SETS_SCALES]) == rejections


def test_both_thresholds_lie_at_one_level_of_their_scales() -> None:
    scores, peaks = draw()
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=3, hidden_defects=0)
    scales = fit_scales(*(np.log(values / (1 - values))[SETS_SCALES] for values in (scores, peaks)))
    levels = []
    for scale, threshold in zip(scales, (rule.score_threshold, rule.peak_threshold), strict=True):
        assert threshold is not None
        levels.append((np.log(threshold / (1 - threshold)) - scale.location) / scale.spread)
    assert levels[0] == pytest.approx(levels[1], abs=1e-4)


def test_a_spread_reaches_from_the_median_to_the_highest_half_way_to_the_common_one() -> None:
    scores = np.array([-9.0, -8.0, -1.0, 0.0, 1.0, 2.0, 4.0])  # highest 4 above the median, deviation 2
    peaks = np.array([-9.0, -8.0, -2.0, -1.0, 0.0, 1.0, 0.5])  # 2 above, deviation 1.5
    score, peak = fit_scales(scores, peaks)
    assert (score.location, peak.location) == (0.0, -1.0)
    common = np.sqrt(4 * 2)
    assert score.spread == pytest.approx(np.sqrt(4 * common))
    assert peak.spread == pytest.approx(np.sqrt(2 * common))


def test_fewer_than_half_of_the_scale_images_may_be_anything() -> None:
    rng = np.random.default_rng(0)
    scores, peaks = rng.normal(2, 1, (2, 19))
    clean, _ = fit_scales(scores, peaks)
    for outlier in (1e6, 700.0):
        spoiled, other = fit_scales(np.where(np.arange(19) < 9, outlier, scores), peaks)
        assert abs(spoiled.location) < 5
        assert 0.5 < spoiled.spread / clean.spread < 5
        assert 0.5 < other.spread / clean.spread < 5


def test_a_value_that_hardly_moves_on_the_scale_images_keeps_a_threshold_that_decides() -> None:
    """Scale images may be all alike while one good part in fifty has a score far above."""
    rng = np.random.default_rng(2)
    scores, peaks = expit(rng.normal(-6.5, 0.1, IMAGES)), expit(rng.normal(-11.5, 0.3, IMAGES))
    scores[np.flatnonzero(~SETS_SCALES)[0]] = expit(4.0)
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=0, hidden_defects=0)
    assert rule.peak_threshold is not None
    assert rule.peak_threshold < 0.9  # in units of its own small spread it lay at 1 - 1e-7


def test_regions_have_a_level_of_their_own_below_the_peak_that_decides() -> None:
    scores, peaks = draw()
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=0, hidden_defects=0)
    level = find_region_threshold(peaks, rule)
    assert rule.peak_threshold is not None
    assert level < rule.peak_threshold
    assert 0.05 < (peaks >= level).mean() <= 0.1
    assert find_region_threshold(peaks, Rule(0.5, 1e-6)) == 1e-6
    assert find_region_threshold(np.ones(IMAGES), Rule(0.5, None)) == 1.0


def test_a_value_that_never_moves_has_a_spread_all_the_same() -> None:
    scores, peaks = draw()
    rule = find_rule(scores, np.full(IMAGES, 0.25), SETS_SCALES, rejections=1, hidden_defects=0)
    assert rule.peak_threshold is not None
    assert rule.peak_threshold > 0.25
    alone = find_rule(scores, np.zeros(IMAGES), SETS_SCALES, rejections=1, hidden_defects=0)
    assert alone.peak_threshold is not None
    assert count_rejected(rule, scores, np.full(IMAGES, 0.25)) == count_rejected(alone, scores, peaks * 0)


def test_a_map_threshold_that_keeps_a_peak_keeps_its_float32_too() -> None:
    """Maps are float32, and numpy compares them with the threshold as float32."""
    _, peaks = draw()
    rule = find_rule(np.full(IMAGES, 0.5), peaks, SETS_SCALES, rejections=0, hidden_defects=0)
    assert rule.peak_threshold is not None
    assert not (peaks[~SETS_SCALES].astype(np.float32) >= rule.peak_threshold).any()


def test_saturated_scores_of_good_parts_are_refused() -> None:
    scores, peaks = draw()
    scores[np.flatnonzero(~SETS_SCALES)[:5]] = 1.0
    with pytest.raises(
        ValueError, match=r"score must be below 1 on good parts, got exactly 1 on 5 of 120: .*"
    ):
        find_rule(scores, peaks, SETS_SCALES, rejections=4, hidden_defects=0)
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=5, hidden_defects=0)
    assert count_rejected(rule, scores[~SETS_SCALES], peaks[~SETS_SCALES]) == 5


@pytest.mark.parametrize("where", ["everywhere", "scales", "calibrating"])
def test_where_only_the_peak_saturates_the_score_decides_alone(where: str) -> None:
    scores, peaks = draw()
    chosen = {"everywhere": scores > 0, "scales": SETS_SCALES, "calibrating": ~SETS_SCALES}[where]
    peaks[chosen] = 1.0
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=2, hidden_defects=0)
    assert rule.peak_threshold is None
    rejected = count_rejected(rule, scores[~SETS_SCALES], peaks[~SETS_SCALES])
    assert rejected <= 2
    if (
        where != "calibrating"
    ):  # else the level is that of the saturated peaks, which is what keeps the promise exact
        assert rejected == 2


def test_a_peak_that_seldom_saturates_still_decides() -> None:
    scores, peaks = draw()
    peaks[np.flatnonzero(~SETS_SCALES)[:3]] = 1.0
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=4, hidden_defects=0)
    assert rule.peak_threshold is not None
    assert count_rejected(rule, scores[~SETS_SCALES], peaks[~SETS_SCALES]) == 4


def test_values_of_nought_are_no_hindrance() -> None:
    scores, peaks = draw()
    scores[:60], peaks[30:] = 0.0, 0.0
    rule = find_rule(scores, peaks, SETS_SCALES, rejections=1, hidden_defects=0)
    assert count_rejected(rule, scores[~SETS_SCALES], peaks[~SETS_SCALES]) <= 1
    nothing = find_rule(scores * 0, peaks * 0, SETS_SCALES, rejections=1, hidden_defects=0)
    assert count_rejected(nothing, scores * 0, peaks * 0) == 0


def test_thresholds_come_with_what_they_promise() -> None:
    scores, peaks = draw()
    found = find_thresholds(scores, peaks, Demand(0.01), seed=0)
    np.testing.assert_array_equal(found.sets_scales, SETS_SCALES)
    assert found.promised_overkill == pytest.approx(1 - 0.05 ** (1 / 100))
    assert count_rejected(found.rule, scores[~SETS_SCALES], peaks[~SETS_SCALES]) == 0
    with pytest.raises(ValueError, match="good images must be at least 20"):
        find_thresholds(scores[:19], peaks[:19], Demand(), seed=0)

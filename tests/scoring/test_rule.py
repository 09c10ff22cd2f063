"""A verdict is a comparison, and its margin says how far the other verdict is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acl_runtime.files.errors import FrameError
from acl_runtime.scoring.rule import Rule, log_odds, rule_words


def test_at_the_threshold_is_anomalous() -> None:
    assert Rule(0.7, None).is_anomalous(0.7, 0.0)
    assert not Rule(0.7, None).is_anomalous(math.nextafter(0.7, 0), 1.0)


def test_the_peak_decides_too_where_it_has_a_threshold() -> None:
    assert not Rule(0.7, 0.4).is_anomalous(0.6, math.nextafter(0.4, 0))
    assert Rule(0.7, 0.4).is_anomalous(0.6, 0.4)
    assert not Rule(0.7, None).is_anomalous(0.6, 1.0)


def test_which_of_score_and_peak_decided_is_said() -> None:
    rule = Rule(0.7, 0.4)
    assert [rule.decided_by(*values) for values in ((0.7, 0.4), (0.7, 0.3), (0.6, 0.4), (0.6, 0.3))] == [
        "both",
        "score",
        "peak",
        None,
    ]


@pytest.mark.parametrize("values", [(math.nan, 0.1), (0.1, math.nan), (math.inf, 0.1), (0.1, -math.inf)])
@pytest.mark.parametrize("rule", [Rule(0.7, 0.4), Rule(0.7, None)])
def test_what_is_no_number_is_neither_good_nor_bad(rule: Rule, values: tuple[float, float]) -> None:
    for judge in (rule.is_anomalous, rule.margin, rule.decided_by):
        with pytest.raises(FrameError, match=r"must be a finite number, got .*; the frame cannot be judged"):
            judge(*values)


def test_the_margin_is_the_distance_of_the_nearer_threshold_in_log_odds() -> None:
    rule = Rule(0.5, 0.9)
    assert rule.margin(0.2, 0.9) == 0
    assert rule.margin(0.2, 0.5) == pytest.approx(max(math.log(0.25), -math.log(9)))
    assert rule.margin(0.8, 0.5) == pytest.approx(math.log(4))


def test_the_margin_has_the_sign_of_the_verdict_even_next_to_the_threshold() -> None:
    for threshold in [0.0, 1e-300, 1e-9, *np.random.default_rng(0).random(200).tolist(), 1 - 1e-16, 1.0]:
        for score in (math.nextafter(threshold, 0), threshold, math.nextafter(threshold, 1), 0.0, 1.0):
            for rule in (Rule(threshold, None), Rule(1.0, threshold)):
                verdict = rule.is_anomalous(min(score, 0.999), score)
                assert (rule.margin(min(score, 0.999), score) >= 0) is verdict
                assert math.isfinite(rule.margin(min(score, 0.999), score))


def test_log_odds_grow_with_the_probability() -> None:
    values = [0.0, 5e-324, 1e-9, 0.3, 0.5, 0.7, 1 - 1e-16, 1.0]
    odds = [log_odds(value) for value in values]
    assert odds == sorted(set(odds))
    assert log_odds(0.5) == 0


@pytest.mark.parametrize("rule", [(1.5, None), (-0.1, None), (math.nan, None), (0.5, 1.01)])
def test_a_threshold_that_is_no_probability_is_refused(rule: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match=r"threshold must lie in 0..1, got"):
        Rule(*rule)


def test_a_rule_in_words_does_not_call_nearly_one_one() -> None:
    assert rule_words(Rule(0.5, None)) == "score 0.500"
    assert rule_words(Rule(0.999976, 0.9)) == "score 0.999976 or map peak 0.900"

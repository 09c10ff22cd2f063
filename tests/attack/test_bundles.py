"""A short form of the attack with mutated bundles; the long one is `python tests/attack/bundles.py`."""

from __future__ import annotations

from bundles import attack, attack_arrays


def test_a_mutated_bundle_is_refused_in_a_line_or_judges_with_finite_scores() -> None:
    figures = attack(seed=5, count=150, processes=1)
    assert figures.faults == []
    assert figures.judged + figures.refused + figures.crashed == 150
    assert figures.judged > 5  # the attack reaches the network
    assert figures.refused > 50


def test_an_odd_array_is_read_or_refused_in_a_line() -> None:
    figures = attack_arrays(seed=5, count=500)
    assert figures.faults == []
    assert figures.judged > 20
    assert figures.refused > 100

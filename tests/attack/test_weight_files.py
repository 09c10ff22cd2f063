"""A short form of the attack on weights, checkpoints, prompts and loss logs."""

from __future__ import annotations

from weight_files import attack


def test_mutated_files_are_read_or_refused_in_a_line() -> None:
    figures = attack(seed=3, count=120)
    assert figures.faults == []
    assert figures.read + figures.refused == 120
    assert figures.refused > 30
    assert figures.read > 10

"""The benchmark of the metrics compares what is equal, on cases that take a second."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import metrics

SMALL = {"nut": (2, 4), "bolt": (1, 3)}


def test_both_forms_count_the_same_maps() -> None:
    forms = {name: metrics.count_categories(name == "exact", 70, SMALL) for name in ("streaming", "exact")}
    streaming, exact = forms["streaming"], forms["exact"]
    assert list(streaming.metrics) == list(SMALL)
    for category, values in exact.metrics.items():
        expected = {name: pytest.approx(value, abs=1e-9) for name, value in values.items()}
        assert streaming.metrics[category] == expected
        assert None not in values.values()
    assert streaming.images == exact.images == 10
    assert streaming.peak >= streaming.before > 2**24
    assert "| streaming |     10 |" in metrics.memory_table(forms)
    assert metrics.difference_table(exact, streaming).count("\n") == 1 + 7


def test_the_published_steps_give_the_same_aupro() -> None:
    timed = metrics.time_aupro(images=3, size=70, turns=1)
    assert timed.values["exact"] == pytest.approx(timed.values["published"], abs=1e-9)
    assert timed.values["streaming"] == pytest.approx(timed.values["published"], abs=1e-9)
    assert timed.exact.ratio > 1
    assert metrics.speed_table(timed).count("\n") == 1 + 3


def test_the_data_set_has_the_size_that_is_published() -> None:
    assert len(metrics.MVTEC) == 15
    assert [sum(counts) for counts in zip(*metrics.MVTEC.values(), strict=True)] == [467, 1258]

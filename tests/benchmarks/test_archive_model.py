"""The model of workers that fail."""

from __future__ import annotations

import pytest

from benchmarks.archive_model import Case, simulate

CASE = Case("test", 200_000, 8, 100, 600, 10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_failure_costs_a_shard_at_most_and_no_shard_is_judged_twice(seed: int) -> None:
    found = simulate(CASE, 500, seed=seed)
    assert found.failures > 0
    assert 0 < found.lost <= found.most_lost <= 1
    assert found.judged_twice == 0


def test_without_failures_and_overhead_all_that_is_lost_is_the_beginning_and_the_end() -> None:
    quiet = Case("test", 200_000, 8, 100, 1e12, 0, 0)
    assert simulate(quiet, 500).busy > 0.97
    assert simulate(quiet, 500).failures == 0


def test_shards_of_the_default_size_keep_workers_busier_than_much_larger_ones() -> None:
    assert simulate(CASE, 500).busy > simulate(CASE, 20_000).busy

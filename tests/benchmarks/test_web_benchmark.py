"""The benchmark of the web measures what it says, and a long roll takes no more memory than a short one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.web import TILES, Row, measure_memory, measure_speed, memory_table, speed_table


@pytest.mark.parametrize("tiling", TILES)
def test_as_many_defects_are_told_as_were_asked_for(tiling: object) -> None:
    row = measure_speed(tiling, 20.0, lines=10_000)  # type: ignore[arg-type]
    assert row.lines == 10_048
    assert 15 <= row.defects <= 23
    assert "| 20 |" in speed_table([row])


def test_the_speed_is_lines_over_the_processors_time() -> None:
    assert Row(518, 64, 0.0, 1000, 0, 0.75, 0.25).lines_per_s == 2000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_a_long_roll_with_losses_and_defects() -> None:
    """A smaller count than the benchmark's ten million: 120,000 lines with 60 defects."""
    points = measure_memory(120_000, defects=60)
    assert len(points) == 10
    assert points[-1][1] >= 50
    settled = [size for _, _, size in points[2:]]
    assert max(settled) - min(settled) < 8e6
    assert "resident" in memory_table(points)

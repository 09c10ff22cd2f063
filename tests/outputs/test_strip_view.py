"""The newest metres of a web as a small picture, held against one that is made of all lines at once."""

from __future__ import annotations

import numpy as np
import pytest

from acl_runtime.outputs.strip_view import ACROSS, GAP, MOST_ROWS, StripView


def begun(width: int, lines_per_pixel: float = 1.0) -> StripView:
    view = StripView()
    view.begin(width, lines_per_pixel=lines_per_pixel)
    return view


@pytest.mark.parametrize("piece", [1, 7, 64, 5000])
def test_rows_are_means_of_lines_however_these_come(piece: int) -> None:
    lines = np.random.default_rng(0).integers(0, 256, (400, 2 * ACROSS), dtype=np.uint8)
    lines[:] = lines[:, :1]  # alike across, so that the mean of a row is that of its lines
    view = begun(2 * ACROSS, lines_per_pixel=2.0)  # 4 lines a row
    for first in range(0, len(lines), piece):
        view.add(first, lines[first : first + piece])
    found = view.after(0, 0)
    assert (found.first, found.lines_per_row, found.rows.shape) == (0, 4, (100, ACROSS))
    starts = [
        max(4 * row, (4 * row + 3) // piece * piece) for row in range(100)
    ]  # of two pieces it is the second
    means = [lines[start : 4 * row + 4, 0].mean() for row, start in enumerate(starts)]
    np.testing.assert_allclose(found.rows[:, 0], means, atol=1)


def test_what_was_lost_is_a_gap_in_its_place() -> None:
    view = begun(ACROSS)
    view.add(0, np.full((10, ACROSS), 200, np.uint8))
    view.add(25, np.full((5, ACROSS), 100, np.uint8))
    rows = view.after(0, 0).rows[:, 0]
    assert rows.tolist() == [200] * 10 + [GAP] * 15 + [100] * 5


def test_only_the_newest_metres_are_kept_and_a_reader_gets_what_he_has_not() -> None:
    view = begun(ACROSS)
    for first in range(0, 3 * MOST_ROWS, 1000):
        view.add(first, np.full((1000, ACROSS), first // 1000, np.uint8))
    found = view.after(1, 0)
    assert found.first + len(found.rows) == 12_000
    assert len(found.rows) == MOST_ROWS
    assert (found.rows[0, 0], found.rows[-1, 0]) == (8, 11)
    rest = view.after(found.strip, 11_990)
    assert (rest.first, len(rest.rows)) == (11_990, 10)
    assert len(view.after(found.strip, 12_000).rows) == 0
    view.begin(ACROSS, lines_per_pixel=1.0)
    view.add(0, np.full((3, ACROSS, 3), 50, np.uint8))  # colour
    other = view.after(found.strip, 12_000)
    assert (other.strip, other.first, other.rows[:, 0].tolist()) == (2, 0, [50] * 3)


def test_a_hole_longer_than_the_picture_leaves_nothing_of_before() -> None:
    view = begun(ACROSS)
    view.add(0, np.full((100, ACROSS), 9, np.uint8))
    view.add(10 * MOST_ROWS, np.full((2, ACROSS), 8, np.uint8))
    rows = view.after(0, 0).rows
    assert set(rows[:-2, 0]) == {GAP}
    assert rows[-2:, 0].tolist() == [8, 8]


def test_a_reader_of_before_a_restart_gets_all_that_is_there() -> None:
    view = begun(ACROSS)
    view.add(0, np.full((10, ACROSS), 7, np.uint8))
    found = view.after(1, 5000)  # the same number, of another run
    assert (found.first, len(found.rows)) == (0, 10)

"""What was told of a drawn web beside what was drawn."""

from __future__ import annotations

import pytest
from webs import make_defect

from acl_runtime.sources.drawn_web import DrawnWeb, WebOptions
from acl_runtime.web.drawn_truth import Box, compare, drawn_boxes, told_boxes

SPOT, SCRATCH = Box(100, 110, 1000, 1010), Box(300, 302, 2000, 3000)


def test_what_lies_within_reach_is_found_and_the_rest_missed_or_false() -> None:
    told = [Box(98, 113, 997, 1012), Box(113, 120, 5000, 5005)]
    found = compare([SPOT, SCRATCH], told, reach_mm=4)
    assert (found.found, found.missed, found.false) == (1, (SCRATCH,), (told[1],))
    assert found.errors_mm == (0.5,)  # 105.5 and 105 across, 1004.5 and 1005 along
    assert (found.worst_mm, found.median_mm) == (0.5, 0.5)


@pytest.mark.parametrize(("gap", "found"), [(3.9, 1), (4.0, 0)])
def test_reach_is_a_distance_in_both_directions(gap: float, found: int) -> None:
    assert compare([SPOT], [Box(110 + gap, 120, 1000, 1010)], reach_mm=4).found == found
    assert compare([SPOT], [Box(100, 110, 990, 1000 - gap)], reach_mm=4).found == found


def test_defects_that_were_told_as_one_are_one_place_and_so_is_one_that_was_told_twice() -> None:
    other = Box(120, 130, 1000, 1010)
    as_one = compare([SPOT, other], [Box(100, 130, 1000, 1010)], reach_mm=4)
    assert (as_one.found, as_one.errors_mm) == (2, (0.0,))
    twice = compare([SPOT], [Box(100, 103, 1000, 1010), Box(107, 110, 1000, 1010)], reach_mm=4)
    assert (twice.found, twice.false, twice.errors_mm) == (1, (), (0.0,))


def test_of_a_long_defect_the_place_of_the_part_that_was_told_counts() -> None:
    found = compare([SCRATCH], [Box(301, 303, 2500, 2600)], reach_mm=4)
    assert found.errors_mm == (1.0,)


def test_nothing_told_has_no_error() -> None:
    found = compare([SPOT], [], reach_mm=4)
    assert (found.found, found.worst_mm, found.median_mm) == (0, None, None)


def test_boxes_are_in_mm_from_the_webs_edge_and_parts_are_one() -> None:
    web = DrawnWeb(5, WebOptions(width=400, pitch=0.5, defects_per_m=3, neps_per_m=50, margin=40, wander=20))
    (first, *_), boxes = web.defects(0, 8000), drawn_boxes(web, 8000)
    assert len(boxes) == len(web.defects(0, 8000)) > 5
    edge, _ = web.edges(first.first)
    assert (boxes[0].left, boxes[0].start) == ((first.left - edge) * 0.5, first.first * 0.5)
    assert max(box.stop for box in boxes) <= 4000
    parts = [
        make_defect(1, x_mm=5.0, width_mm=2.0, y_mm=10.0, length_mm=90.0, continues=True),
        make_defect(1, x_mm=4.0, width_mm=2.0, y_mm=100.0, length_mm=50.0, part=2),
    ]
    assert told_boxes(parts) == [Box(4.0, 7.0, 10.0, 150.0)]

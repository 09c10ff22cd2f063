"""Rules on the defects of a web."""

from __future__ import annotations

import pytest
from webs import make_defect

from acl_runtime.files.errors import InputError
from acl_runtime.web.records import Lane, Scale, lanes_of
from acl_runtime.web.rules import MOST_HELD, Alarm, Density, Roller, Rule, Rules, Size


def tell(rules: list[Rule], *places: tuple[float, float], **changes: float) -> list[Alarm]:
    """The alarms of defects at places along and across."""
    given = Rules(rules, width_mm=500, lanes=[Lane("a", 0, 100)])
    return [
        alarm
        for number, (along, across) in enumerate(places, start=1)
        for alarm in given.add(make_defect(number, y_mm=along, x_mm=across, lanes=("a",), **changes))
    ]


def test_more_than_so_many_on_a_square_metre_are_told_once() -> None:
    """A web of 0.5 m has its square metre on 2 m."""
    (alarm,) = tell([Density(2)], (0, 5), (1500, 5), (1999, 400), (2000, 5))
    assert alarm.rule == "more than 2 defects per m²"
    assert alarm.numbers == (1, 2, 3)
    assert not tell([Density(2)], (0, 5), (1500, 5), (2001, 400))
    assert len(tell([Density(0)], (0, 5), (1, 5))) == 2


def test_a_lane_has_its_own_square_metre() -> None:
    (alarm,) = tell([Density(1, "a")], (0, 5), (9000, 5))
    assert alarm.rule == "more than 1 defects per m² in lane a"


def test_one_that_is_too_large_is_told_each_time() -> None:
    assert len(tell([Size(3)], (0, 0), (100, 0), length_mm=3.5)) == 2
    assert len(tell([Size(3)], (0, 0), width_mm=3.5)) == 1
    assert not tell([Size(3)], (0, 0), length_mm=3, width_mm=3)


def test_a_roller_is_named_whose_circumference_defects_repeat_at() -> None:
    rollers: list[Rule] = [Roller("R1", 314), Roller("R7", 471, times=4)]
    places = [(10 + 471 * turn + drift, 80 + drift) for turn, drift in enumerate((0, 1, -0.5, 0.7))]
    noise = [(100 + 37.0 * turn, 300.0) for turn in range(9)]
    (alarm,) = tell(rollers, *sorted(places + noise))
    assert alarm.rule == "repeats 4 times at 471 mm, the circumference of roller R7"
    assert len(alarm.numbers) == 4
    assert not tell(rollers, *places[:3])


def test_a_lane_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        InputError, match="there is no lane b, there are none; say where it lies: --lane b=FROM-TO"
    ):
        Rules([Size(1, "b")], width_mm=1)


@pytest.mark.parametrize("make", [lambda: Density(MOST_HELD), lambda: Size(-1), lambda: Roller("x", 3, 3, 2)])
def test_rules_that_mean_nothing_are_refused(make: object) -> None:
    with pytest.raises(InputError, match="got"):
        make()  # type: ignore[operator]


def test_lanes_are_those_that_a_stretch_touches() -> None:
    lanes = (Lane("a", 0, 10), Lane("b", 10, 20), Lane("all", 0, 99))
    assert lanes_of(lanes, 9.5, 10.0) == ("a", "all")
    assert lanes_of(lanes, 9.5, 10.1) == ("a", "b", "all")
    assert lanes_of(lanes, 99.0, 100.0) == ()
    for left, right in ((3, 3), (5, 1), (0, float("nan"))):
        with pytest.raises(InputError, match="lane x must go from"):
            Lane("x", left, right)


def test_a_pitch_is_a_length() -> None:
    with pytest.raises(InputError, match="mm_per_line must be above 0, got 0"):
        Scale(mm_per_line=0, mm_per_pixel=1)

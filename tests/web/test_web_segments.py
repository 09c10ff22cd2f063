"""Segments of a web: each judged line in one, what was not judged from end to end left out."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from webs import Brightness, as_items, defects_of, draw_web, make_plan, settings

from acl_runtime.files.errors import InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.scoring.rule import Rule
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import Event
from acl_runtime.web.segments import Segment, Segments

LINES = 100


def run(web: np.ndarray, gaps: list[Lost], **changes: object) -> tuple[list[Segment], list[Event], Segments]:
    meter = Segments(LINES)
    engine = WebEngine(make_plan(), Brightness(), settings(**changes), see_lines=meter.see_lines)
    segments: list[Segment] = []
    events: list[Event] = []
    told = (engine.add(item) for item in as_items(web, gaps, [64]))
    for event in chain(chain.from_iterable(told), engine.finish()):
        events.append(event)
        segments += meter.add(event)
    return segments, events, meter


@pytest.mark.parametrize("seed", range(5))
def test_a_segment_reaches_a_threshold_wherever_a_defect_lies_on_it(seed: int) -> None:
    """So that a promise about segments is one about `acl web`."""
    web = draw_web(1950, seed=seed, defects=5)
    segments, events, _ = run(web, [], rule=Rule(0.97, 0.5))
    assert [segment.first for segment in segments] == list(range(0, 1900, LINES))
    for defect in defects_of(events):
        on_it = [each for each in segments if each.first < defect.stop and defect.first < each.stop]
        assert all(each.peak >= 0.5 or each.score >= 0.97 for each in on_it)
    quiet = [each for each in segments if each.peak < 0.5 and each.score < 0.97]
    assert quiet


def test_segments_with_a_gap_are_left_out() -> None:
    web = draw_web(1000, seed=1)
    segments, _, meter = run(
        web, [Lost(first=250, stop=260, reason="blocks"), Lost(first=500, stop=600, reason="blocks")]
    )
    assert [segment.first for segment in segments] == [0, 100, 300, 400, 600, 700, 800, 900]
    assert meter.left_out == 1  # of the other one no line was judged


def test_the_appearance_is_that_of_its_lines() -> None:
    web = draw_web(400, seed=1, defects=0)
    web[:200] //= 2
    segments, _, _ = run(web, [])
    assert segments[0].brightness == pytest.approx(measure_appearance(web[:100]).brightness, abs=0.01)
    assert segments[3].brightness == pytest.approx(2 * segments[0].brightness, rel=0.02)


def test_a_segment_has_a_line_at_least() -> None:
    with pytest.raises(InputError, match="a segment must be at least 1 line, got 0"):
        Segments(0)

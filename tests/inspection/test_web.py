"""The loop of `acl web`: what waits at the end is judged in time or given up, and the account is whole."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from webs import ArraySource, Brightness, defects_of, draw_web, make_plan, settings

from acl_runtime.detection.brief import Answer
from acl_runtime.inspection.web import inspect_web
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import Event, StateChange
from acl_runtime.web.ring import LineRing, Reader


class Slow(Brightness):
    """A network that takes its time."""

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
        time.sleep(0.02)
        return super().__call__(tiles)


def start(
    source: ArraySource, judge: Brightness, *, ring_lines: int = 1000, **changes: object
) -> tuple[WebEngine, LineRing, Reader]:
    engine = WebEngine(make_plan(), judge, settings(**changes))
    ring = LineRing(ring_lines, waits=not source.is_live)
    return engine, ring, Reader(source, ring, lambda: source)


def check_account(engine: WebEngine, events: list[Event]) -> None:
    assert engine.pending == 0
    assert engine.exposed == engine.tally.accounted
    lost = sum(event.stop - event.first for event in events if isinstance(event, Lost))
    assert lost == engine.tally.all_lost


def test_a_recording_is_judged_to_its_last_line() -> None:
    engine, ring, reader = start(ArraySource(draw_web(3000)), Brightness())
    events = [*inspect_web(engine, ring, reader)]
    check_account(engine, events)
    assert engine.tally.judged == 3000
    assert defects_of(events)
    assert ring.kept_up == 1


def test_lines_faster_than_the_network_are_lost_as_too_slow_and_nothing_else_is() -> None:
    engine, ring, reader = start(ArraySource(draw_web(6000), is_live=True), Slow(), ring_lines=400)
    events = [*inspect_web(engine, ring, reader)]
    check_account(engine, events)
    assert engine.exposed == 6000
    assert engine.tally.lost["too slow"] > 1000
    assert set(engine.tally.lost) <= {"too slow", "short strip"}
    assert ring.kept_up < 0.9


@pytest.mark.parametrize("finish_s", [10.0, 0.1, 0.0])
def test_when_it_is_stopped_what_waits_is_judged_for_a_while_and_the_rest_is_given_up(
    finish_s: float,
) -> None:
    source = ArraySource(draw_web(3200), is_live=True, pauses_s={40: 60.0})
    engine, ring, reader = start(source, Slow(), ring_lines=2000)
    while source.index < 40:
        time.sleep(0.01)
    began = time.monotonic()
    events = [*inspect_web(engine, ring, reader, stopped=lambda: True, finish_s=finish_s)]
    check_account(engine, events)
    assert engine.exposed == 1280
    assert time.monotonic() - began < finish_s + 1.5
    if finish_s == 10:
        assert engine.tally.judged == 1280
    elif finish_s:
        assert 0 < engine.tally.judged < 1280
    else:
        assert engine.tally.lost == {"too slow": 1280}
        assert [event for event in events if isinstance(event, Lost)] == [
            Lost(first=0, stop=1280, reason="too slow")
        ]


def test_a_web_that_stands_is_judged_so_far() -> None:
    source = ArraySource(draw_web(640), line_ns=0, is_live=True, pauses_s={10: 0.6})
    engine, ring, reader = start(source, Brightness(), flush_after_s=0.2, after_standstill=5)
    events = [*inspect_web(engine, ring, reader)]
    check_account(engine, events)
    assert [event.state for event in events if isinstance(event, StateChange)] == ["standstill", "running"]
    assert engine.tally.lost == {"standstill": 5}


def test_lines_are_corrected_before_they_are_judged() -> None:
    web = draw_web(400)
    engine, ring, reader = start(ArraySource(web // 2), Brightness())
    corrected = [*inspect_web(engine, ring, reader, correct=lambda lines: np.asarray(lines * 2, np.uint8))]
    engine, ring, reader = start(ArraySource(web // 2 * 2), Brightness())
    as_they_are = [*inspect_web(engine, ring, reader)]
    assert [d.first for d in defects_of(corrected)] == [d.first for d in defects_of(as_they_are)] != []


@pytest.mark.parametrize("most", [1, 47, 48, 1000])
def test_a_roll_ends_at_its_length(most: int) -> None:
    engine, ring, reader = start(ArraySource(draw_web(3000)), Brightness())
    check_account(engine, [*inspect_web(engine, ring, reader, most_lines=most)])
    assert engine.exposed == most

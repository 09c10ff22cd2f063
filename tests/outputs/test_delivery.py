"""An output's queue never delays who tells, keeps the order, and counts what it gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from station_events import part, status, wait_until

from acl_runtime.outputs.delivery import Delivery, Limits, PeerError, RefusedError
from acl_runtime.outputs.station import StationEvent, StationStatus

QUICK = (0.005, 0.01)


class Box:
    """A peer in this process whose doors can be shut; what it was given, in order."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.is_there = True
        self.connects = self.closes = 0
        self.open = threading.Event()
        self.open.set()
        self.refused: set[int] = set()
        self.bug: Exception | None = None

    def connect(self) -> Box:
        self.connects += 1
        if not self.is_there:
            raise PeerError("the box is away")
        return self

    def deliver(self, item: Any) -> None:
        self.open.wait()
        if self.bug is not None:
            raise self.bug
        if not self.is_there:
            raise ConnectionResetError("the box broke")
        if item in self.refused:
            raise RefusedError("not this one")
        self.got.append(item)

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self.closes += 1


def number_of(event: StationEvent) -> Any:
    return event.state if isinstance(event, StationStatus) else event.number


def open_box(box: Box, *, prepare: Callable[[StationEvent], Any] = number_of, **limits: Any) -> Delivery:
    return Delivery("box", box.connect, prepare, Limits(pauses_s=QUICK, **limits))


def test_results_arrive_in_order_and_once() -> None:
    box = Box()
    output = open_box(box)
    for number in range(1, 301):
        output(part(number))
    output.close(5)
    assert box.got == [*range(1, 301)]
    assert (output.dropped, output.problem, box.closes) == (0, "", 1)


def test_what_waits_while_the_peer_is_away_is_delivered_when_it_is_back() -> None:
    box = Box()
    output = open_box(box)
    output(part(1))
    wait_until(lambda: box.got == [1])
    box.is_there = False
    output(part(2))
    output(part(3))
    wait_until(lambda: output.problem)
    wait_until(lambda: box.connects > 3)
    assert output.problem == "the box is away"
    assert box.got == [1]
    box.is_there = True
    wait_until(lambda: box.got == [1, 2, 3])
    wait_until(lambda: not output.problem)
    output.close(1)
    assert output.dropped == 0


def test_a_full_queue_drops_the_oldest_and_counts_them() -> None:
    box = Box()
    box.open.clear()  # the first is stuck on its way
    output = open_box(box, most_waiting=5)
    output(part(1))
    wait_until(lambda: output._in_flight == 1)
    for number in range(2, 101):
        output(part(number))
    assert (output.waiting, output.dropped) == (5, 95)
    box.open.set()
    output.close(5)
    assert box.got == [1, 97, 98, 99, 100]


def test_only_the_newest_status_waits_and_goes_first() -> None:
    box = Box()
    box.open.clear()
    output = open_box(box)
    output(part(1))
    wait_until(lambda: output._in_flight == 1)
    output(part(2))
    for state in ("running", "fault", "ready"):
        output(status(state))
    box.open.set()
    output.close(5)
    assert box.got == [1, "ready", 2]
    assert output.dropped == 0


def test_a_peer_that_hangs_costs_the_caller_nothing_and_the_end_no_longer_than_allowed() -> None:
    box = Box()
    box.open.clear()
    output = open_box(box, most_waiting=10)
    began = time.perf_counter()
    for number in range(1, 1001):
        output(part(number))
    spent_s = time.perf_counter() - began
    assert spent_s < 1  # it would hang forever if anybody waited
    began = time.perf_counter()
    output.close(0.05)
    assert time.perf_counter() - began < 2
    assert output.dropped == 1000
    box.open.set()


def test_results_for_a_peer_that_is_away_can_be_given_up_instead_of_coming_late() -> None:
    box = Box()
    box.is_there = False
    output = open_box(box, keep_while_away=False)
    wait_until(lambda: output.problem == "the box is away")
    output(part(1))
    box.is_there = True
    wait_until(lambda: not output.problem)
    output(part(2))
    output.close(5)
    assert box.got == [2]
    assert output.dropped == 1


def test_what_is_refused_is_counted_and_holds_up_nothing() -> None:
    box = Box()
    box.refused = {2}
    output = open_box(box)
    for number in (1, 2, 3):
        output(part(number))
    output.close(5)
    assert box.got == [1, 3]
    assert output.dropped == 1


def test_at_the_end_a_peer_that_is_away_is_tried_once_more_and_not_waited_for() -> None:
    box = Box()
    box.is_there = False
    output = Delivery("box", box.connect, number_of, Limits(pauses_s=(60.0,)))
    output(part(1))
    wait_until(lambda: output.problem == "the box is away")
    began = time.perf_counter()
    output.close(30)
    assert time.perf_counter() - began < 5
    assert (box.connects, output.dropped) == (2, 1)


def test_a_bug_in_an_output_is_told_and_does_not_reach_the_station(caplog: pytest.LogCaptureFixture) -> None:
    box = Box()
    box.bug = TypeError("oops")
    output = open_box(box)
    output(part(1))
    wait_until(lambda: "bug" in output.problem)
    output(part(2))
    assert "TypeError('oops')" in output.problem
    assert output.dropped == 2
    assert "Traceback" in caplog.text
    output.close(1)


def test_that_a_peer_is_away_and_back_is_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    box = Box()
    box.is_there = False
    with caplog.at_level("INFO", "acl"):
        output = open_box(box, idle_s=0.001)
        wait_until(lambda: box.connects > 3)
        box.is_there = True
        wait_until(lambda: "back" in caplog.text)
        output.close(1)
    assert [record.getMessage() for record in caplog.records] == [
        "output box: the box is away; it is tried again",
        "output box: is back",
    ]


def test_an_event_that_is_not_wanted_is_not_counted() -> None:
    box = Box()
    output = open_box(box, prepare=lambda event: None)
    output(part(1))
    output.close(1)
    assert (box.got, output.dropped) == ([], 0)

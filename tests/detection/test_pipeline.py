"""Stages overlap, in order, with bounded memory; nothing is lost, and what fails comes in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acl_runtime.detection.pipeline import Pipeline

TICK_S = 0.01


def taking(seconds: float) -> Callable[[Any], Any]:
    """A stage that passes things on after a while."""

    def stage(thing: Any) -> Any:
        time.sleep(seconds)
        return thing

    return stage


def whole(group: list[Any]) -> list[list[Any]]:
    """A first stage that leaves groups as they are."""
    return [group]


def drain(pipeline: Pipeline, taken: list[Any]) -> None:
    """Take all that comes, one by one."""
    for group in pipeline:
        taken += group


def flat(pipeline: Pipeline) -> list[Any]:
    taken: list[Any] = []
    drain(pipeline, taken)
    return taken


def threads() -> int:
    return threading.active_count()


def until(condition: Callable[[], bool]) -> bool:
    """Wait for it, five seconds at most."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(TICK_S)
    return condition()


@pytest.mark.parametrize("group", [1, 3, 8])
def test_everything_comes_out_in_order(group: int) -> None:
    before = threads()
    pipeline = Pipeline(range(100), whole, [taking(0), taking(0)], group=group)
    groups = list(pipeline)
    assert [item for each in groups for item in each] == list(range(100))
    assert max(map(len, groups)) <= group
    assert until(lambda: threads() == before)


def test_nothing_comes_of_nothing() -> None:
    assert list(Pipeline([], whole, [taking(0)])) == []


def test_stages_overlap() -> None:
    at_work, most, lock = 0, 0, threading.Lock()

    def stage(thing: Any) -> Any:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(TICK_S)
        with lock:
            at_work -= 1
        return thing

    list(Pipeline(range(20), whole, [stage, stage, stage]))
    assert most == 3


def test_a_slow_consumer_holds_the_source_back_and_loses_nothing() -> None:
    given = 0

    def source() -> Iterator[int]:
        nonlocal given
        for number in range(50):
            given += 1
            yield number

    pipeline, taken = Pipeline(source(), whole, [taking(0)]), []
    for group in pipeline:
        taken += group
        time.sleep(TICK_S / 10)
        assert given - len(taken) <= 7  # one in every hand and one before it
    assert taken == list(range(50))


def test_what_the_source_raises_comes_after_what_it_gave() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the camera is gone")

    taken: list[int] = []
    pipeline = Pipeline(source(), whole, [taking(TICK_S), taking(0)], group=4)
    with pytest.raises(ValueError, match="the camera is gone"):
        drain(pipeline, taken)
    assert taken == list(range(5))


def test_what_a_stage_raises_comes_in_its_place_and_ends_it() -> None:
    before = threads()

    def stage(group: list[int]) -> list[int]:
        if 5 in group:
            raise RuntimeError("out of memory")
        return group

    taken: list[int] = []
    pipeline = Pipeline(range(100), whole, [taking(0), stage])
    with pytest.raises(RuntimeError, match="out of memory"):
        drain(pipeline, taken)
    assert taken == list(range(5))
    assert until(lambda: threads() == before)


def test_a_group_that_does_not_fill_waits_no_longer_than_it_may() -> None:
    go_on = threading.Event()

    def source() -> Iterator[int]:
        yield from (0, 1)
        go_on.wait(5)  # a camera that stands still
        yield 2

    pipeline = Pipeline(source(), whole, group=8, max_wait_s=2 * TICK_S)
    started = time.monotonic()
    assert next(pipeline) == [0, 1]
    assert time.monotonic() - started < 2
    go_on.set()
    assert flat(pipeline) == [2]


def test_a_group_waits_for_all_where_it_may() -> None:
    def source() -> Iterator[int]:
        for number in range(4):
            time.sleep(TICK_S)
            yield number

    assert list(Pipeline(source(), whole, group=4, max_wait_s=None)) == [[0, 1, 2, 3]]


def test_only_who_asks_for_it_loses_the_oldest_and_they_are_counted() -> None:
    def camera() -> Iterator[int]:
        for number in range(60):
            time.sleep(TICK_S / 5)
            yield number

    def slow(group: list[int]) -> list[list[int]]:
        time.sleep(2 * TICK_S)
        return [group]

    pipeline = Pipeline(camera(), slow, drop_oldest=True)
    taken = flat(pipeline)
    assert taken == sorted(taken)
    assert taken[-1] == 59  # the newest is never dropped
    assert pipeline.dropped > 0
    assert len(taken) + pipeline.dropped == 60


def test_a_source_that_fails_drops_no_item_that_waits() -> None:
    all_came = threading.Event()

    def camera() -> Iterator[int]:
        yield 0
        begun.wait(5)
        yield 1  # waits, and the channel is full
        raise OSError("unplugged")

    begun = threading.Event()

    def slow(group: list[int]) -> list[list[int]]:
        begun.set()
        all_came.wait(5)
        return [group]

    pipeline = Pipeline(camera(), slow, drop_oldest=True)
    assert until(lambda: pipeline._intake._finished)
    all_came.set()
    assert [next(pipeline), next(pipeline)] == [[0], [1]]
    with pytest.raises(OSError, match="unplugged"):
        next(pipeline)
    assert pipeline.dropped == 0


def test_closing_ends_the_threads_and_the_source() -> None:
    before, closed = threads(), threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    pipeline = Pipeline(source(), whole, [taking(0), taking(0)], group=2)
    next(pipeline)
    pipeline.close()
    assert closed.wait(5)
    assert until(lambda: threads() == before)
    assert list(pipeline) == []


def test_a_first_stage_gives_more_or_less_than_it_took() -> None:
    def split(group: list[int]) -> Iterator[int]:
        for item in group:
            yield from [item] * item

    assert list(Pipeline(range(4), split, [taking(0)], group=2)) == [1, 2, 2, 3, 3, 3]


def test_what_a_first_stage_raises_comes_after_what_it_gave() -> None:
    def split(group: list[int]) -> Iterator[int]:
        yield group[0]
        if group[0] == 3:
            raise RuntimeError("in the middle")

    taken: list[int] = []
    with pytest.raises(RuntimeError, match="in the middle"):
        taken.extend(Pipeline(range(9), split))
    assert taken == [0, 1, 2, 3]


def test_a_source_that_cannot_be_closed_tells_the_consumer() -> None:
    class Camera:
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

        def close(self) -> None:
            raise OSError("the camera does not answer")

    taken: list[int] = []
    with pytest.raises(OSError, match="does not answer"):
        drain(Pipeline(Camera(), whole), taken)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("max_wait_s", [float("inf"), 1e300])
def test_a_stage_that_dies_while_it_waits_tells_the_consumer(max_wait_s: float) -> None:
    before, answered = threads(), threading.Event()

    def camera() -> Iterator[int]:
        yield 0
        answered.wait(0.2)
        yield 1

    with pytest.raises(OverflowError):
        list(Pipeline(camera(), whole, [taking(0)], group=2, max_wait_s=max_wait_s))
    answered.set()
    assert until(lambda: threads() == before)


def test_letting_go_of_it_in_the_middle_ends_the_threads_and_the_source() -> None:
    before, closed = threads(), 0

    def source() -> Iterator[int]:
        nonlocal closed
        try:
            while True:
                yield 0
        finally:
            closed += 1

    def fails(group: list[int]) -> None:
        raise ZeroDivisionError

    for turn in range(20):
        try:
            for group in Pipeline(source(), whole, [taking(0)]):
                if turn % 2:
                    break
                fails(group)
        except ZeroDivisionError:
            pass
    assert until(lambda: threads() == before)
    assert closed == 20


@pytest.mark.parametrize("fails", [False, True])
def test_several_threads_of_a_stage_keep_the_order_whichever_is_first(fails: bool) -> None:
    before = threads()
    later_is_done = [threading.Event() for _ in range(10)]
    working, most, lock = 0, 0, threading.Lock()

    def stage(group: list[int]) -> list[int]:
        nonlocal working, most
        (number,) = group
        with lock:
            working += 1
            most = max(most, working)
        if number % 2 == 0:
            assert later_is_done[number + 1].wait(30)  # the one after it is ready first
        later_is_done[number].set()
        with lock:
            working -= 1
        if fails and number == 6:
            raise KeyError("planted")
        return group

    taken: list[int] = []
    pipeline = Pipeline(range(10), whole, [stage, taking(0)], threads=(2, 1))
    if fails:
        with pytest.raises(KeyError, match="planted"):
            drain(pipeline, taken)
        assert taken == list(range(6))
    else:
        drain(pipeline, taken)
        assert taken == list(range(10))
    assert most == 2
    assert until(lambda: threads() == before)


def test_closing_ends_all_threads_of_a_stage() -> None:
    before = threads()
    pipeline = Pipeline(range(1000), whole, [taking(0)], threads=(3,))
    assert next(pipeline) == [0]
    pipeline.close()
    assert until(lambda: threads() == before)

"""Inspect what a line camera sees, until it ends or is stopped: the one loop of `acl web` and its service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import Event
from acl_runtime.web.ring import READ_S

FINISH_S = 2.0  # what waits when it is stopped is judged for so long
Correct = Callable[[np.ndarray], np.ndarray]
"""From lines as the camera gave them, (n, W) or (n, W, 3), to evenly lit ones of the same shape and type."""


class Queue(Protocol):
    """Where lines are, such as `LineRing`."""

    def take(self, timeout_s: float) -> Lines | Lost | None:
        """What comes next, None if nothing came in time; EOFError at the end."""
        ...


class LineReader(Protocol):
    """What fills it, such as `Reader`."""

    def stop(self) -> None:
        """Read no more; what was read comes, and then the end."""
        ...

    def close(self) -> None:
        """Stop, and give the source back."""
        ...


def inspect_web(
    engine: WebEngine,
    ring: Queue,
    reader: LineReader,
    *,
    correct: Correct | None = None,
    stopped: Callable[[], bool] = lambda: False,
    most_lines: int | None = None,
    finish_s: float = FINISH_S,
) -> Iterator[Event]:
    """Judge what comes through a ring, and tell all that the engine tells.

    Args:
        engine: Judges.
        ring: Where the lines are.
        reader: That fills it; it is stopped when the inspection ends, and closed.
        correct: Flat field; None for lines as they are.
        stopped: Asked between two items whether to end.
        most_lines: Lines of the roll; those behind it are not looked at. None for all that come.
        finish_s: Time to judge what waits after it was stopped; the rest is lost as too slow.

    Raises:
        UserError: The source or the network cannot go on; what waited was accounted for before.
    """
    late = _Deadline(stopped, reader.stop, finish_s)
    try:
        for item in _take_all(ring, step=engine.plan.step):
            is_late = late()
            if item is None:
                yield from engine.wait(time.monotonic_ns())
                continue
            here = item if most_lines is None else _up_to(item, most_lines)
            if is_late:
                if engine.pending:
                    yield from engine.abandon()
                here = _given_up(here)
            elif correct is not None and isinstance(here, Lines):
                here = replace(here, pixels=correct(here.pixels))
            yield from engine.add(here)
            if here.stop == most_lines:
                break
        yield from engine.abandon() if late() else engine.finish()
    finally:
        reader.close()


class _Deadline:
    """Whether it is too late to judge: some time after it was told to stop."""

    def __init__(self, stopped: Callable[[], bool], stop: Callable[[], None], finish_s: float) -> None:
        self._stopped, self._stop, self._finish_s = stopped, stop, finish_s
        self._at: float | None = None

    def __call__(self) -> bool:
        if self._at is None and self._stopped():
            self._stop()
            self._at = time.monotonic() + self._finish_s
        return self._at is not None and time.monotonic() > self._at


def _take_all(ring: Queue, *, step: int) -> Iterator[Lines | Lost | None]:
    """What comes through a ring until it ends, lines in pieces of a step at most, and None where nothing comes."""
    while True:
        try:
            item = ring.take(READ_S)
        except EOFError:
            return
        if not isinstance(item, Lines):
            yield item
            continue
        for start in range(0, len(item.pixels), step):
            yield replace(item, first=item.first + start, pixels=item.pixels[start : start + step])


def _up_to(item: Lines | Lost, line: int) -> Lines | Lost:
    """What lies before a line."""
    if item.stop <= line:
        return item
    if isinstance(item, Lost):
        return replace(item, stop=line)
    return replace(item, pixels=item.pixels[: line - item.first])


def _given_up(item: Lines | Lost) -> Lost:
    return item if isinstance(item, Lost) else Lost(first=item.first, stop=item.stop, reason="too slow")

"""Stages that overlap: each in a thread of its own, with little waiting between them, order kept."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MAX_LATENCY_MS = 100.0  # that a frame waits for its batch to fill, unless told otherwise
PATIENCE_S = 5.0  # for whoever is in the middle of something when the pipeline is closed


class Channel(Generic[T]):
    """A bounded queue between two threads that the one who puts can finish, and that either can abandon."""

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        """At most `size` things wait; a full channel makes `put` wait too, or drops the oldest."""
        self._items: deque[T] = deque()
        self._size, self._drop_oldest = size, drop_oldest
        self._changed = threading.Condition()
        self._finished = self._abandoned = False
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Append, waiting for room; False if nobody will take it any more."""
        with self._changed:
            if self._drop_oldest and len(self._items) == self._size:
                self._items.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._items) < self._size or self._abandoned)
            if not self._abandoned:
                self._items.append(item)
            self._changed.notify_all()
            return not self._abandoned

    def take(self, count: int = 1, wait_s: float | None = None) -> list[T]:
        """The oldest things, `count` unless fewer come within `wait_s` of the first; none at the end.

        Args:
            count: Most to take.
            wait_s: Longest to wait for more once there is one; None for as long as it takes.
        """
        taken: list[T] = []
        deadline: float | None = None
        with self._changed:
            while len(taken) < count:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._changed.wait_for(lambda: self._items or self._finished or self._abandoned, left)
                if self._abandoned or not self._items:
                    break  # abandoned, finished, or too late
                taken.append(self._items.popleft())
                self._changed.notify_all()
                if deadline is None and wait_s is not None:
                    deadline = time.monotonic() + wait_s
            return [] if self._abandoned else taken

    def finish(self, *last: T) -> None:
        """Nothing more will be put, but `last` even where it is full; what waits is still taken."""
        with self._changed:
            if not self._abandoned:
                self._items.extend(last)
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more will be taken; what waits is dropped, and whoever waits goes on."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()


@dataclass(frozen=True)
class _Failure:
    """Takes the place of what could not be made."""

    error: BaseException


class _Turns:
    """The threads of one stage: what was taken first is put first, however long each takes."""

    def __init__(self, threads: int) -> None:
        self._taking, self._changed = threading.Lock(), threading.Condition()
        self._taken = self._put = 0
        self._left, self._ended = threads, False

    def take(self, source: Channel[Any], count: int, wait_s: float | None) -> tuple[int, list[Any]]:
        """What comes next, see `Channel.take`, and its turn."""
        with self._taking:
            items = source.take(count, wait_s)
            self._taken += 1
            return self._taken - 1, items

    def wait_for(self, turn: int) -> bool:
        """Wait until all before it was put; False if nothing more may be put."""
        with self._changed:
            self._changed.wait_for(lambda: self._put == turn or self._ended)
            return not self._ended

    def pass_on(self) -> None:
        """All of this turn was put."""
        with self._changed:
            self._put += 1
            self._changed.notify_all()

    def leave(self, *, is_end: bool) -> bool:
        """A thread ends, and the others with it where it is the stage's end; True for the last that puts."""
        with self._changed:
            self._left -= 1
            self._ended |= is_end
            self._changed.notify_all()
            return is_end or not self._left


class Pipeline(Iterator[Any]):
    """Things that go through stages, each stage at work on another one.

    Every stage has a thread of its own, or several, and so has `items` one. The order is kept and nothing is lost;
    where the consumer is slow the stages wait, and `items` with them. What `items` or a stage raises, whatever it is,
    comes to the consumer in its place, after all that came before it, and ends the pipeline. The threads end with it,
    and also when the consumer lets go of it in the middle.
    """

    def __init__(
        self,
        items: Iterable[Any],
        split: Callable[[list[Any]], Iterable[Any]],
        stages: Sequence[Callable[[Any], Any]] = (),
        *,
        threads: Sequence[int] = (),
        group: int = 1,
        max_wait_s: float | None = None,
        drop_oldest: bool = False,
    ) -> None:
        """Begin at once.

        Args:
            items: What goes in; iterated in a thread, and closed there if it can be.
            split: The first stage, which takes a list of items, 1 to `group` of them, and gives any number of things.
            stages: Each takes a thing that the one before gave; what the last gives comes out.
            threads: Of each of these stages, things that it works on at once; empty for one each.
            group: Most items to take together.
            max_wait_s: Longest that a first item waits for its group to fill; None for as long as it takes.
            drop_oldest: Where the stages are slower than `items`, drop the oldest item that waits, and count it,
                rather than wait.
        """
        self._intake: Channel[Any] = Channel(group, drop_oldest=drop_oldest)
        channels: list[Channel[Any]] = [self._intake, *(Channel[Any](1) for _ in (split, *stages))]
        works = [(split, group, max_wait_s), *((_alone(stage), 1, None) for stage in stages)]
        counts = (1, *(threads or [1] * len(stages)))
        self._threads = [threading.Thread(target=_feed, args=(items, self._intake), daemon=True)]
        for work, count, source, target in zip(works, counts, channels, channels[1:], strict=False):
            arguments = (*work, source, target, _Turns(count))
            self._threads += [
                threading.Thread(target=_work, args=arguments, daemon=True) for _ in range(count)
            ]
        self._channels = channels
        # The threads know the channels and not the pipeline, so that it goes when its consumer lets go of it.
        self._finalizer = weakref.finalize(self, _abandon, channels)
        for thread in self._threads:
            thread.start()

    @property
    def dropped(self) -> int:
        """Items that were dropped so far; only with `drop_oldest`."""
        return self._intake.dropped

    def __next__(self) -> Any:
        made = self._channels[-1].take()
        if not made:
            raise StopIteration
        if isinstance(made[0], _Failure):
            self.close()
            raise made[0].error
        return made[0]

    def close(self) -> None:
        """Stop where it is; what is under way is dropped. Waits for the threads, but not for a silent camera."""
        self._finalizer()
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _abandon(channels: Iterable[Channel[Any]]) -> None:
    for channel in channels:
        channel.abandon()


def _feed(items: Iterable[Any], intake: Channel[Any]) -> None:
    try:
        try:
            for item in items:
                if not intake.put(item):
                    break
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
    except BaseException as error:  # it belongs to the consumer, and drops nothing that came before it
        intake.finish(_Failure(error))
    else:
        intake.finish()


def _work(
    stage: Callable[[list[Any]], Iterable[Any]],
    count: int,
    max_wait_s: float | None,
    source: Channel[Any],
    target: Channel[Any],
    turns: _Turns,
) -> None:
    """Pass on what a stage makes of what the one before passed on, and last what failed on the way, if anything."""
    turn, is_end = 0, True
    try:
        while True:
            turn, items = turns.take(source, count, max_wait_s)
            if not items:
                is_end = False  # another thread may still be at work on what came before
                return
            values = [item for item in items if not isinstance(item, _Failure)]
            made = stage(values) if values else ()
            if not turns.wait_for(turn) or not all(map(target.put, made)):
                return
            if len(values) < len(items):
                target.put(items[-1])
                return
            turns.pass_on()
    except BaseException as error:  # it belongs to the consumer
        if turns.wait_for(turn):
            target.put(_Failure(error))
    finally:
        if is_end:
            source.abandon()
        if turns.leave(is_end=is_end):
            target.finish()


def _alone(stage: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda things: [stage(things[0])]

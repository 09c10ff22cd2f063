"""Stages that overlap: each in a thread of its own, with little waiting between them, order kept."""

from __future__ import annotations

import threading
import time
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

    def finish(self) -> None:
        """Nothing more will be put; what waits is still taken."""
        with self._changed:
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


class Pipeline(Iterator[Any]):
    """Things that go through stages in groups, each stage at work on another group.

    Every stage has a thread of its own, and so has `items`. The order is kept and nothing is lost; where the consumer
    is slow the stages wait, and `items` with them. What `items` or a stage raises comes to the consumer in its place,
    after all that came before it, and ends the pipeline.
    """

    def __init__(
        self,
        items: Iterable[Any],
        stages: Sequence[Callable[[Any], Any]],
        *,
        group: int = 1,
        max_wait_s: float | None = None,
        drop_oldest: bool = False,
    ) -> None:
        """Begin at once.

        Args:
            items: What goes in; iterated in a thread, and closed there if it can be.
            stages: The first takes a list of items, 1 to `group` of them; each other takes what the one before gave;
                what the last gives comes out.
            group: Most items to take together.
            max_wait_s: Longest that a first item waits for its group to fill; None for as long as it takes.
            drop_oldest: Where the stages are slower than `items`, drop the oldest item that waits, and count it,
                rather than wait.
        """
        self._intake: Channel[Any] = Channel(group, drop_oldest=drop_oldest)
        self._channels: list[Channel[Any]] = [self._intake, *(Channel[Any](1) for _ in stages)]
        self._threads = [threading.Thread(target=self._feed, args=(items,), daemon=True)]
        for number, stage in enumerate(stages):
            is_first = number == 0
            work = (stage if is_first else _alone(stage), number, group if is_first else 1, max_wait_s)
            self._threads.append(threading.Thread(target=self._work, args=work, daemon=True))
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
        for channel in self._channels:
            channel.abandon()
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _feed(self, items: Iterable[Any]) -> None:
        try:
            for item in items:
                if not self._intake.put(item):
                    break
        except BaseException as error:  # it belongs to the consumer
            self._intake.put(_Failure(error))
        finally:
            self._intake.finish()
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _work(
        self, stage: Callable[[list[Any]], Any], number: int, count: int, max_wait_s: float | None
    ) -> None:
        source, target = self._channels[number], self._channels[number + 1]
        while items := source.take(count, max_wait_s):
            failures = [item for item in items if isinstance(item, _Failure)]  # the last one, if any
            values = [item for item in items if not isinstance(item, _Failure)]
            try:
                made = [stage(values)] if values else []
            except BaseException as error:  # it belongs to the consumer
                made, failures = [], [_Failure(error)]
            if not all(target.put(thing) for thing in [*made, *failures]) or failures:
                break
        source.abandon()
        target.finish()


def _alone(stage: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    return lambda group: stage(group[0])

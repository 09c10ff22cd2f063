"""A bounded queue and a thread between a station and the other side of an output: whoever tells never waits.

What waits is results, in their order, and the newest status. A peer that is away is tried again, with growing pauses.
What had to be given up is counted, and `problem` says why nothing arrives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from acl_runtime.outputs.station import StationEvent, StationStatus

LOG = logging.getLogger("acl")
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts; the last one again and again
IDLE_S = 1.0


class PeerError(Exception):
    """The other side is away or fails: connect again, and deliver the same again."""


class RefusedError(Exception):
    """This one cannot be delivered, now or later: give it up and go on."""


class Peer(Protocol):
    """The other side; called from one thread. What it raises beside its own errors ends the output."""

    def deliver(self, item: Any) -> None:
        """Hand over one item; when this returns the other side has it.

        Raises:
            PeerError: It is away.
            OSError: The same.
            RefusedError: It takes everything but this.
        """
        ...

    def idle(self) -> None:
        """Called while nothing waits, each `idle_s`, and after every connect; errors as of `deliver`."""
        ...

    def close(self) -> None:
        """Let go of it; never raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much waits and for how long.

    Attributes:
        most_waiting: Results that wait; a further one drops the oldest.
        idle_s: Seconds between two calls of `Peer.idle`.
        keep_while_away: Whether results wait for a peer that is away; else they are given up, because late is wrong.
        pauses_s: Between attempts to reach a peer.
    """

    most_waiting: int = 1000
    idle_s: float = IDLE_S
    keep_while_away: bool = True
    pauses_s: tuple[float, ...] = PAUSES_S


class Delivery:
    """An output; see `StationOutput`."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Peer],
        prepare: Callable[[StationEvent], Any],
        limits: Limits = Limits(),
    ) -> None:
        """Start the thread; it connects at once.

        Args:
            name: Of the output.
            connect: Reaches the other side; raises PeerError or OSError while it is away.
            prepare: Makes what waits of an event, in the thread of whoever tells: takes microseconds, drops pictures
                that nobody needs, never raises; None for an event that is not wanted.
            limits: Of the queue.
        """
        self.name = name
        self._connect, self._prepare, self._limits = connect, prepare, limits
        self._changed = threading.Condition()
        self._results: deque[Any] = deque()
        self._status: Any = None  # newest, until it is delivered
        self._in_flight: Any = None  # result that the peer is being given
        self._dropped = 0
        self._problem = "not connected yet"
        self._is_away = False  # and the log has it
        self._failures = 0  # since the peer was last seen well
        self._end_at: float | None = None  # time.monotonic, once it is to close
        self._thread = threading.Thread(target=self._guard, name=f"output {name}", daemon=True)
        self._thread.start()

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once."""
        item = self._prepare(event)
        if item is None:
            return
        with self._changed:
            if isinstance(event, StationStatus):
                self._status = item
            else:
                self._add(item)
            self._changed.notify()

    def _add(self, item: Any) -> None:
        if self._end_at is not None or (self._problem and not self._limits.keep_while_away):
            self._dropped += 1
            return
        self._results.append(item)
        if len(self._results) > self._limits.most_waiting:
            del self._results[1 if self._results[0] is self._in_flight else 0]
            self._dropped += 1

    @property
    def problem(self) -> str:
        """Why nothing arrives at the other side, in a sentence; empty while all is well."""
        return self._problem

    @property
    def dropped(self) -> int:
        """Results that were given up so far."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Results that wait."""
        return len(self._results)

    def close(self, within_s: float) -> None:
        """Deliver what waits, for so many seconds at most, and end; a peer that is away is tried once more."""
        with self._changed:
            self._end_at = time.monotonic() + within_s
            self._changed.notify()
        self._thread.join(within_s + 0.1)
        with self._changed:
            self._dropped += len(self._results)
            self._results.clear()

    # The thread

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:  # a bug; it must be seen, and must not stop the station
            LOG.exception("output %s: ended by an error", self.name)
            with self._changed:
                self._problem = f"ended by an error that is a bug ({error!r}); restart the station"
                self._end_at = 0.0
                self._dropped += len(self._results)
                self._results.clear()

    def _run(self) -> None:
        is_last = False
        while True:
            try:
                peer = self._connect()
                try:
                    self._work(peer)
                    return
                finally:
                    peer.close()
            except (PeerError, OSError) as error:
                self._fail(error)
            if is_last:
                return
            is_last = self._rest(self._limits.pauses_s[min(self._failures, len(self._limits.pauses_s)) - 1])

    def _work(self, peer: Peer) -> None:
        """Deliver until it is to end."""
        peer.idle()
        self._problem = ""
        idle_at = time.monotonic() + self._limits.idle_s
        while self._await(idle_at):
            if self._status is not None:
                status = self._status
                self._hand_over(peer, status)
                with self._changed:
                    self._status = None if self._status is status else self._status
            elif self._results:
                self._deliver_result(peer)
            if time.monotonic() >= idle_at:
                peer.idle()
                self._be_well()
                idle_at = time.monotonic() + self._limits.idle_s

    def _await(self, idle_at: float) -> bool:
        """Wait for something to do, until the peer's `idle` is due; false once nothing is left to do, ever."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._results or self._status is not None or self._end_at is not None,
                max(0.0, idle_at - time.monotonic()),
            )
            if self._end_at is None:
                return True
            return bool(self._results or self._status is not None) and time.monotonic() < self._end_at

    def _deliver_result(self, peer: Peer) -> None:
        with self._changed:
            self._in_flight = self._results[0]
        try:
            is_taken = self._hand_over(peer, self._in_flight)
            with self._changed:
                if self._results:  # else `close` gave up waiting
                    self._results.popleft()
                self._dropped += not is_taken
        finally:
            self._in_flight = None

    def _hand_over(self, peer: Peer, item: Any) -> bool:
        """Deliver; false if the peer refuses this one."""
        try:
            peer.deliver(item)
        except RefusedError as error:
            LOG.error("output %s: %s; it is given up", self.name, error)
            return False
        self._be_well()
        return True

    def _be_well(self) -> None:
        if self._is_away:
            self._is_away = False
            LOG.warning("output %s: is back", self.name)
        self._problem, self._failures = "", 0

    def _fail(self, error: Exception) -> None:
        problem = (
            str(error) or type(error).__name__
        )  # text alone: a log may keep the error, and with it a socket
        if not self._is_away:
            self._is_away = True
            LOG.warning("output %s: %s; it is tried again", self.name, problem)
        self._failures += 1
        with self._changed:
            self._problem = problem
            if not self._limits.keep_while_away:
                self._dropped += len(self._results)
                self._results.clear()

    def _rest(self, seconds: float) -> bool:
        """Pause; true if it is to end, which cuts the pause short."""
        with self._changed:
            return self._changed.wait_for(lambda: self._end_at is not None, seconds)

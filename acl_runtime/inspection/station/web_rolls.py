"""Rolls one after another from one camera: no line between two of them is missed."""

from __future__ import annotations

from dataclasses import replace

from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.ring import LineRing


class RollQueue:
    """The lines of a ring as those of a roll, numbered from its start; it ends where the roll is to end."""

    def __init__(self, ring: LineRing) -> None:
        """Begin with the ring's next line."""
        self._ring = ring
        self._first = 0  # of the roll, as the ring counts
        self._stop = 0  # behind the last that was taken
        self._is_over = False
        self.has_ended = False  # the ring itself

    @property
    def line(self) -> int:
        """Lines of the roll that were taken so far."""
        return self._stop - self._first

    def end_roll(self) -> None:
        """Let the roll end behind what was taken; from any thread."""
        self._is_over = True

    def begin_roll(self) -> None:
        """Begin another with the next line."""
        self._first, self._is_over = self._stop, False

    def take(self, timeout_s: float) -> Lines | Lost | None:
        """What comes next, None if nothing came in time; see `LineRing.take`.

        Raises:
            EOFError: The roll has ended, or the ring.
        """
        if self._is_over:
            raise EOFError
        try:
            item = self._ring.take(timeout_s)
        except EOFError:
            self.has_ended = True
            raise
        if item is None:
            return None
        self._stop = item.stop
        if isinstance(item, Lost):
            return replace(item, first=item.first - self._first, stop=item.stop - self._first)
        return replace(item, first=item.first - self._first)

    def skip(self, timeout_s: float) -> None:
        """Pass over what comes next; it belongs to no roll.

        Raises:
            EOFError: The ring has ended.
        """
        self._is_over = False
        self.take(timeout_s)


class KeptReader:
    """The reader of all rolls: the end of one does not end it."""

    def __init__(self) -> None:
        """Nothing to give back."""

    def stop(self) -> None:
        """Nothing; the station stops the reader itself."""

    def close(self) -> None:
        """Nothing; the station gives the source back."""

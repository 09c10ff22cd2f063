"""How a PLC reads results one by one: valid, acknowledged, and what happens when it is too slow.

    station   valid = 0 ──put──▶ valid = 1, number and verdict stand ──────────────▶ valid = 0 ──▶ the next
    PLC       ack = 0              sees valid, reads, ack = 1 ─────▶ sees valid = 0, ack = 0

There is no clock and no thread in here; whoever uses it from several threads holds a lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from acl_runtime.outputs.station import PartResult, PartVerdict, StationState

MOST_WAITING = 8


@dataclass(frozen=True, kw_only=True)
class View:
    """What a PLC sees at a moment; all of it belongs together.

    Attributes:
        ready: Whether parts may be sent.
        running: Whether parts are judged.
        fault: Whether something keeps the station from judging; every part is then NG.
        valid: Whether a result stands that was not acknowledged.
        overrun: Whether a result was dropped because the PLC did not fetch it; its number is a hole, and NG.
        number: Of the part; 0 while nothing stands.
        verdict: Of the part; "none" while nothing stands.
    """

    ready: bool
    running: bool
    fault: bool
    valid: bool
    overrun: bool
    number: int
    verdict: PartVerdict | Literal["none"]


class Handshake:
    """The results of a station towards one PLC."""

    def __init__(self, *, most_waiting: int = MOST_WAITING) -> None:
        """Begin with nothing to tell.

        Args:
            most_waiting: Results that wait behind the one that stands; a further one drops the oldest of them.
        """
        self._waiting: deque[PartResult] = deque()
        self._most = most_waiting
        self._state: StationState = "starting"
        self._ack = False
        self.shown: PartResult | None = None  # that stands, until it is acknowledged
        self.overrun = False
        self.dropped = 0

    def put(self, part: PartResult) -> None:
        """Take a result of the station."""
        if len(self._waiting) == self._most:
            self._waiting.popleft()
            self.overrun = True
            self.dropped += 1
        self._waiting.append(part)
        self._advance()

    def set_state(self, state: StationState) -> None:
        """Take the station's state."""
        self._state = state

    def acknowledge(self, level: bool) -> None:
        """Take the level of the PLC's acknowledge bit; it counts where it rises while a result stands."""
        if level and not self._ack:
            self.shown = None
        self._ack = level
        self._advance()

    def reset(self) -> None:
        """Forget that there was an overrun, as the PLC asks."""
        self.overrun = False

    @property
    def view(self) -> View:
        """What the PLC sees now."""
        shown, state = self.shown, self._state
        return View(
            ready=state in ("ready", "running"),
            running=state == "running",
            fault=state not in ("ready", "running"),
            valid=shown is not None,
            overrun=self.overrun,
            number=0 if shown is None else shown.number,
            verdict="none" if shown is None else shown.verdict,
        )

    def _advance(self) -> None:
        if self.shown is None and not self._ack and self._waiting:
            self.shown = self._waiting.popleft()

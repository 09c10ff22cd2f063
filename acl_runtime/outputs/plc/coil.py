"""When the coil that means "good" is energised; no network and no clock in here.

Energised means good, so that a broken wire, a station without power and a part that nobody judged are the same to the
gate: not good.
"""

from __future__ import annotations

from acl_runtime.outputs.station import (
    SILENT_S,
    PartResult,
    StationEvent,
    StationState,
    StationStatus,
    WebRecord,
)

NOT_GOOD = ("defect-begun", "defect", "gap")  # records of a web


class GoodCoil:
    """Parts: energised for `hold_s` from a part that is OK, or until the next that is not.

    A web: energised while the station says that it is running, except for `hold_s` from a defect or lines that were not
    judged. Never in a fault, or without a status of the station in the last 3 s.
    """

    def __init__(self, hold_s: float) -> None:
        """Begin off."""
        self._hold_s = hold_s
        self._good_until = self._bad_until = self._alive_until = -float("inf")
        self._state: StationState = "starting"
        self._is_web = False

    def take(self, event: StationEvent, now: float, *, told_at: float | None = None) -> None:
        """Take an event.

        Args:
            event: Of the station.
            now: The time, in seconds.
            told_at: When the station said so; a status counts from then on. None for now.
        """
        if isinstance(event, StationStatus):
            if now > self._alive_until:  # what came before a silence is not good any more
                self._good_until = -float("inf")
            self._alive_until = (now if told_at is None else told_at) + SILENT_S
            self._state = event.state
            if event.state not in ("ready", "running"):
                self._good_until = -float("inf")
        elif isinstance(event, PartResult):
            is_good = event.verdict == "ok" and self._is_sound(now)
            self._good_until = now + self._hold_s if is_good else -float("inf")
        elif isinstance(event, WebRecord):
            self._is_web = True
            if event.record.get("event") in NOT_GOOD:
                self._bad_until = now + self._hold_s

    def is_on(self, now: float) -> bool:
        """Whether it is to be energised."""
        if self._is_web:
            return self.is_running(now) and now >= self._bad_until
        return self._is_sound(now) and now < self._good_until

    def is_running(self, now: float) -> bool:
        """Whether the station judges, as far as anybody knows."""
        return self._is_sound(now) and self._state == "running"

    def _is_sound(self, now: float) -> bool:
        return self._state in ("ready", "running") and now <= self._alive_until

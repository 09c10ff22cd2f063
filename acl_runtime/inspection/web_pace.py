"""Notice a web that is said to stand between any two blocks, because it was waited too short for one."""

from __future__ import annotations

from collections.abc import Callable

from acl_runtime.web.records import Event, StateChange
from acl_runtime.web.rules import Alarm

IN_A_ROW = 3  # standstills, with a block or less between each two, before it is said


class ShortFlush:
    """Says once that `flush_after_s` is shorter than a block takes to come; no line is judged rightly then."""

    def __init__(self, height: int, flush_after_s: float, say: Callable[[str], None]) -> None:
        """Begin.

        Args:
            height: Lines of a block.
            flush_after_s: Seconds without lines after which the web is said to stand.
            say: Told, once.
        """
        self._height, self._flush_after_s, self._say = height, flush_after_s, say
        self._line: int | None = None  # of the last standstill
        self._count = 0  # of those in a row

    def __call__(self, event: Event | Alarm) -> None:
        """Look at what was told."""
        if not isinstance(event, StateChange) or event.state != "standstill" or self._count >= IN_A_ROW:
            return
        is_near = self._line is not None and event.line - self._line <= self._height
        self._line, self._count = event.line, self._count + 1 if is_near else 1
        if self._count == IN_A_ROW:
            self._say(
                f"the web is said to stand after each block of {self._height} lines: --flush-after "
                f"{self._flush_after_s:g} is shorter than a block takes to come, so that lines are lost as standstill; "
                "make it longer, or the camera's Height smaller"
            )

"""What becomes of every part: exactly one verdict each, by its deadline, told in the order of a camera's parts.

There is no clock and no thread in here: time comes with the calls, in nanoseconds of `time.monotonic_ns`. A part is OK
only if the network judged its own frame in time; whatever else happens to it is NOT JUDGED.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.station import PartResult, PartVerdict


@dataclass(kw_only=True, eq=False)
class Part:
    """A part on its way to a verdict.

    Attributes:
        number: Of the part.
        part_id: As the PLC named it.
        camera: That saw it, or should have.
        exposed_ns: When it was exposed.
        exposed_at: The same in seconds since 1970.
        deadline_ns: Until when its verdict must be there.
        frame: What there is to judge; None if nothing came, and once there is a verdict.
        verdict: None until it is known.
        reason: Why it was not judged.
        settled_ns: When the verdict was known.
        result: Of the network.
    """

    number: int
    part_id: str
    camera: str
    exposed_ns: int
    exposed_at: float
    deadline_ns: int
    frame: Frame | None
    verdict: PartVerdict | None = None
    reason: str = ""
    settled_ns: int = 0
    result: Result | None = None


class PartBook:
    """The parts of a station that are not told yet."""

    def __init__(self, tell: Callable[[PartResult], None], *, most_waiting: int) -> None:
        """Begin without parts.

        Args:
            tell: Called with every part once, in the order of a camera's parts.
            most_waiting: Parts that wait for the network; a further one is not judged.
        """
        self._tell, self._most = tell, most_waiting
        self._waiting: deque[Part] = deque()  # for the network, oldest first
        self._untold: dict[str, deque[Part]] = {}  # by camera, in order
        self._by_number: dict[int, Part] = {}  # those without a verdict

    def expose(self, part: Part, now_ns: int, *, problem: str = "") -> None:
        """Take a part; numbers rise.

        Args:
            part: New.
            now_ns: The time.
            problem: Why it cannot be judged; empty if it can.
        """
        self._untold.setdefault(part.camera, deque()).append(part)
        self._by_number[part.number] = part
        if problem or part.frame is None:
            self._settle(part, "not judged", problem or "no frame came", now_ns)
        elif now_ns > part.deadline_ns:
            self._settle(part, "not judged", "the frame came after the deadline", now_ns)
        elif len(self._waiting) >= self._most:
            self._settle(part, "not judged", f"too slow: {self._most} parts wait already", now_ns)
        else:
            self._waiting.append(part)

    def take(self, most: int, now_ns: int, each_ns: int = 0) -> list[Part]:
        """The oldest parts that wait for the network; whoever takes them must `judge` or `fail` them.

        Where parts come faster than they are judged, judging the oldest would make all of them late. So one whose
        deadline would be over is not judged, and a batch is no larger than the deadlines of all in it allow. The last
        one that waits is always taken: otherwise nobody would notice that the network is fast again.

        Args:
            most: Parts to take.
            now_ns: The time.
            each_ns: Time that the network takes for a part.
        """
        taken: list[Part] = []
        while self._waiting and len(taken) < most:
            until_ns = min(part.deadline_ns for part in (*taken, self._waiting[0]))
            is_late = now_ns + each_ns * (len(taken) + 1) > until_ns
            if is_late and taken:
                break
            if is_late and len(self._waiting) > 1:
                self._settle(self._waiting[0], "not judged", "too slow: its deadline would be over", now_ns)
            else:
                taken.append(self._waiting.popleft())
        return taken

    def judge(self, part: Part, result: Result, now_ns: int) -> None:
        """Take what the network says of a part; nothing if its verdict is known, because it was late."""
        if part.verdict is not None:
            return
        part.result = result
        if isinstance(result, BadFrame):
            self._settle(part, "not judged", result.problem, now_ns)
        elif now_ns > part.deadline_ns:
            self._settle(part, "not judged", "judged after the deadline", now_ns)
        else:
            assert isinstance(result, Inspected)
            self._settle(part, "ng" if result.verdict.is_anomalous else "ok", "", now_ns)

    def fail(self, part: Part, reason: str, now_ns: int) -> None:
        """Say why a part cannot be judged; nothing if its verdict is known."""
        if part.verdict is None:
            self._settle(part, "not judged", reason, now_ns)

    def expire(self, now_ns: int) -> None:
        """Settle what was not judged by its deadline."""
        for part in [part for part in self._by_number.values() if now_ns > part.deadline_ns]:
            self._settle(part, "not judged", "not judged by the deadline", now_ns)

    def give_up(self, number: int, reason: str, now_ns: int) -> None:
        """Settle a part and those ahead of it of its camera; nothing if its verdict is known."""
        part = self._by_number.get(number)
        if part is None:
            return
        for each in [each for each in self._untold[part.camera] if each.number <= number]:
            self.fail(each, reason, now_ns)

    def give_up_all(self, reason: str, now_ns: int) -> None:
        """Settle everything."""
        for part in list(self._by_number.values()):
            self._settle(part, "not judged", reason, now_ns)

    @property
    def next_deadline_ns(self) -> int | None:
        """The next deadline of a part without a verdict."""
        return min((part.deadline_ns for part in self._by_number.values()), default=None)

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def waiting(self) -> int:
        """Parts that wait for the network."""
        return len(self._waiting)

    def _settle(self, part: Part, verdict: PartVerdict, reason: str, now_ns: int) -> None:
        del self._by_number[part.number]
        if part in self._waiting:
            self._waiting.remove(part)
        part.verdict, part.reason, part.settled_ns = verdict, reason, now_ns
        part.frame = None  # its memory is needed; the result has it
        untold = self._untold[part.camera]
        while untold and untold[0].verdict is not None:
            self._tell(_result_of(untold.popleft()))


def _result_of(part: Part) -> PartResult:
    assert part.verdict is not None
    return PartResult(
        number=part.number,
        part_id=part.part_id,
        camera=part.camera,
        verdict=part.verdict,
        reason=part.reason,
        exposed_at=part.exposed_at,
        latency_ms=(part.settled_ns - part.exposed_ns) / 1e6,
        deadline_ms=(part.deadline_ns - part.exposed_ns) / 1e6,
        result=part.result,
    )

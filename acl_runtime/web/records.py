"""What the inspection of a web tells: defects with their place in millimetres, gaps, states, and lines that are final.

`y_mm` is along, in the direction of travel, from the roll's start; `x_mm` is across, from the left edge of the web. A
millimetre is the line's or pixel's number times its pitch; lines and pixels are kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from acl_runtime.files.errors import InputError
from acl_runtime.web.account import Lost, Reason

State = Literal["running", "standstill", "no light", "saturated", "no web"]
DecidedBy = Literal["score", "peak", "both"]


@dataclass(frozen=True)
class Lane:
    """A stretch of the web's width, such as a strip that it is slit into; in mm from the left edge."""

    name: str
    left_mm: float
    right_mm: float

    def __post_init__(self) -> None:
        """Refuse a lane without width."""
        if (
            not (math.isfinite(self.left_mm) and math.isfinite(self.right_mm))
            or self.left_mm >= self.right_mm
        ):
            raise InputError(
                f"lane {self.name} must go from a smaller to a larger number of mm, got {self.left_mm:g} to "
                f"{self.right_mm:g}"
            )

    @property
    def width_mm(self) -> float:
        """From its left edge to its right one."""
        return self.right_mm - self.left_mm


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a line and a pixel are."""

    mm_per_line: float
    mm_per_pixel: float

    def __post_init__(self) -> None:
        """Refuse what is no length."""
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a defect looks like; where it is longer than what is held, its end."""

    first: int  # line of the picture's upper edge
    left: int  # pixel of its left edge
    pixels: np.ndarray  # (h, w) or (h, w, 3) uint8
    anomaly_map: np.ndarray  # (h', w') float32 in [0, 1], of the same place


@dataclass(frozen=True, kw_only=True, eq=False)
class DefectBegun:
    """A defect was met: told with the first final lines that show it, long before its end if it is long."""

    number: int
    first: int  # line
    left: int  # pixel
    right: int
    x_mm: float
    y_mm: float
    peak: float  # so far


@dataclass(frozen=True, kw_only=True, eq=False)
class Defect:
    """A defect, or a part of one that is longer than the longest that is waited for.

    Attributes:
        number: Of the defect on this roll, from 1 in the order in which they began.
        first: First line.
        stop: Line behind the last one.
        left: First pixel across, in the picture of the camera.
        right: Pixel behind the last one.
        x_mm: Of its left end, from the left edge of the web there.
        y_mm: Of its first line, from the roll's start.
        width_mm: Across.
        length_mm: Along.
        area_mm2: Of the region itself, not of its box.
        peak: Largest value of the map inside, in [0, 1].
        lanes: Names of those that it lies in.
        continues: Whether another part follows.
        part: From 1; all parts of a defect have its number, and join without overlap.
        joined: Numbers of defects that had begun apart and turned out to be this one; they have no record of their own.
        peak_line: Line where the peak is.
        peak_px: Pixel where that is.
        score: Largest probability of a tile over it, in [0, 1].
        decided_by: What made it a defect.
        is_flood: Whether it stands for more defects than are told one by one.
        pictures: What it looks like; None if that is not wanted.
    """

    number: int
    first: int
    stop: int
    left: int
    right: int
    x_mm: float
    y_mm: float
    width_mm: float
    length_mm: float
    area_mm2: float
    peak: float
    lanes: tuple[str, ...]
    continues: bool
    part: int
    joined: tuple[int, ...]
    peak_line: int
    peak_px: int
    score: float
    decided_by: DecidedBy
    is_flood: bool
    pictures: Pictures | None


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """From a line on the web is in another state; whatever is not "running" is not judged."""

    line: int
    state: State


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Lines that are final now.

    Attributes:
        first: First line.
        stop: Line behind the last one; not `first`.
        row_stop: Line behind the last tile that they were judged in: its score counts up to there.
        score: Largest probability of the tiles that begin with them, in [0, 1].
        peak: Largest value of the map on them, in [0, 1].
        left: Pixel of the web's left edge.
        right: Pixel behind its right edge; equal where no web was found.
    """

    first: int
    stop: int
    row_stop: int
    score: float
    peak: float
    left: int
    right: int


Event: TypeAlias = DefectBegun | Defect | Lost | StateChange | Judged
"""What the inspection of a web tells, in the order of lines as far as it is known by then."""


def lanes_of(lanes: Sequence[Lane], left_mm: float, right_mm: float) -> tuple[str, ...]:
    """Names of the lanes that a stretch across lies in, wholly or in part."""
    return tuple(lane.name for lane in lanes if lane.left_mm < right_mm and left_mm < lane.right_mm)


def event_dict(event: Event) -> dict[str, Any]:
    """An event as JSON has it, see docs/line.md; the last line and the last pixel belong to it, pictures do not."""
    if isinstance(event, Lost):
        return {
            "event": "gap",
            "first_line": event.first,
            "lines": event.stop - event.first,
            "reason": event.reason,
            "estimated": event.estimated,
        }
    if isinstance(event, StateChange):
        return {"event": "state", "what": event.state, "since_line": event.line}
    if isinstance(event, Judged):
        return {
            "event": "judged",
            **_lines(event),
            **(_pixels(event) if event.left < event.right else {"left_px": None, "right_px": None}),
            "score": event.score,
            "peak": event.peak,
        }
    if isinstance(event, DefectBegun):
        return {
            "event": "defect-begun",
            "number": event.number,
            "first_line": event.first,
            **_pixels(event),
            **{name: getattr(event, name) for name in ("x_mm", "y_mm", "peak")},
        }
    return {"event": "defect", **defect_dict(event)}


def defect_dict(defect: Defect) -> dict[str, Any]:
    """A defect as JSON and CSV have it."""
    fields = {name: value for name, value in vars(defect).items() if name not in _NOT_TOLD}
    return {"number": fields.pop("number"), **_lines(defect), **_pixels(defect), **fields}


_NOT_TOLD = ("first", "stop", "left", "right", "pictures")  # or told by other names


def _lines(event: Defect | Judged) -> dict[str, int]:
    return {"first_line": event.first, "last_line": event.stop - 1}


def _pixels(event: Defect | DefectBegun | Judged) -> dict[str, int]:
    return {"left_px": event.left, "right_px": event.right - 1}


@dataclass
class Tally:
    """The account of a web's lines: `exposed` is what is accounted for here and what waits, at every moment."""

    judged: int = 0
    defects: int = 0  # with a record, parts of one counted once
    lost: dict[Reason, int] = field(default_factory=dict)  # they passed the camera, and nobody knows
    outside: int = 0  # there was no web

    def lose(self, reason: Reason, count: int) -> None:
        """Count lines that will not be judged."""
        if reason == "no web":
            self.outside += count
        else:
            self.lost[reason] = self.lost.get(reason, 0) + count

    @property
    def all_lost(self) -> int:
        """Lines that were lost, whatever the reason."""
        return sum(self.lost.values())

    @property
    def accounted(self) -> int:
        """Lines that were judged, lost or outside the web."""
        return self.judged + self.all_lost + self.outside


@dataclass
class RollState:
    """Where a roll stands: what an engine goes on from after a crash, out of the events that were told until then."""

    line: int = 0  # that is final next
    number: int = 0  # of the last defect that began
    tally: Tally = field(default_factory=Tally)
    open: set[int] = field(default_factory=set)  # defects that began and did not end

    def add(self, event: Event) -> None:
        """Take an event, in their order."""
        if isinstance(event, Judged):
            self.tally.judged += event.stop - event.first
            self.line = event.stop
        elif isinstance(event, Lost):
            self.tally.lose(event.reason, event.stop - event.first)
            self.line = event.stop
        elif isinstance(event, (DefectBegun, Defect)):
            self.number = max(self.number, event.number)
            self.open.add(event.number)
            if isinstance(event, Defect):
                self.tally.defects += event.part == 1
                self.open -= {*event.joined, *(() if event.continues else (event.number,))}

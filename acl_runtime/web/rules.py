"""Simple rules on the defects of a web: too many on an area, one that is too large, some that come again and again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from acl_runtime.files.errors import InputError
from acl_runtime.web.records import Defect, Lane

MM2_PER_M2 = 1e6
MOST_HELD = 1000  # defects that are looked back at


@dataclass(frozen=True)
class Density:
    """More than `most` defects on a square metre, over the web's whole width or that of a lane."""

    most: int
    lane: str | None = None

    def __post_init__(self) -> None:
        """Refuse what nobody could count."""
        if not 0 <= self.most < MOST_HELD:
            raise InputError(f"defects per m² must lie in 0..{MOST_HELD - 1}, got {self.most}")


@dataclass(frozen=True)
class Size:
    """A defect that is longer or wider than so many mm."""

    above_mm: float
    lane: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        if not (math.isfinite(self.above_mm) and self.above_mm >= 0):
            raise InputError(f"a size must be at least 0 mm, got {self.above_mm}")


@dataclass(frozen=True)
class Roller:
    """Defects at one place across that come again at a roller's circumference, such as from dirt on it."""

    name: str
    circumference_mm: float
    times: int = 3  # in a row, each a circumference behind the one before
    tolerance_mm: float = 2.0  # along, of each distance, and across

    def __post_init__(self) -> None:
        """Refuse a roller that no defect could be told from."""
        if self.times < 2 or not 0 < 2 * self.tolerance_mm < self.circumference_mm:
            raise InputError(
                f"roller {self.name} must repeat 2 times at least, with a tolerance above 0 and below half its "
                f"circumference, got {self.times} times, {self.tolerance_mm:g} mm of {self.circumference_mm:g} mm"
            )


Rule = Density | Size | Roller


def check_lanes(rules: Sequence[Rule], lanes: Sequence[Lane]) -> None:
    """Raise InputError if a rule is for a lane that there is not."""
    names = {lane.name for lane in lanes}
    for rule in rules:
        if not isinstance(rule, Roller) and rule.lane is not None and rule.lane not in names:
            there = f"there are {', '.join(sorted(names))}" if names else "there are none"
            raise InputError(
                f"there is no lane {rule.lane}, {there}; say where it lies: --lane {rule.lane}=FROM-TO, or in a "
                f"station's file lanes = {{ {rule.lane} = [FROM, TO] }}"
            )


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A rule that was met, and the numbers of the defects that met it."""

    rule: str
    numbers: tuple[int, ...]
    y_mm: float  # of the last of them


@dataclass
class Rules:
    """Rules that look at each defect as it is told; what they look back at is bounded."""

    rules: Sequence[Rule]
    width_mm: float
    lanes: Sequence[Lane] = ()

    def __post_init__(self) -> None:
        """Refuse a lane that there is not."""
        check_lanes(self.rules, self.lanes)
        self._widths = {lane.name: lane.width_mm for lane in self.lanes}
        self._held: list[deque[Defect]] = [deque(maxlen=MOST_HELD) for _ in self.rules]

    def add(self, defect: Defect) -> list[Alarm]:
        """The rules that a defect meets, alone or together with those before it; parts behind the first count once."""
        alarms = (self._look(rule, held, defect) for rule, held in zip(self.rules, self._held, strict=True))
        return [alarm for alarm in alarms if alarm is not None]

    def _look(self, rule: Rule, held: deque[Defect], defect: Defect) -> Alarm | None:
        if isinstance(rule, Size):
            return _look_at_size(rule, defect)
        if defect.part > 1:
            return None
        if isinstance(rule, Roller):
            return _look_for_roller(rule, held, defect)
        return self._look_at_density(rule, held, defect)

    def _look_at_density(self, rule: Density, held: deque[Defect], defect: Defect) -> Alarm | None:
        if rule.lane is not None and rule.lane not in defect.lanes:
            return None
        width = self.width_mm if rule.lane is None else self._widths[rule.lane]
        held.append(defect)
        length = MM2_PER_M2 / width
        near = [each for each in held if abs(each.y_mm - defect.y_mm) < length]
        if len(near) <= rule.most:
            return None
        held.clear()  # told once; the next ones count anew
        return _alarm(f"more than {rule.most} defects per m²{_where(rule.lane)}", near)


def _look_at_size(rule: Size, defect: Defect) -> Alarm | None:
    size = max(defect.length_mm, defect.width_mm)
    if size <= rule.above_mm or (rule.lane is not None and rule.lane not in defect.lanes):
        return None
    return _alarm(f"larger than {rule.above_mm:g} mm{_where(rule.lane)}", [defect])


def _look_for_roller(rule: Roller, held: deque[Defect], defect: Defect) -> Alarm | None:
    chain = [defect]
    while len(chain) < rule.times:
        before = next((each for each in reversed(held) if _precedes(each, chain[-1], rule)), None)
        if before is None:
            held.append(defect)
            return None
        chain.append(before)
    held.append(defect)
    words = (
        f"repeats {rule.times} times at {rule.circumference_mm:g} mm, the circumference of roller {rule.name}"
    )
    return _alarm(words, chain[::-1])


def _precedes(before: Defect, after: Defect, rule: Roller) -> bool:
    """Whether one lies a circumference ahead of another, at the same place across; middles are compared."""
    along = (after.y_mm + after.length_mm / 2) - (before.y_mm + before.length_mm / 2)
    across = (after.x_mm + after.width_mm / 2) - (before.x_mm + before.width_mm / 2)
    return abs(along - rule.circumference_mm) <= rule.tolerance_mm and abs(across) <= rule.tolerance_mm


def _where(lane: str | None) -> str:
    return "" if lane is None else f" in lane {lane}"


def _alarm(rule: str, defects: Sequence[Defect]) -> Alarm:
    return Alarm(rule=rule, numbers=tuple(each.number for each in defects), y_mm=defects[-1].y_mm)

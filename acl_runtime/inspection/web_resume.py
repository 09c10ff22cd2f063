"""A roll that goes on after a crash: what its JSON lines say of where it stood."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_strictly
from acl_runtime.inspection.web_files import SCHEMA, Roll
from acl_runtime.web.account import Lost
from acl_runtime.web.records import Defect, DefectBegun, Event, Judged, RollState, StateChange
from acl_runtime.web.rules import Alarm, Rules

LOG = logging.getLogger("acl")
REMEDY = "name another file, for a new roll"
ALIKE = (
    "checksum",
    "width",
    "mm_per_pixel",
    "mm_per_line",
    "tile",
    "step",
    "score_threshold",
    "peak_threshold",
)
"""What must not change on a roll."""


@dataclass(frozen=True)
class Resumed:
    """A roll that goes on."""

    roll: Roll  # as it was begun
    state: RollState
    hole: Lost  # the lines that passed meanwhile


def resume_roll(
    path: Path, now: Roll, rules: Rules, log: Callable[[Event | Alarm], None] | None, *, is_live: bool
) -> Resumed:
    """Read where a roll stood.

    Args:
        path: Its records.
        now: How it is to be inspected, which must be as before.
        rules: Told of the defects, which they look back at.
        log: Told of everything, such as for a report.
        is_live: Whether lines passed meanwhile; those of a recording waited.

    Raises:
        InputError: The file holds no records of a roll, or those of one that was inspected otherwise.
        FileNotFoundError: There is none.
    """
    roll, state = read_roll(path), RollState()
    _check_same(path, roll, now)
    for event in read_events(path):
        if log is not None:
            log(event)
        if isinstance(event, Alarm):
            continue
        state.add(event)
        if isinstance(event, Defect):
            rules.add(event)
    if state.open:
        numbers = ", ".join(f"#{number}" for number in sorted(state.open))
        LOG.info("%s: %s had begun and not ended; what followed is not known", path, numbers)
    hole = (
        _hole_of(state, roll, path) if is_live else Lost(first=state.line, stop=state.line, reason="restart")
    )
    return Resumed(roll, state, hole)


def read_roll(path: Path) -> Roll:
    """What the records of a file rest on.

    Raises:
        InputError: It does not hold those of a roll.
    """
    for row in _rows(path):
        if row.get("event") != "roll" or row.get("schema") != SCHEMA:
            break
        try:
            roll: Roll = read_strictly(Roll, {each.name: row.get(each.name) for each in fields(Roll)}, "roll")
        except ValueError as error:
            raise InputError(f"{path}: {error}; {REMEDY}") from error
        return roll
    raise InputError(f"{path}: does not begin with the record of a roll; {REMEDY}")


def read_events(path: Path) -> Iterator[Event | Alarm]:
    """What was told of a roll, in order; defects without their pictures.

    Raises:
        InputError: A record is damaged.
    """
    for number, row in enumerate(_rows(path), start=1):
        try:
            event = _to_event(row)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: line {number} is no record of a web; {REMEDY}") from error
        if event is not None:
            yield event


def _check_same(path: Path, before: Roll, now: Roll) -> None:
    """Raise InputError unless a roll is inspected as it was before."""
    for name in ALIKE:
        if (was := getattr(before, name)) != (given := getattr(now, name)):
            raise InputError(
                f"{path}: the roll was inspected with {name} {was}, now it is {given}; use the same settings and "
                f"thresholds, or {REMEDY}"
            )


def _hole_of(state: RollState, roll: Roll, path: Path) -> Lost:
    """The lines that passed while nobody looked, by the time since the file was written and the rate until then."""
    written = path.stat().st_mtime
    seconds = written - datetime.fromisoformat(roll.started).timestamp()
    count = round(state.line / seconds * (time.time() - written)) if seconds > 0 else 0
    return Lost(first=state.line, stop=state.line + max(0, count), reason="restart", estimated=True)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; the last may have been cut by the crash."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is not JSON; {REMEDY}") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number} is no record of a web; {REMEDY}")
            yield row


def _to_event(row: dict[str, Any]) -> Event | Alarm | None:
    """The inverse of `event_dict`; None for the roll's own record and for sums."""
    kind = row["event"]
    if kind == "gap":
        first, count = row["first_line"], row["lines"]
        return Lost(first=first, stop=first + count, reason=row["reason"], estimated=row["estimated"])
    if kind == "state":
        return StateChange(line=row["since_line"], state=row["what"])
    if kind == "rule":
        return Alarm(rule=row["rule"], numbers=tuple(row["numbers"]), y_mm=row["y_mm"])
    return _to_place(kind, row) if kind in ("judged", "defect-begun", "defect") else None


def _to_place(kind: str, row: dict[str, Any]) -> Judged | DefectBegun | Defect:
    """Of events that say from where to where."""
    place = {"first": row["first_line"], **_pixels(row)}
    if kind == "defect-begun":
        return DefectBegun(**place, **{name: row[name] for name in ("number", "x_mm", "y_mm", "peak")})
    place["stop"] = row["last_line"] + 1
    if kind == "judged":
        return Judged(**place, row_stop=place["stop"], score=row["score"], peak=row["peak"])
    same = {each.name: row[each.name] for each in fields(Defect) if each.name not in (*place, "pictures")}
    same |= {name: tuple(same[name]) for name in ("lanes", "joined")}
    return Defect(**place, **same, pictures=None)


def _pixels(row: dict[str, Any]) -> dict[str, int]:
    left, right = row["left_px"], row["right_px"]
    return {"left": 0, "right": 0} if left is None else {"left": left, "right": right + 1}

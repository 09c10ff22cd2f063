"""What a roll's report is drawn from: its events, bounded however long it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from acl_runtime.inspection.web_files import PICTURES, save_pictures
from acl_runtime.web.account import Lost
from acl_runtime.web.records import Defect, Event, Judged, StateChange
from acl_runtime.web.rules import Alarm

MOST_DEFECTS = 20_000  # that a map shows
MOST_INTERVALS = 20_000
MOST_ALARMS = 1000
MOST_STATES = 1000
EDGES = 1024  # points of the web's outline that are kept, every second one of twice as many
LONG = 3  # times as long as wide, or as wide as long: a streak

Kind = Literal["spot", "along", "across", "flood"]
KINDS: dict[Kind, str] = {
    "spot": "spot",
    "along": "streak along",
    "across": "streak across",
    "flood": "flood of defects",
}


def kind_of(defect: Defect) -> Kind:
    """What a defect looks like by its box."""
    if defect.is_flood:
        return "flood"
    if defect.part > 1 or defect.continues or defect.length_mm > LONG * defect.width_mm:
        return "along"
    return "across" if defect.width_mm > LONG * defect.length_mm else "spot"


@dataclass
class RollLog:
    """An output that keeps what the report needs, and saves pictures as they come."""

    folder: Path  # of the report
    map_threshold: float  # map value from which colours have their full strength
    defects: list[Defect] = field(default_factory=list)  # without their pictures, in the order of their ends
    not_kept: int = 0  # further defects
    lost: list[Lost] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    edges: list[Judged] = field(default_factory=list)  # every so often
    stop: int = 0  # line behind the last one
    _every: int = 1
    _turn: int = 0

    def __call__(self, event: Event | Alarm) -> None:
        """Take one."""
        if isinstance(event, Defect):
            if len(self.defects) < MOST_DEFECTS:
                self.defects.append(replace(event, pictures=None))
            else:
                self.not_kept += 1
            # What was told before a restart comes without pictures, which are saved already.
            save_pictures(event, self.folder / PICTURES, map_threshold=self.map_threshold)
        elif isinstance(event, Lost):
            self._add_lost(event)
        elif isinstance(event, Judged):
            self._add_edges(event)
        elif isinstance(event, Alarm) and len(self.alarms) < MOST_ALARMS:
            self.alarms.append(event)
        elif isinstance(event, StateChange) and len(self.states) < MOST_STATES:
            self.states.append(event)

    def close(self) -> None:
        """Do nothing."""

    def picture(self, defect: Defect) -> Path:
        """File of a defect's picture, if it has one; beside it lies that under its map, `-map.png`."""
        name = f"{defect.number:06d}" + (f"-{defect.part}" if defect.part > 1 else "")
        return self.folder / PICTURES / f"{name}.png"

    def worst(self, most: int) -> Sequence[Defect]:
        """The defects with the highest peaks, first parts only, in their order along."""
        firsts = [defect for defect in self.defects if defect.part == 1]
        chosen = sorted(firsts, key=lambda defect: (-defect.peak, defect.number))[:most]
        return sorted(chosen, key=lambda defect: (defect.first, defect.left))

    def _add_lost(self, lost: Lost) -> None:
        self.stop = max(self.stop, lost.stop)
        if len(self.lost) < MOST_INTERVALS:
            self.lost.append(lost)
        else:  # the map shows one wide interval; the numbers are the account's
            self.lost[-1] = replace(self.lost[-1], stop=lost.stop)

    def _add_edges(self, judged: Judged) -> None:
        self.stop = max(self.stop, judged.stop)
        self._turn += 1
        if self._turn % self._every:
            return
        self.edges.append(judged)
        if len(self.edges) >= 2 * EDGES:
            del self.edges[::2]
            self._every *= 2

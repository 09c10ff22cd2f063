"""What a station tells its outputs: a result per part, records of a web, and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from acl_runtime.detection.verdict import Result

PartVerdict = Literal["ok", "ng", "not judged"]
"""Whatever is not "ok" is rejected; "not judged" is late, lost or impossible."""

StationState = Literal["starting", "ready", "running", "fault", "offline"]

SILENT_S = 3.0
"""Without a `StationStatus` for so long nothing is OK: the station sends one each second."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartResult:
    """What became of a part; every part has exactly one.

    Attributes:
        number: Of the part at this station, from 1 without holes; it goes on after a restart.
        part_id: As the PLC named it; empty without one.
        camera: Name of the camera in the station's file.
        verdict: Of the part.
        reason: Why it was not judged; empty where it was.
        exposed_at: Seconds since 1970 (UTC) when it was exposed, or its trigger came.
        latency_ms: From exposure to the verdict.
        result: Frame, score, map and regions, or why the frame is bad; None where no frame came.
    """

    number: int
    part_id: str
    camera: str
    verdict: PartVerdict
    reason: str
    exposed_at: float
    latency_ms: float
    result: Result | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class WebRecord:
    """One record of a web's inspection.

    Attributes:
        number: Of the record at this station, from 1 without holes; it goes on after a restart.
        camera: Name of the camera in the station's file.
        roll: Name of the roll.
        record: As `acl web --json` writes it, see docs/line.md.
        picture: (h, w) or (h, w, 3) uint8 of a defect; None for other records.
    """

    number: int
    camera: str
    roll: str
    record: Mapping[str, Any]
    picture: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class StationStatus:
    """How a station is; sent when it changes and once a second.

    Attributes:
        state: "running" only while cameras are there and parts are judged.
        faults: What keeps it from judging, a sentence each.
        warnings: What an operator should know, a sentence each, such as an output that is away.
        cameras: Whether each is there, by name.
        judged: Parts with a verdict of the network, since the counters were reset.
        ng: Of these, rejected ones.
        not_judged: Parts without one.
        lines_lost: Lines of a web that were not judged.
        defects: On the roll that runs.
        p99_ms: Latency that 99 of 100 of the last parts stayed under.
        dropped: Events that each output gave up, by its name.
        bundle: First characters of the checksum of the bundle's manifest.
    """

    state: StationState
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    cameras: Mapping[str, bool] = field(default_factory=dict)
    judged: int = 0
    ng: int = 0
    not_judged: int = 0
    lines_lost: int = 0
    defects: int = 0
    p99_ms: float = 0.0
    dropped: Mapping[str, int] = field(default_factory=dict)
    bundle: str = ""


StationEvent: TypeAlias = PartResult | WebRecord | StationStatus


class StationOutput(Protocol):
    """Where a station's events go."""

    name: str  # as in the station's file

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once: never wait for the other side and never raise."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing arrives at the other side, in a sentence; empty while all is well."""
        ...

    @property
    def dropped(self) -> int:
        """Events that were given up so far."""
        ...

    def close(self, within_s: float) -> None:
        """Deliver what waits, for so many seconds at most, and end."""
        ...


class StationControl(Protocol):
    """What a PLC may ask of the station; called from the threads of outputs, answered at once."""

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to take parts."""
        ...

    def set_part_id(self, part_id: str) -> None:
        """Name the next part, or the roll that runs."""
        ...

    def begin_roll(self) -> None:
        """End the roll and begin another."""
        ...

    def reset_counters(self) -> None:
        """Set the counters to zero; numbers go on."""
        ...

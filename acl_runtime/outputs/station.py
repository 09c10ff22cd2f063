"""What a station tells its outputs: a result per part, records of a web, and how it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import UserError
from acl_runtime.images.frame import Frame
from acl_runtime.outputs.strip_view import StripView

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
        deadline_ms: That it had; None if nobody knows.
        result: Frame, score, map and regions, or why the frame is bad; None where no frame came.
    """

    number: int
    part_id: str
    camera: str
    verdict: PartVerdict
    reason: str
    exposed_at: float
    latency_ms: float
    deadline_ms: float | None = None
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
        anomaly_map: (h', w') float32 in [0, 1] over that picture.
    """

    number: int
    camera: str
    roll: str
    record: Mapping[str, Any]
    picture: np.ndarray | None = None
    anomaly_map: np.ndarray | None = None


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


@dataclass(frozen=True, kw_only=True)
class ThresholdsNow:
    """From what on parts are NG now, and what that rests on.

    Attributes:
        score: Smallest score that is NG.
        peak: Smallest peak of the map that is NG; None: the peak does not decide.
        statement: What is promised, or who set them by hand, in words.
        record: File of the bundle with the evidence; empty for the default.
        created: When that was made, ISO 8601; empty for the default.
        by: Who set them by hand; empty where they were measured, or are the default.
        fixed: Why they cannot be changed while the station runs, in a sentence; empty where they can.
    """

    score: float
    peak: float | None
    statement: str
    record: str = ""
    created: str = ""
    by: str = ""
    fixed: str = ""


@dataclass(frozen=True, kw_only=True)
class ThresholdsChange:
    """That thresholds were changed while a station ran.

    Attributes:
        at: Seconds since 1970 (UTC).
        by: Who did it.
        how: What was done.
        before: The thresholds before.
        now: Those from then on.
    """

    at: float
    by: str
    how: Literal["set by hand", "measured anew", "taken back", "read again"]
    before: ThresholdsNow
    now: ThresholdsNow


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """New thresholds that are worked out from reviewed parts, in force only once they are accepted.

    Attributes:
        state: "working", "ready" or "failed".
        words: The promise once it is ready; why it failed; what is done.
        score: As of `ThresholdsNow`; None until it is ready.
        peak: The same.
        facts: What to know before accepting it, a sentence each.
        id: Of this one alone, which accepting it must name; empty until it is ready.
    """

    state: Literal["working", "ready", "failed"]
    words: str
    score: float | None = None
    peak: float | None = None
    facts: tuple[str, ...] = ()
    id: str = ""


class ConflictError(UserError, RuntimeError):
    """What was to be changed is not any more what the person saw; look again."""


class BusyError(UserError, RuntimeError):
    """The station has no time for a picture that is none of its parts; come again, or judge it elsewhere."""


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


@runtime_checkable
class MeetsOutputs(Protocol):
    """An output that works together with another of the station."""

    def meet(self, others: Sequence[StationOutput]) -> None:
        """Find it; called once, when all are open and before the first event."""
        ...


@runtime_checkable
class NotesThresholds(Protocol):
    """An output that keeps who changed thresholds."""

    def note_thresholds(self, change: ThresholdsChange) -> None:
        """Write it down; from any thread, may wait for the disk."""
        ...


class ThresholdsControl(Protocol):
    """The thresholds of a station, from the threads of outputs; every change is in the log and, where there is one,
    in the evidence."""

    @property
    def now(self) -> ThresholdsNow:
        """Those in force."""
        ...

    @property
    def proposal(self) -> Proposal | None:
        """Those that are worked out, or wait to be accepted; None without any."""
        ...

    def set(
        self, score: float, peak: float | None, *, seen: str, by: str, effect: tuple[int, int]
    ) -> ThresholdsNow:
        """Judge with these from the next frame on, and after a restart; nothing is promised of them.

        Args:
            score: As of `ThresholdsNow`.
            peak: The same.
            seen: `record` of the thresholds that the person wants to change.
            by: Who that is.
            effect: How many of the last parts would have another verdict, and of how many: (changed, parts).

        Raises:
            ConflictError: Others are in force by now, or the bundle was replaced.
            InputError: A threshold is none, or the bundle cannot be written.
        """
        ...

    def restore(self, *, seen: str, by: str) -> ThresholdsNow:
        """Judge with the thresholds before these again; arguments and errors as of `set`."""
        ...

    def propose(self, evidence: Path) -> None:
        """Begin to work out thresholds from a store's reviewed parts, beside the judging.

        Raises:
            BusyError: That is being done.
            InputError: The thresholds are fixed.
        """
        ...

    def accept(self, *, seen: str, proposal: str, by: str) -> ThresholdsNow:
        """Judge with those that were proposed; other arguments and errors as of `set`.

        Args:
            seen: As of `set`.
            proposal: `id` of the proposal that the person saw; ConflictError where another is there by now.
            by: As of `set`.
        """
        ...

    def drop(self) -> None:
        """Forget what was proposed, or end working it out."""
        ...


class StationControl(Protocol):
    """What may be asked of the station, from the threads of outputs; answered at once, except `inspect`."""

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

    def inspect(self, frame: Frame) -> Result:
        """Judge a picture that is no part, when no part needs the engine; waits for it.

        Raises:
            BusyError: Parts need the engine, or would be late.
            BackendError: The network failed.
        """
        ...

    @property
    def thresholds(self) -> ThresholdsControl | None:
        """What changes thresholds; None where nothing is judged."""
        ...

    @property
    def strip(self) -> StripView | None:
        """The newest metres of a web; None in part mode."""
        ...

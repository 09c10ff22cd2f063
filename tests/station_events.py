"""Events of a station, a control that remembers, and waiting for what happens in another thread."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from acl_runtime.detection.verdict import Inspected, Result, Verdict
from acl_runtime.files.errors import UserError
from acl_runtime.images.frame import Frame
from acl_runtime.outputs.station import (
    BusyError,
    PartResult,
    PartVerdict,
    Proposal,
    StationState,
    StationStatus,
    ThresholdsNow,
    WebRecord,
)
from acl_runtime.outputs.strip_view import StripView
from acl_runtime.scoring.regions import Region

PATIENCE_S = 20.0  # a machine may be busy; nothing takes so long otherwise


def part(number: int, verdict: PartVerdict = "ok", *, part_id: str = "", side: int = 8) -> PartResult:
    """A part with a frame of side × side pixels, unless it is not judged."""
    return PartResult(
        number=number,
        part_id=part_id,
        camera="top",
        verdict=verdict,
        reason="late" if verdict == "not judged" else "",
        exposed_at=1.8e9 + number,
        latency_ms=12.5,
        result=None if verdict == "not judged" else _inspected(number, verdict == "ng", side),
    )


def status(state: StationState = "running", **fields: Any) -> StationStatus:
    """A station with one camera that is there."""
    return StationStatus(state=state, **{"cameras": {"top": True}, "bundle": "abcd1234", **fields})


def defect(number: int, **fields: Any) -> WebRecord:
    """A defect of a web with a picture."""
    record = {
        "event": "defect",
        "x_mm": 56.7,
        "y_mm": 123.4,
        "width_mm": 1.2,
        "length_mm": 3.4,
        "score": 0.75,
        "peak": 0.5,
        "lanes": ["lane 3"],
        **fields,
    }
    picture = np.full((6, 8), 200, np.uint8)
    return WebRecord(number=number, camera="web", roll="R1", record=record, picture=picture)


def _inspected(number: int, is_anomalous: bool, side: int) -> Inspected:
    frame = Frame("top", number, PurePath(f"top_{number}"), np.full((side, side, 3), number % 256, np.uint8))
    verdict = Verdict(
        score=0.9 if is_anomalous else 0.1,
        peak=0.8 if is_anomalous else 0.2,
        is_anomalous=is_anomalous,
        margin=1.0,
        threshold=0.5,
        peak_threshold=None,
        regions=(Region(x=1, y=2, width=3, height=4, area=12, peak=0.8),) if is_anomalous else (),
        anomaly_map=np.full((4, 4), 0.5, np.float32),
        latency_ms={"inference": 1.0},
    )
    return Inspected(frame, verdict)


@dataclass
class Thresholds:
    """Remembers who changed thresholds; see `ThresholdsControl`."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    now: ThresholdsNow = field(
        default_factory=lambda: ThresholdsNow(score=0.5, peak=None, statement="the promise", record="1")
    )
    proposal: Proposal | None = None
    refuses: UserError | None = None  # raised by what changes them

    def set(
        self, score: float, peak: float | None, *, seen: str, by: str, effect: tuple[int, int]
    ) -> ThresholdsNow:
        return self._change("set", (score, peak, seen, by, effect), score=score, peak=peak, by=by)

    def restore(self, *, seen: str, by: str) -> ThresholdsNow:
        return self._change("restore", (seen, by), score=0.5, peak=None, by="")

    def propose(self, evidence: Path) -> None:
        self.asked.append(("propose", evidence))
        self.proposal = Proposal(state="ready", words="more", score=0.7, peak=0.6, facts=("a fact",), id="p1")

    def accept(self, *, seen: str, proposal: str, by: str) -> ThresholdsNow:
        return self._change("accept", (seen, proposal, by), score=0.7, peak=0.6, by="")

    def drop(self) -> None:
        self.asked.append(("drop", None))
        self.proposal = None

    def _change(self, what: str, asked: Any, **now: Any) -> ThresholdsNow:
        self.asked.append((what, asked))
        if self.refuses is not None:
            raise self.refuses
        self.now = replace(self.now, **now)
        return self.now


@dataclass
class Control:
    """Remembers what a PLC asked for."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    is_busy: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)
    strip: StripView | None = None

    def set_enabled(self, enabled: bool) -> None:
        self.asked.append(("enabled", enabled))

    def set_part_id(self, part_id: str) -> None:
        self.asked.append(("part_id", part_id))

    def begin_roll(self) -> None:
        self.asked.append(("roll", None))

    def reset_counters(self) -> None:
        self.asked.append(("reset", None))

    def inspect(self, frame: Frame) -> Result:
        self.asked.append(("inspect", frame.size))
        if self.is_busy:
            raise BusyError("the station has no time: parts wait")
        return _inspected(1, True, 8)


def wait_until(is_so: Callable[[], object], what: str = "it happens") -> None:
    """Return as soon as it is so; fail where it never is."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, f"waited {PATIENCE_S:g} s until {what}"
        time.sleep(0.002)


def free_port() -> int:
    """A TCP port of this machine that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

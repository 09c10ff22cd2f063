"""What the page knows of the station: bounded, told by whoever judges in microseconds, read by the page's thread."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from acl_runtime.detection.verdict import Inspected
from acl_runtime.outputs.page.options import Options
from acl_runtime.outputs.station import (
    PartResult,
    PartVerdict,
    StationEvent,
    StationStatus,
    WebRecord,
)
from acl_runtime.scoring.regions import Region
from acl_runtime.scoring.rule import DecidedBy

_MB = 1_000_000
_RECORDS = ("defect", "gap", "rule")  # of a web, that the map shows


@dataclass(frozen=True, kw_only=True)
class SeenPart:
    """A part without its pictures; as `PartResult` and `Verdict` have it, None where it was not judged."""

    number: int
    part_id: str
    camera: str
    verdict: PartVerdict
    reason: str
    exposed_at: float
    latency_ms: float
    deadline_ms: float | None
    score: float | None = None
    peak: float | None = None
    threshold: float | None = None
    peak_threshold: float | None = None
    decided_by: DecidedBy | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What was judged, to be drawn.

    Attributes:
        pixels: (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16.
        anomaly_map: (h, w) float32 in [0, 1] over them; None for the pixels alone.
        region_threshold: Map value from which a place is a region.
        regions: In pixels of the picture.
        is_anomalous: Whether it was NG.
        ignored: What does not count, in the map's shape; None where all does.
    """

    pixels: np.ndarray
    anomaly_map: np.ndarray | None
    region_threshold: float
    regions: tuple[Region, ...] = ()
    is_anomalous: bool = True
    ignored: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.pixels.nbytes + (0 if self.anomaly_map is None else self.anomaly_map.nbytes)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that a page shows at a moment.

    Attributes:
        status: Newest of the station; None before the first.
        status_age_s: Since it came.
        parts: Oldest first.
        shown: Number of the newest frame of each camera.
        ng: Numbers of parts whose pictures are kept, oldest first.
        roll: The record that began the roll; None in part mode.
        metres: Of the roll, as far as it was judged.
        last_defect: Number of the newest record of the roll; 0 without any.
    """

    status: StationStatus | None
    status_age_s: float
    parts: tuple[SeenPart, ...]
    shown: dict[str, int]
    ng: tuple[int, ...]
    roll: WebRecord | None
    metres: float
    last_defect: int


class Feed:
    """The newest parts, records and pictures."""

    def __init__(self, options: Options) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._most_ng, self._most_ng_bytes = options.keep_ng, options.keep_ng_mb * _MB
        self._parts: deque[SeenPart] = deque(maxlen=options.keep_parts)
        self._records: deque[WebRecord] = deque(maxlen=options.keep_parts)
        self._newest: dict[str, tuple[SeenPart, Picture]] = {}
        self._ng: OrderedDict[int, Picture] = OrderedDict()
        self._ng_bytes = 0
        self._status: StationStatus | None = None
        self._status_s = time.monotonic()
        self._roll: WebRecord | None = None
        self._lines = 0
        self.version = 0  # rises with every change
        self.counts: dict[str, int] = {"ok": 0, "ng": 0, "not judged": 0}  # since the start

    def __call__(self, event: StationEvent) -> None:
        """Take an event, in microseconds."""
        with self._lock:
            if isinstance(event, PartResult):
                self._take_part(event)
            elif isinstance(event, WebRecord):
                self._take_record(event)
            else:
                self._status, self._status_s = event, time.monotonic()
            self.version += 1

    def _take_part(self, part: PartResult) -> None:
        seen = _without_pictures(part)
        self._parts.append(seen)
        self.counts[part.verdict] += 1
        if isinstance(part.result, Inspected):
            picture = _picture_of(part.result)
            self._newest[part.camera] = (seen, picture)
            if part.verdict == "ng":
                self._keep(part.number, picture)

    def _take_record(self, record: WebRecord) -> None:
        kind = record.record.get("event")
        if kind == "roll":
            self._roll, self._lines = record, 0
            self._records.clear()
        elif kind == "judged":
            self._lines = max(self._lines, record.record["last_line"] + 1)
        elif kind in _RECORDS:
            if kind == "gap":
                self._lines = max(self._lines, record.record["first_line"] + record.record["lines"])
            self._records.append(
                WebRecord(number=record.number, camera=record.camera, roll=record.roll, record=record.record)
            )
            if record.picture is not None:
                threshold = 0.5 if self._roll is None else self._roll.record["region_threshold"]
                picture = Picture(
                    pixels=record.picture, anomaly_map=record.anomaly_map, region_threshold=threshold
                )
                self._keep(record.number, picture)

    def _keep(self, number: int, picture: Picture) -> None:
        self._ng[number] = picture
        self._ng_bytes += picture.nbytes
        while len(self._ng) > self._most_ng or (self._ng_bytes > self._most_ng_bytes and len(self._ng) > 1):
            self._ng_bytes -= self._ng.popitem(last=False)[1].nbytes

    def look(self) -> Scene:
        """What there is now."""
        with self._lock:
            roll = self._roll
            per_line = roll.record.get("mm_per_line", 0.0) if roll is not None else 0.0
            return Scene(
                status=self._status,
                status_age_s=time.monotonic() - self._status_s,
                parts=tuple(self._parts),
                shown={camera: part.number for camera, (part, _) in self._newest.items()},
                ng=tuple(self._ng),
                roll=roll,
                metres=self._lines * per_line / 1000,
                last_defect=self._records[-1].number if self._records else 0,
            )

    def parts_after(self, number: int, limit: int) -> Sequence[SeenPart]:
        """The oldest parts that are kept and have a higher number."""
        with self._lock:
            return tuple(islice((part for part in self._parts if part.number > number), limit))

    def records_after(self, number: int, limit: int) -> Sequence[WebRecord]:
        """The same of the roll's defects, lost lines and rules that were met."""
        with self._lock:
            return tuple(islice((record for record in self._records if record.number > number), limit))

    def picture(self, number: int) -> Picture | None:
        """Of an NG part or a defect; None if it is not kept."""
        with self._lock:
            return self._ng.get(number)

    def newest(self, camera: int) -> tuple[SeenPart, Picture] | None:
        """The newest frame of a camera, by its position in `Scene.shown`; None if there is no such."""
        with self._lock:
            return next(islice(self._newest.values(), camera, None), None)


def _without_pictures(part: PartResult) -> SeenPart:
    seen = {
        "number": part.number,
        "part_id": part.part_id,
        "camera": part.camera,
        "verdict": part.verdict,
        "reason": part.reason,
        "exposed_at": part.exposed_at,
        "latency_ms": part.latency_ms,
        "deadline_ms": part.deadline_ms,
    }
    if not isinstance(part.result, Inspected):
        return SeenPart(**seen)  # type: ignore[arg-type]
    verdict = part.result.verdict
    return SeenPart(
        **seen,  # type: ignore[arg-type]
        score=verdict.score,
        peak=verdict.peak,
        threshold=verdict.threshold,
        peak_threshold=verdict.peak_threshold,
        decided_by=verdict.decided_by,
        regions=verdict.regions,
    )


def _picture_of(result: Inspected) -> Picture:
    verdict = result.verdict
    return Picture(
        pixels=result.frame.frame,
        anomaly_map=verdict.anomaly_map if verdict.anomaly_map.size else None,
        region_threshold=verdict.region_threshold,
        regions=verdict.regions,
        is_anomalous=verdict.is_anomalous,
        ignored=verdict.ignored,
    )

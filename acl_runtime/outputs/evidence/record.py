"""What is kept of a part or of a record of a web: a row of the index, and the same as JSON beside its pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import parse_document
from acl_runtime.outputs.station import PartResult, PartVerdict, WebRecord
from acl_runtime.outputs.station_json import utc

FORMAT, VERSION = "anomalyclip-evidence", 1  # of the sidecars
MOST_REGIONS = 20  # of a record, the highest peaks
Mark = Literal["good", "defect", "unsure"]
MARKS: tuple[str, ...] = get_args(Mark)
_WEB_VERDICTS: Mapping[str, PartVerdict] = {"defect": "ng", "rule": "ng", "gap": "not judged"}
_JSON = ("regions", "detail", "unusual")  # fields that the index holds as JSON


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A part, or a defect, an alarm or a gap of a web.

    Attributes:
        number: Of the part or record at this station.
        time: Seconds since 1970 (UTC): of the exposure, or when the web's record was told.
        camera: Its name.
        kind: "part", or the event of a web: "defect", "rule", "gap".
        part_id: As the PLC named it; empty without one.
        roll: Name of the roll; empty for a part.
        y_mm: Place along the roll.
        x_mm: Place from the web's left edge.
        verdict: "ok", "ng" or "not judged".
        reason: Why it was not judged.
        score: Probability of a defect; None where nothing was judged.
        peak: Largest value of the map.
        threshold: Smallest score that was anomalous.
        peak_threshold: Smallest peak that was anomalous; None: the peak did not decide.
        regions: As of `acl run --json`, at most `MOST_REGIONS`.
        detail: The record of a web, as of `acl web --json`; empty for a part.
        bundle: First characters of the checksum of the bundle's manifest.
        latency_ms: From exposure to the verdict.
        unusual: Quantities in which the last frames were unlike the calibration's.
        is_sample: Whether it is one of those parts of which every Nth is kept, whatever its verdict.
        picture: Suffix of its picture, "png" or "jpg"; empty without one.
        has_overlay: Whether there is a picture under its map too.
        size: Bytes of its files.
        review: What a person said, one of `MARKS`; empty: nobody has looked.
        reviewed_by: Who.
        reviewed_at: When, seconds since 1970 (UTC).
    """

    number: int
    time: float
    camera: str
    kind: str
    verdict: str
    part_id: str = ""
    roll: str = ""
    y_mm: float | None = None
    x_mm: float | None = None
    reason: str = ""
    score: float | None = None
    peak: float | None = None
    threshold: float | None = None
    peak_threshold: float | None = None
    regions: tuple[Mapping[str, Any], ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    bundle: str = ""
    latency_ms: float | None = None
    unusual: tuple[str, ...] = ()
    is_sample: bool = False
    picture: str = ""
    has_overlay: bool = False
    size: int = 0
    review: str = ""
    reviewed_by: str = ""
    reviewed_at: float | None = None

    @property
    def day(self) -> str:
        """The day (UTC) whose folder has its files."""
        return utc(self.time)[:10]


COLUMNS = tuple(each.name for each in fields(Evidence))


def is_kept(event: object) -> bool:
    """Whether an event gets a record: every part; of a web its defects, alarms and gaps."""
    return isinstance(event, PartResult) or (
        isinstance(event, WebRecord) and event.record.get("event") in _WEB_VERDICTS
    )


def evidence_of(event: PartResult | WebRecord, *, bundle: str, is_sample: bool = False) -> Evidence:
    """The record of an event, without files; see `is_kept`."""
    if isinstance(event, WebRecord):
        return _of_web(event, bundle)
    found = Evidence(
        number=event.number,
        time=event.exposed_at,
        camera=event.camera,
        kind="part",
        part_id=event.part_id,
        verdict=event.verdict,
        reason=event.reason,
        bundle=bundle,
        latency_ms=event.latency_ms,
        is_sample=is_sample,
    )
    return _with_verdict(found, event.result) if isinstance(event.result, Inspected) else found


def _with_verdict(found: Evidence, result: Inspected) -> Evidence:
    verdict = result.verdict
    values = {
        **vars(found),
        "score": verdict.score,
        "peak": verdict.peak,
        "threshold": verdict.threshold,
        "peak_threshold": verdict.peak_threshold,
        "regions": tuple(dict(vars(region)) for region in verdict.regions[:MOST_REGIONS]),
        "unusual": tuple(result.unusual),
    }
    return Evidence(**values)


def _of_web(event: WebRecord, bundle: str) -> Evidence:
    record = event.record
    return Evidence(
        number=event.number,
        time=time.time(),
        camera=event.camera,
        kind=str(record["event"]),
        roll=event.roll,
        y_mm=record.get("y_mm"),
        x_mm=record.get("x_mm"),
        verdict=_WEB_VERDICTS[str(record["event"])],
        reason=str(record.get("reason", "")) if record["event"] == "gap" else "",
        score=record.get("score"),
        peak=record.get("peak"),
        detail=dict(record),
        bundle=bundle,
    )


def check_review(mark: str, by: str) -> None:
    """Raise InputError unless the mark is one of `MARKS` and somebody is named."""
    if mark not in MARKS:
        raise InputError(f"mark must be one of {', '.join(MARKS)}, got {mark!r}")
    if not 0 < len(by) <= 100:
        raise InputError("by must name who reviews, in 1 to 100 characters")


def to_row(evidence: Evidence) -> tuple[Any, ...]:
    """The values of `COLUMNS`; ValueError or TypeError for what is no JSON."""
    values = vars(evidence)
    return tuple(_dumps(values[name]) if name in _JSON else values[name] for name in COLUMNS)


def from_row(row: tuple[Any, ...]) -> Evidence:
    """The record of a row."""
    values = dict(zip(COLUMNS, row, strict=True))
    values.update({name: json.loads(values[name]) for name in _JSON})
    return _make(values)


def to_sidecar(evidence: Evidence) -> bytes:
    """The record as a JSON file; ValueError or TypeError for what is no JSON."""
    document = {"format": FORMAT, "format_version": VERSION, **vars(evidence)}
    del document["size"]  # which it is a part of
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()


def from_sidecar(text: bytes) -> Evidence:
    """The record of a JSON file, its size 0.

    Raises:
        InputError: It is torn, of a newer format, or not ours.
    """
    document = parse_document(
        text, kind="record of evidence", format_name=FORMAT, newest=VERSION, remedy="it is put aside"
    )
    values = {**{name: document[name] for name in COLUMNS if name in document}, "size": 0}
    if not _has_right_types(values):
        raise InputError("lacks values or has wrong ones; it is put aside")
    return _make(values)


def _make(values: dict[str, Any]) -> Evidence:
    lists = {name: tuple(values[name]) for name in ("regions", "unusual")}
    flags = {name: bool(values[name]) for name in ("is_sample", "has_overlay")}
    return Evidence(**{**values, **lists, **flags})


def _has_right_types(values: Mapping[str, Any]) -> bool:
    return values.keys() == set(COLUMNS) and all(
        isinstance(values[each.name], _types_of(str(each.type))) for each in fields(Evidence)
    )


def _types_of(annotation: str) -> tuple[type, ...]:
    number = (int, float)
    known: Mapping[str, tuple[type, ...]] = {
        "int": (int,),
        "float": number,
        "float | None": (*number, type(None)),
        "str": (str,),
        "bool": (bool,),
        "Mapping[str, Any]": (dict,),
    }
    return known.get(annotation, (list,))


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)

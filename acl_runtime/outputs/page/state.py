"""The page's answers as JSON objects; see `openapi.py` for what each key means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acl_runtime.outputs.page.feed import Scene, SeenPart
from acl_runtime.outputs.page.threshold_requests import now_object, proposal_object
from acl_runtime.outputs.station import StationStatus, ThresholdsControl
from acl_runtime.outputs.station_json import SCHEMA, utc

TREND = 120  # parts
_CODES = {"ok": 0, "ng": 1, "not judged": 2}


def state_object(
    scene: Scene, *, title: str, reviews: bool, thresholds: ThresholdsControl | None
) -> dict[str, Any]:
    """What `/api/state` answers, and what a page is sent."""
    last = scene.parts[-1] if scene.parts else None
    return {
        "schema": SCHEMA,
        "title": title,
        "status": None if scene.status is None else _status_object(scene.status, scene.status_age_s),
        "outputs": [] if scene.status is None else _outputs(scene.status),
        "last": None if last is None else part_object(last),
        "thresholds": None if thresholds is None else now_object(thresholds.now),
        "proposal": None if thresholds is None else proposal_object(thresholds.proposal),
        "latency_ms": latency_ms(scene.parts),
        "trend": [_point(part) for part in scene.parts[-TREND:]],
        "shown": scene.shown,
        "pictures": list(scene.ng),
        "roll": _roll(scene),
        "reviews": reviews,
    }


def part_object(part: SeenPart) -> dict[str, Any]:
    """A part as `/api/verdicts` has it."""
    return {
        **vars(part),
        "exposed_at": utc(part.exposed_at),
        "latency_ms": round(part.latency_ms, 3),
        "regions": [dict(vars(region)) for region in part.regions],
    }


def _status_object(status: StationStatus, age_s: float) -> dict[str, Any]:
    return {
        "state": status.state,
        "age_s": round(age_s, 1),
        "faults": list(status.faults),
        "warnings": list(status.warnings),
        "cameras": dict(status.cameras),
        "judged": status.judged,
        "ng": status.ng,
        "not_judged": status.not_judged,
        "lines_lost": status.lines_lost,
        "defects": status.defects,
        "bundle": status.bundle,
    }


def _outputs(status: StationStatus) -> list[dict[str, Any]]:
    """Each output, with the warning that begins with its name as its problem."""

    def problem_of(name: str) -> str:
        own = (text for text in status.warnings if text.startswith(f"{name}: "))
        return next(own, "").removeprefix(f"{name}: ")

    return [
        {"name": name, "dropped": dropped, "problem": problem_of(name)}
        for name, dropped in status.dropped.items()
    ]


def latency_ms(parts: Sequence[SeenPart]) -> dict[str, float | None]:
    """Median and 99th percentile of the judged parts that are kept, and the newest deadline."""
    times = sorted(part.latency_ms for part in parts if part.score is not None)
    deadlines = (part.deadline_ms for part in reversed(parts) if part.deadline_ms is not None)

    def percentile(percent: int) -> float | None:
        return round(times[min(len(times) - 1, len(times) * percent // 100)], 2) if times else None

    return {"p50": percentile(50), "p99": percentile(99), "deadline": next(deadlines, None)}


def _point(part: SeenPart) -> list[float | int | None]:
    """Number, verdict (0 OK, 1 NG, 2 not judged), score, peak."""
    return [part.number, _CODES[part.verdict], _short(part.score), _short(part.peak)]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _roll(scene: Scene) -> dict[str, Any] | None:
    if scene.roll is None:
        return None
    record = scene.roll.record
    return {
        "name": scene.roll.roll,
        "number": scene.roll.number,
        "metres": round(scene.metres, 3),
        "width_mm": round(record.get("width", 0) * record.get("mm_per_pixel", 0.0), 3),
        "mm_per_line": record.get("mm_per_line", 0.0),
        "last_defect": scene.last_defect,
    }

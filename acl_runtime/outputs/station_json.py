"""A station's events as JSON: what MQTT, webhooks and files tell, one object an event, without pictures."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from acl_runtime.outputs.delivery import RefusedError
from acl_runtime.outputs.json_lines import json_record
from acl_runtime.outputs.station import PartResult, StationEvent, StationStatus, WebRecord

SCHEMA = 1  # of the objects below; raised where a key changes its meaning or goes


def event_record(event: StationEvent) -> dict[str, Any]:
    """An event as a JSON object.

    The keys of a part are those of `json_line`, where there is a frame, and number, part_id, verdict, reason, camera,
    exposed_at, total_ms before them.
    """
    if isinstance(event, PartResult):
        return {
            "schema": SCHEMA,
            "event": "part",
            "number": event.number,
            "part_id": event.part_id,
            "verdict": event.verdict,
            "reason": event.reason,
            "camera": event.camera,
            "exposed_at": utc(event.exposed_at),
            "total_ms": round(event.latency_ms, 3),
            **({} if event.result is None else json_record(event.result)),
        }
    if isinstance(event, WebRecord):
        return {
            "schema": SCHEMA,
            "event": "web",
            "number": event.number,
            "camera": event.camera,
            "roll": event.roll,
            "record": dict(event.record),
        }
    return {"schema": SCHEMA, "event": "status", **_status(event)}


def encode(record: dict[str, Any]) -> bytes:
    """The object as one line of UTF-8 without its end.

    Raises:
        RefusedError: It holds what is no JSON, such as a number that is not finite.
    """
    try:
        return json.dumps(record, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        raise RefusedError(f"number {record.get('number')} cannot be written as JSON ({error})") from error


def utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to a millisecond."""
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _status(status: StationStatus) -> dict[str, Any]:
    return {
        **vars(status),
        "faults": list(status.faults),
        "warnings": list(status.warnings),
        "cameras": dict(status.cameras),
        "dropped": dict(status.dropped),
        "p99_ms": round(status.p99_ms, 3),
    }

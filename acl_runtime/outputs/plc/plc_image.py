"""What a PLC sees of a station at a moment, and what it asks: the same for Modbus and for S7; no network in here.

It never says OK of a part that was not judged, or while anything is wrong: a result is shown as OK only if the station
lived and had no fault when it came, and ever since. Otherwise it is shown as not judged.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from acl_runtime.detection.verdict import Inspected
from acl_runtime.outputs.plc.handshake import MOST_WAITING, Handshake
from acl_runtime.outputs.plc.register_map import (
    CONTROL_BITS,
    CONTROL_WORDS,
    FAULTS,
    STATUS,
    STATUS_BITS,
    TEXT_WORDS,
    VERDICTS,
    decode_text,
    encode_words,
    pack_bits,
    unpack_bits,
)
from acl_runtime.outputs.station import (
    SILENT_S,
    PartResult,
    StationControl,
    StationEvent,
    StationStatus,
    WebRecord,
)

BEATS_PER_S = 10
_PLACES = 4 * MOST_WAITING
_STARTING = StationStatus(state="starting")


class PlcImage:
    """The words that a PLC reads and writes; for any thread, and nobody waits."""

    def __init__(
        self,
        control: StationControl,
        *,
        acknowledge: bool = True,
        plc_heartbeat_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a station's status, which is a fault.

        Args:
            control: Is told what the PLC asks for; never while a lock of this is held.
            acknowledge: Whether a result stands until the PLC acknowledges it; else until the next comes.
            plc_heartbeat_s: Longest that the PLC's heartbeat may stand still once it was written; 0 for any time.
            clock: Seconds.
        """
        self._control, self._acknowledge = control, acknowledge
        self._plc_heartbeat_s, self._clock = plc_heartbeat_s, clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # so that the station is told in the order of writes
        self._handshake = Handshake()
        self._status, self._status_at = _STARTING, clock()
        self._started = clock()
        self._newest = self._distrusted = 0  # numbers: of all results so far, and up to which none is OK
        self._places: dict[int, Mapping[str, int]] = {}  # scores and places of results, by number
        self._words = [1, *[0] * (CONTROL_WORDS - 1)]  # that the PLC wrote
        self._beaten_at: float | None = None  # when the PLC's heartbeat changed

    @property
    def dropped(self) -> int:
        """Results that the PLC did not fetch in time."""
        return self._handshake.dropped

    @property
    def problem(self) -> str:
        """That the PLC's heartbeat stands still; else empty."""
        beaten_at = self._beaten_at
        if beaten_at is None or not self._plc_heartbeat_s:
            return ""
        still_s = self._clock() - beaten_at
        return (
            "the PLC's heartbeat stands still; see whether it runs" if still_s > self._plc_heartbeat_s else ""
        )

    def take(self, event: StationEvent) -> None:
        """Take an event of the station."""
        part, place = _as_part(event)
        with self._lock:
            self._look()
            if isinstance(event, StationStatus):
                self._status, self._status_at = event, self._clock()
                self._handshake.set_state(event.state)
            elif part is not None:
                self._put(part, place)
            self._look()

    def _put(self, part: PartResult, place: Mapping[str, int]) -> None:
        if not self._acknowledge:  # the one that stands makes room
            self._handshake.acknowledge(True)
            self._handshake.acknowledge(False)
        self._newest = max(self._newest, part.number)
        self._places[part.number] = place
        while len(self._places) > _PLACES:  # those of results that were dropped
            del self._places[next(iter(self._places))]
        self._handshake.put(part)

    def _look(self) -> None:
        """Trust no result so far while there is a fault, or no sign of the station."""
        if self._fault():
            self._distrusted = self._newest

    def _fault(self) -> int:
        if self._clock() - self._status_at > SILENT_S:
            return FAULTS["silent"]
        status = self._status
        if status.state in ("ready", "running"):
            return FAULTS["none"]
        if status.state in ("starting", "offline"):
            return FAULTS["starts" if status.state == "starting" else "offline"]
        return FAULTS["other" if all(status.cameras.values()) else "camera"]

    def words(self) -> list[int]:
        """All words, of one moment; see `register_map`."""
        with self._lock:
            self._look()
            words = encode_words(STATUS, self._values())
            words[:CONTROL_WORDS] = self._words
            return words

    def _values(self) -> dict[str, int | str]:
        status, fault, view, shown = self._status, self._fault(), self._handshake.view, self._handshake.shown
        is_ok = view.verdict == "ok" and not fault and view.number > self._distrusted
        verdict = (
            "none"
            if shown is None
            else "ok"
            if is_ok
            else "not judged"
            if view.verdict == "ok"
            else view.verdict
        )
        bits = {
            "ready": not fault,
            "running": status.state == "running" and not fault,
            "fault": bool(fault),
            "valid": view.valid,
            "ng": bool(fault) or verdict in ("ng", "not judged"),
            "overrun": view.overrun,
            "camera_away": not all(status.cameras.values()),
            "lines_lost": status.lines_lost > 0,
            "warning": bool(status.warnings),
            "ok": is_ok,
        }
        alive_s = min(self._clock(), self._status_at + SILENT_S) - self._started
        return {
            "status": pack_bits(STATUS_BITS, bits),
            "heartbeat": int(alive_s * BEATS_PER_S) & 0xFFFF,
            "fault_code": fault,
            "verdict": VERDICTS[verdict],
            "judged": status.judged,
            "ng": status.ng,
            "lines_lost": status.lines_lost,
            "p99_ms": round(status.p99_ms),
            "bundle": int(status.bundle[:4] or "0", 16),
            "defects": status.defects,
            "not_judged": status.not_judged,
            **({} if shown is None else {"number": shown.number, "result_part_id": shown.part_id}),
            **({} if shown is None else self._places.get(shown.number, {})),
        }

    def write(self, address: int, values: Sequence[int]) -> bool:
        """Take words that the PLC writes; false if any of them is not for it to write."""
        if not 0 <= address <= address + len(values) <= CONTROL_WORDS:
            return False
        with self._writing:
            with self._lock:
                before = self._words
                after = self._words = [*before[:address], *values, *before[address + len(values) :]]
                if before[1] != after[1]:
                    self._beaten_at = self._clock()
                bits = unpack_bits(CONTROL_BITS, after[0])
                rising = unpack_bits(CONTROL_BITS, after[0] & ~before[0])
                self._handshake.acknowledge(bits["ack"])
                if rising["reset"]:
                    self._handshake.reset()
            self._ask(before, after, bits, rising)
        return True

    def _ask(
        self,
        before: Sequence[int],
        after: Sequence[int],
        bits: Mapping[str, bool],
        rising: Mapping[str, bool],
    ) -> None:
        """Tell the station what is new."""
        if (before[0] ^ after[0]) & 1:
            self._control.set_enabled(bits["enable"])
        if before[3 : 3 + TEXT_WORDS] != after[3 : 3 + TEXT_WORDS]:
            self._control.set_part_id(decode_text(after[3 : 3 + TEXT_WORDS]))
        if rising["new_roll"]:
            self._control.begin_roll()
        if rising["reset"]:
            self._control.reset_counters()


def _as_part(event: StationEvent) -> tuple[PartResult | None, Mapping[str, int]]:
    """What a PLC has to answer to: a part, a defect of a web, or lines that were not judged; and its place."""
    if isinstance(event, PartResult):
        return replace(event, result=None), _scores(event)  # pictures would fill the memory
    if not isinstance(event, WebRecord) or event.record.get("event") not in ("defect", "gap"):
        return None, {}
    record = event.record
    is_defect = record["event"] == "defect"
    part = PartResult(
        number=event.number,
        part_id=event.roll,
        camera=event.camera,
        verdict="ng" if is_defect else "not judged",
        reason="" if is_defect else str(record.get("reason", "")),
        exposed_at=0.0,
        latency_ms=0.0,
    )
    return part, _place(record) if is_defect else {}


def _scores(part: PartResult) -> dict[str, int]:
    if not isinstance(part.result, Inspected):
        return {}
    verdict = part.result.verdict
    return {"score": _fraction(verdict.score), "peak": _fraction(verdict.peak)}


def _place(record: Mapping[str, Any]) -> dict[str, int]:
    lanes = record.get("lanes") or ("",)
    lane = re.search(r"(\d{1,4})$", str(lanes[0]))
    return {
        "score": _fraction(record.get("score")),
        "peak": _fraction(record.get("peak")),
        "along": round(10 * record["y_mm"]),
        "across": round(10 * record["x_mm"]),
        "width": round(10 * record["width_mm"]),
        "length": round(10 * record["length_mm"]),
        "lane": int(lane[1]) if lane else 0,
    }


def _fraction(value: float | None) -> int:
    """Of 10000; 0 for none, and for what is no number."""
    return round(1e4 * value) if value is not None and math.isfinite(value) else 0

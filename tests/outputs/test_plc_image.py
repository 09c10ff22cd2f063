"""What a PLC sees: every result once, and never OK of what was not judged."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from station_events import Control, defect, part, status

from acl_runtime.outputs.plc.plc_image import PlcImage
from acl_runtime.outputs.plc.register_map import (
    CONTROL,
    CONTROL_BITS,
    FAULTS,
    STATUS,
    STATUS_BITS,
    decode_text,
    unpack_bits,
)
from acl_runtime.outputs.station import SILENT_S, WebRecord


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Plc:
    """An image, and a PLC that looks at it."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.control = Clock(), Control()
        self.image = PlcImage(self.control, clock=self.clock, **settings)

    def look(self) -> dict[str, Any]:
        """All values by name, and the bits."""
        return read(self.image.words())

    def bits(self, **bits: bool) -> None:
        """Write the control word; enable is set unless it is said otherwise."""
        names = {"enable": True, **bits}
        self.image.write(0, [sum(1 << place for place, name in enumerate(CONTROL_BITS) if names.get(name))])


def read(words: list[int]) -> dict[str, Any]:
    """Words as a PLC reads them."""
    found: dict[str, Any] = {}
    for register in (*CONTROL, *STATUS):
        part_of = words[register.address : register.address + register.words]
        if register.encoding == "text":
            found[register.name] = decode_text(part_of)
        else:
            found[register.name] = part_of[0] if len(part_of) == 1 else part_of[0] << 16 | part_of[1]
    return {**found, **unpack_bits(STATUS_BITS, found["status"])}


def only(found: Mapping[str, Any], *names: str) -> list[Any]:
    return [found[name] for name in names]


def running(**settings: Any) -> Plc:
    plc = Plc(**settings)
    plc.image.take(status())
    return plc


def test_no_two_values_share_a_word_and_all_fit() -> None:
    taken = [
        address
        for register in (*CONTROL, *STATUS)
        for address in range(register.address, register.address + register.words)
    ]
    assert len(taken) == len(set(taken))
    assert max(taken) < 64


def test_a_result_stands_until_it_is_acknowledged_and_then_the_next_does() -> None:
    plc = running()
    plc.image.take(part(70_001, "ok", part_id="A17"))
    plc.image.take(part(70_002, "ng"))
    seen = plc.look()
    assert only(seen, "valid", "ok", "ng", "number", "verdict", "score") == [
        True,
        True,
        False,
        70_001,
        1,
        1000,
    ]
    assert seen["result_part_id"] == "A17"
    plc.bits(ack=True)
    seen = plc.look()
    assert only(seen, "valid", "ok", "ng", "number", "verdict", "score") == [False, False, False, 0, 0, 0]
    plc.bits(ack=False)
    seen = plc.look()
    assert only(seen, "valid", "ok", "ng", "number", "verdict", "score") == [
        True,
        False,
        True,
        70_002,
        2,
        9000,
    ]


def test_before_the_first_status_and_in_every_fault_nothing_is_ok() -> None:
    plc = Plc()
    plc.image.take(part(1, "ok"))
    seen = plc.look()
    assert only(seen, "fault", "ok", "ng", "verdict", "ready") == [True, False, True, 3, False]
    assert seen["fault_code"] == FAULTS["starts"]
    plc.image.take(status())
    assert only(plc.look(), "fault", "ok", "verdict") == [False, False, 3]  # it stays so


@pytest.mark.parametrize(
    ("state", "cameras", "code"),
    [
        ("fault", {"top": False}, "camera"),
        ("fault", {"top": True}, "other"),
        ("offline", {"top": True}, "offline"),
    ],
)
def test_a_fault_takes_the_ok_from_what_stands_and_never_gives_it_back(
    state: Any, cameras: Mapping[str, bool], code: str
) -> None:
    plc = running()
    plc.image.take(part(1, "ok"))
    assert plc.look()["ok"]
    plc.image.take(status(state, cameras=cameras))
    seen = plc.look()
    assert only(seen, "fault", "valid", "ok", "ng", "verdict", "number") == [True, True, False, True, 3, 1]
    assert seen["fault_code"] == FAULTS[code]
    plc.image.take(status())
    assert only(plc.look(), "fault", "ok", "verdict") == [False, False, 3]
    plc.bits(ack=True)
    plc.bits(ack=False)
    plc.image.take(part(2, "ok"))
    assert only(plc.look(), "number", "ok", "verdict") == [2, True, 1]


def test_a_station_that_gives_no_sign_is_a_fault_and_its_heartbeat_stands_still() -> None:
    plc = running()
    plc.image.take(part(1, "ok"))
    first = plc.look()["heartbeat"]
    plc.clock.now += 1.0
    assert plc.look()["heartbeat"] == first + 10
    plc.clock.now += SILENT_S
    seen = plc.look()
    assert only(seen, "fault", "ok", "verdict", "fault_code") == [True, False, 3, FAULTS["silent"]]
    plc.clock.now += 50
    assert plc.look()["heartbeat"] == seen["heartbeat"]
    plc.image.take(status())  # nobody looked in between
    plc.image.take(part(2, "ok"))
    assert only(plc.look(), "number", "ok") == [1, False]


def test_a_plc_that_is_too_slow_sees_an_overrun_until_it_resets_it() -> None:
    plc = running()
    for number in range(1, 12):
        plc.image.take(part(number))
    assert plc.look()["overrun"]
    assert plc.image.dropped == 2
    plc.bits(reset=True)
    assert not plc.look()["overrun"]
    assert plc.control.asked == [("reset", None)]
    numbers = [plc.look()["number"]]
    for _ in range(8):
        plc.bits(ack=True)
        plc.bits(ack=False)
        numbers.append(plc.look()["number"])
    assert numbers == [1, 4, 5, 6, 7, 8, 9, 10, 11]


def test_without_acknowledgement_the_newest_stands() -> None:
    plc = running(acknowledge=False)
    for number in (1, 2, 3):
        plc.image.take(part(number))
    assert only(plc.look(), "number", "valid", "overrun") == [3, True, False]


def test_what_the_plc_asks_reaches_the_station_once() -> None:
    plc = running()
    assert plc.image.write(3, [0x4142, 0x4300])
    plc.bits(enable=False)
    plc.bits(new_roll=True)
    plc.bits(new_roll=True)
    assert plc.control.asked == [("part_id", "ABC"), ("enabled", False), ("enabled", True), ("roll", None)]
    assert plc.look()["part_id"] == "ABC"
    assert not plc.image.write(16, [1])
    assert not plc.image.write(10, [0, 0])


def test_the_plcs_heartbeat_that_stands_still_is_a_problem() -> None:
    plc = running(plc_heartbeat_s=2.0)
    plc.clock.now += 100
    assert not plc.image.problem  # it was never written: nobody promised one
    plc.image.write(1, [1])
    plc.clock.now += 1.9
    assert not plc.image.problem
    plc.clock.now += 2
    assert "heartbeat stands still" in plc.image.problem
    plc.image.write(1, [2])
    assert not plc.image.problem


def test_a_web_shows_defects_with_their_place_and_lost_lines_as_not_judged() -> None:
    plc = running()
    plc.image.take(defect(5))
    lost = {"event": "gap", "first_line": 1, "lines": 8, "reason": "packets"}
    plc.image.take(WebRecord(number=6, camera="web", roll="R1", record=lost))
    plc.image.take(WebRecord(number=7, camera="web", roll="R1", record={"event": "judged"}))
    seen = plc.look()
    assert only(seen, "number", "verdict", "along", "across", "width", "length", "lane", "score", "peak") == [
        *(5, 2, 1234, 567, 12, 34, 3, 7500, 5000)
    ]
    plc.bits(ack=True)
    plc.bits()
    seen = plc.look()
    assert only(seen, "number", "verdict", "along", "ng") == [6, 3, 0, True]
    plc.bits(ack=True)
    plc.bits()
    assert not plc.look()["valid"]


def test_a_control_that_asks_back_is_not_locked_out() -> None:
    plc = running()
    plc.control.set_part_id = lambda part_id: plc.image.take(part(1))  # type: ignore[method-assign]
    plc.image.write(3, [0x4100])
    assert plc.look()["number"] == 1


def test_whatever_happens_ok_is_only_told_of_parts_that_were_judged_ok_while_all_was_well() -> None:
    """Random parts, faults, silences, acknowledgements and looks; what is allowed is worked out apart."""
    assert sum(map(count_ok, range(60))) > 500  # it does say OK


def count_ok(seed: int) -> int:
    """How often OK was seen; fails where that was not allowed."""
    draw = random.Random(seed)
    plc = Plc(acknowledge=draw.random() < 0.7)
    is_well, told_at, number, shown_ok = False, -1e9, 0, 0
    good: set[int] = set()  # parts that may be shown as OK
    for _ in range(400):
        plc.clock.now += draw.choice([0.0, 0.01, 0.3, 1.0]) if draw.random() < 0.99 else SILENT_S + 1
        is_well = is_well and plc.clock.now - told_at <= SILENT_S
        if not is_well:
            good.clear()
        happening = draw.choice(["part", "part", "status", "bits", "defect", "nothing"])
        if happening == "part":
            number += 1
            verdict = draw.choice(["ok", "ok", "ok", "ng", "not judged"])
            plc.image.take(part(number, verdict))  # type: ignore[arg-type]
            if verdict == "ok" and is_well:
                good.add(number)
        elif happening == "status":
            state = draw.choice(["running"] * 20 + ["ready", "fault", "offline", "starting"])
            plc.image.take(status(state))  # type: ignore[arg-type]
            is_well, told_at = state in ("running", "ready"), plc.clock.now
        elif happening == "bits":
            plc.bits(ack=draw.random() < 0.5, reset=draw.random() < 0.1)
        elif happening == "defect":
            number += 1
            plc.image.take(defect(number))
        if not is_well:
            good.clear()
        if draw.random() < 0.5:
            continue  # nobody looks
        seen = plc.look()
        is_ok = seen["ok"] or seen["verdict"] == 1
        assert seen["ok"] == (seen["verdict"] == 1)
        assert not is_ok or (
            seen["number"] in good and seen["valid"] and not seen["fault"] and not seen["ng"]
        )
        assert seen["valid"] == (seen["number"] > 0)
        shown_ok += is_ok
    return shown_ok

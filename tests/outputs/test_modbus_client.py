"""Remote IO over Modbus TCP, with pymodbus as the device: energised means good, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from remote_io import RemoteIoDevice
from station_events import Control, defect, free_port, part, status, wait_until

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.delivery import Delivery
from acl_runtime.outputs.plc.coil import GoodCoil
from acl_runtime.outputs.plc.modbus_client import Options, open_output
from acl_runtime.outputs.station import SILENT_S, WebRecord

GOOD, READY, RESULT = 5, 6, 10


@pytest.fixture
def device() -> Iterator[RemoteIoDevice]:
    device = RemoteIoDevice(free_port())
    yield device
    device.stop()


def write_to(port: int, *, is_there: bool = True, **options: object) -> Delivery:
    """The output, connected where the device is there."""
    given = {"good_coil": GOOD, "ready_coil": READY, "result_register": RESULT, **options}
    output = open_output(Options(host="127.0.0.1", port=port, **given), Control(), "gate")  # type: ignore[arg-type]
    if is_there:
        wait_until(lambda: not output.problem)
    return output


def test_a_good_part_energises_the_coil_for_its_time_and_a_bad_one_ends_it(device: RemoteIoDevice) -> None:
    output = write_to(device.port, hold_ms=60_000.0)
    output(status())
    wait_until(lambda: device.coils.get(READY))
    assert device.coils[GOOD] is False
    output(part(70_001))
    wait_until(lambda: device.coils[GOOD])
    assert [device.registers[RESULT + place] for place in range(4)] == [1, 70_001 - 65_536, 1, 1000]
    output(part(70_002, "ng"))
    wait_until(lambda: not device.coils[GOOD])
    assert device.registers[RESULT + 2] == 2
    output(part(70_003))
    wait_until(lambda: device.coils[GOOD])
    output(part(70_004, "not judged"))
    wait_until(lambda: not device.coils[GOOD])
    assert device.registers[RESULT + 2] == 3
    output.close(2)


def test_the_coil_goes_off_by_itself(device: RemoteIoDevice) -> None:
    output = write_to(device.port, hold_ms=10.0)
    output(status())
    output(part(1))
    wait_until(lambda: (5, GOOD, [1]) in device.writes)
    wait_until(lambda: not device.coils[GOOD])
    output.close(2)


def test_the_result_is_written_before_the_coil(device: RemoteIoDevice) -> None:
    output = write_to(device.port)
    output(status())
    output(part(1))
    wait_until(lambda: (5, GOOD, [1]) in device.writes)
    assert device.writes.index((16, RESULT, [0, 1, 1, 1000])) < device.writes.index((5, GOOD, [1]))
    output.close(2)


@pytest.mark.parametrize("state", ["fault", "offline", "starting"])
def test_a_fault_ends_it_and_what_comes_in_a_fault_is_not_good(device: RemoteIoDevice, state: str) -> None:
    output = write_to(device.port, hold_ms=60_000.0)
    output(status())
    output(part(1))
    wait_until(lambda: device.coils.get(GOOD))
    output(status(state))  # type: ignore[arg-type]
    wait_until(lambda: not device.coils[GOOD] and not device.coils[READY])
    output(part(2))
    wait_until(lambda: device.registers[RESULT + 1] == 2)
    assert device.registers[RESULT + 2] == 3
    output.close(2)
    assert not device.coils[GOOD]


def test_at_the_end_everything_is_off(device: RemoteIoDevice) -> None:
    output = write_to(device.port, hold_ms=60_000.0)
    output(status())
    output(part(1))
    wait_until(lambda: device.coils.get(GOOD))
    output.close(2)
    assert device.coils == {GOOD: False, READY: False}


def test_a_device_that_was_away_gets_no_old_result_and_the_coil_is_off_first() -> None:
    port = free_port()
    output = write_to(port, is_there=False, hold_ms=60_000.0)
    output(status())
    wait_until(lambda: "no Modbus device answers" in output.problem)
    output(part(1))
    device = RemoteIoDevice(port)
    wait_until(lambda: not output.problem)
    output(status())
    output(part(2, "ng"))
    wait_until(lambda: device.registers.get(RESULT + 1) == 2)
    assert (5, GOOD, [1]) not in device.writes
    assert output.dropped == 1
    device.stop()  # while it is in use, as by a kill
    output(part(3))
    wait_until(lambda: output.problem)
    device = RemoteIoDevice(port)
    wait_until(lambda: device.coils.get(GOOD) is False)
    assert (5, GOOD, [1]) not in device.writes
    output(status())
    output(part(4))
    wait_until(lambda: device.coils[GOOD])
    output.close(2)
    device.stop()


def test_a_device_that_hangs_costs_a_time_out_in_its_own_thread_and_no_late_coil(
    device: RemoteIoDevice,
) -> None:
    output = write_to(device.port, timeout_s=0.1, hold_ms=60_000.0)
    output(status())
    wait_until(lambda: device.coils.get(READY))
    device.hangs_s = 0.3
    output(part(1, "ng"))
    output(part(2))
    wait_until(lambda: "is away" in output.problem)
    device.hangs_s = 0.0
    wait_until(lambda: not output.problem)
    assert (5, GOOD, [1]) not in device.writes
    assert output.dropped >= 1
    output.close(2)


def test_a_fault_that_is_over_before_the_device_hears_of_it_counts_all_the_same(
    device: RemoteIoDevice,
) -> None:
    output = write_to(device.port, timeout_s=5.0, most_late_ms=60_000.0, hold_ms=60_000.0)
    output(status())
    wait_until(lambda: device.coils.get(READY))
    device.hangs_s = 0.2
    output(part(1, "ng"))
    for event in (status("fault"), part(2), status()):  # while part 1 is on its way
        output(event)
    wait_until(lambda: device.registers.get(RESULT + 1) == 2)
    assert device.registers[RESULT + 2] == 3
    device.hangs_s = 0.0
    output.close(5)
    assert (5, GOOD, [1]) not in device.writes


def test_a_result_that_waits_too_long_for_a_slow_device_is_not_good(device: RemoteIoDevice) -> None:
    output = write_to(device.port, timeout_s=5.0, most_late_ms=50.0, hold_ms=60_000.0)
    output(status())
    wait_until(lambda: device.coils.get(READY))
    device.hangs_s = 0.1
    output(part(1, "ng"))
    output(part(2))
    wait_until(lambda: device.registers.get(RESULT + 1) == 2)
    assert device.registers[RESULT + 2] == 3
    device.hangs_s = 0.0
    output.close(5)
    assert (5, GOOD, [1]) not in device.writes
    assert output.dropped >= 1


def test_a_device_without_the_coil_is_told_as_the_problem(device: RemoteIoDevice) -> None:
    device.refuses = True
    output = write_to(device.port, is_there=False)
    wait_until(lambda: "refuses" in output.problem)
    assert output.problem.endswith("(exception 2); see which addresses it has")
    output.close(1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "nothing to write"),
        ({"good_coil": 1, "ready_coil": 1}, "must be two coils"),
        ({"good_coil": 65536}, "good_coil must be 0 to 65535"),
        ({"good_coil": 1, "hold_ms": 1.0}, "hold_ms must be 10 to 60000"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(host="io", **options)  # type: ignore[arg-type]


def test_on_a_web_the_coil_is_off_for_a_while_from_each_defect_and_lost_lines() -> None:
    coil = GoodCoil(hold_s=1.0)
    coil.take(status(), 0.0)
    coil.take(WebRecord(number=1, camera="web", roll="R", record={"event": "roll"}), 0.0)
    assert coil.is_on(0.1)
    coil.take(defect(2), 1.0)
    assert [coil.is_on(1.0), coil.is_on(1.9), coil.is_on(2.1)] == [False, False, True]
    coil.take(WebRecord(number=3, camera="web", roll="R", record={"event": "gap"}), 2.2)
    assert not coil.is_on(2.3)
    assert not coil.is_on(SILENT_S + 1)


def test_whatever_happens_the_coil_is_only_on_right_after_a_part_that_was_ok_while_all_was_well() -> None:
    assert sum(map(count_on, range(200))) > 1000


def count_on(seed: int) -> int:
    """How often the coil was on; fails where that was not allowed."""
    draw = random.Random(seed)
    coil, now, seen_on = GoodCoil(hold_s=0.5), 10.0, 0
    told_at, is_well, ok_at = (
        -1e9,
        False,
        -1e9,
    )  # ok_at: of the newest part, if that was OK and nothing was wrong since
    for _ in range(300):
        now += draw.choice([0.0, 0.01, 0.1, 0.4]) if draw.random() < 0.98 else SILENT_S + 0.1
        if now - told_at > SILENT_S:
            is_well, ok_at = False, -1e9
        happening = draw.choice(["part", "status", "nothing"])
        if happening == "part":
            verdict = draw.choice(["ok", "ok", "ng", "not judged"])
            coil.take(part(1, verdict), now)  # type: ignore[arg-type]
            ok_at = now if verdict == "ok" and is_well else -1e9
        elif happening == "status":
            state = draw.choice(["running"] * 8 + ["ready", "fault", "offline", "starting"])
            coil.take(status(state), now)  # type: ignore[arg-type]
            is_well, told_at = state in ("running", "ready"), now
            ok_at = ok_at if is_well else -1e9
        is_on = coil.is_on(now)
        assert not is_on or (is_well and now - ok_at < 0.5)
        seen_on += is_on
    return seen_on

"""An S7 PLC, with snap7's own server as the PLC."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from snap7.server import Server
from snap7.type import SrvArea
from station_events import Control, free_port, part, status, wait_until

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.plc.register_map import STATUS_BITS, unpack_bits
from acl_runtime.outputs.plc.s7 import S7, Options, open_output

DB, START = 7, 10


class Plc:
    """A PLC with a data block that its program, the test, reads and writes."""

    def __init__(self, port: int) -> None:
        self.port, self.data = port, bytearray(128)
        self.data[START + 1] = 1  # enable
        self._server = Server()
        self._server.register_area(SrvArea.DB, DB, self.data)
        self._server.start(tcp_port=port)

    def stop(self) -> None:
        self._server.stop()
        self._server.destroy()

    def word(self, address: int) -> int:
        found: int = struct.unpack_from(">H", self.data, START + 2 * address)[0]
        return found

    def set(self, address: int, *words: int) -> None:
        struct.pack_into(f">{len(words)}H", self.data, START + 2 * address, *words)

    @property
    def bits(self) -> dict[str, bool]:
        return unpack_bits(STATUS_BITS, self.word(16))

    @property
    def number(self) -> int:
        return self.word(19) << 16 | self.word(20)


@pytest.fixture
def plc() -> Iterator[Plc]:
    plc = Plc(free_port())
    yield plc
    plc.stop()


def open_s7(port: int, control: Control) -> S7:
    options = Options(host="127.0.0.1", port=port, db=DB, start=START, period_ms=5.0, timeout_s=0.3)
    return open_output(options, control, "plc")


def test_a_plc_finds_results_in_its_data_block_and_acknowledges_them_there(plc: Plc) -> None:
    control = Control()
    output = open_s7(plc.port, control)
    output(status())
    output(part(70_001, part_id="A17"))
    output(part(70_002, "not judged"))
    wait_until(lambda: plc.bits["valid"])
    assert (plc.number, plc.word(21), plc.bits["ok"]) == (70_001, 1, True)
    assert bytes(plc.data[START + 84 : START + 100]).rstrip(b"\0") == b"A17"
    plc.set(0, 0b11)
    wait_until(lambda: not plc.bits["valid"])
    plc.set(0, 0b01)
    wait_until(lambda: plc.number == 70_002)
    assert (plc.word(21), plc.bits["ok"], plc.bits["ng"]) == (3, False, True)
    plc.set(3, 0x4142, 0x4300)
    wait_until(lambda: ("part_id", "ABC") in control.asked)
    plc.set(0, 0)
    wait_until(lambda: ("enabled", False) in control.asked)
    assert plc.data[:START] == bytes(START)  # nothing beside its place is written
    beat = plc.word(17)
    wait_until(lambda: plc.word(17) != beat)
    assert not output.problem
    output(status("offline"))
    output.close(2)
    assert (plc.bits["fault"], plc.bits["ok"], plc.word(18), plc.word(21)) == (True, False, 2, 3)


def test_a_plc_that_is_away_is_found_again_and_sees_what_is_then() -> None:
    port, control = free_port(), Control()
    output = open_s7(port, control)
    output(status())
    output(part(1))
    wait_until(lambda: "is away" in output.problem)
    plc = Plc(port)
    wait_until(lambda: plc.number == 1)
    plc.stop()
    wait_until(lambda: "is away" in output.problem)
    output(status("fault"))
    plc = Plc(port)
    wait_until(lambda: plc.bits["fault"])
    assert (plc.number, plc.word(21)) == (1, 3)
    wait_until(lambda: not output.problem)
    output.close(2)
    plc.stop()


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"start": 3}, "start must be even"), ({"db": 0}, "db must be 1 to"), ({"period_ms": 1.0}, "period_ms")],
)
def test_options_that_cannot_be_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(host="plc", **given)

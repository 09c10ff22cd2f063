"""A PLC over Modbus TCP, with pymodbus as the PLC."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pymodbus.client import ModbusTcpClient
from station_events import Control, free_port, part, status, wait_until

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.plc.modbus_server import ModbusServer, Options, open_output


@contextmanager
def plc_at(port: int) -> Iterator[ModbusTcpClient]:
    """A PLC that is connected."""
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    assert client.connect()
    try:
        yield client
    finally:
        client.close()


@contextmanager
def box(**options: object) -> Iterator[tuple[ModbusServer, Control, int]]:
    """The station's side, which runs."""
    port, control = free_port(), Control()
    output = open_output(Options(port=port, **options), control, "plc")  # type: ignore[arg-type]
    output(status())
    try:
        yield output, control, port
    finally:
        output.close(0)


def test_a_plc_reads_a_result_acknowledges_it_and_reads_the_next() -> None:
    with box() as (output, _, port), plc_at(port) as plc:
        output(part(70_001, "ok", part_id="A17"))
        output(part(70_002, "not judged"))
        words = plc.read_holding_registers(16, count=8).registers
        assert words[0] & 0b1000011111 == 0b1000001011
        assert words[3] << 16 | words[4] == 70_001
        assert words[5] == 1
        assert plc.read_input_registers(19, count=2).registers == words[3:5]
        assert plc.read_coils(16 * 16, count=10).bits[:10] == [bool(words[0] >> bit & 1) for bit in range(10)]
        assert plc.read_discrete_inputs(16 * 16 + 3, count=1).bits[0]
        assert struct.pack(">8H", *plc.read_holding_registers(42, count=8).registers).rstrip(b"\0") == b"A17"
        plc.write_register(0, 0b11)
        assert not plc.read_coils(16 * 16 + 3, count=1).bits[0]
        plc.write_register(0, 0b01)
        words = plc.read_holding_registers(16, count=8).registers
        assert (words[3] << 16 | words[4], words[5], words[0] >> 4 & 1) == (70_002, 3, 1)
        wait_until(lambda: output.problem == "")


def test_what_a_plc_writes_reaches_the_station_by_any_function_and_nothing_else_can_be_written() -> None:
    with box() as (_, control, port), plc_at(port) as plc:
        plc.write_coil(0, False)  # bit 0 of word 0: enable
        plc.write_coils(0, [True, False, True])  # enable, no acknowledgement, a new roll
        plc.write_registers(3, [0x4142, 0x4300])
        plc.mask_write_register(address=0, and_mask=0xFFFF ^ 8, or_mask=8)  # reset
        answer = plc.readwrite_registers(read_address=0, read_count=2, write_address=1, values=[77])
        assert answer.registers == [0b1101, 77]
        assert control.asked == [
            *(("enabled", False), ("enabled", True), ("roll", None), ("part_id", "ABC"), ("reset", None))
        ]
        for refused in (
            plc.write_register(16, 1),
            plc.write_coil(16 * 16, True),
            plc.write_registers(10, [1, 2]),
            plc.read_holding_registers(60, count=5),
        ):
            assert refused.isError()
            assert refused.exception_code == 2


def test_all_words_of_an_answer_are_of_one_moment() -> None:
    with box(acknowledge=False) as (output, _, port), plc_at(port) as plc:
        ended = threading.Event()

        def change() -> None:
            number = 0
            while not ended.is_set():
                # of 16 bits, as often as it is written while a slow reader reads
                number = number % 60_000 + 1
                output(status())  # so that the station gives a sign, however long 300 answers take
                output(part(number * 0x10001, "ok" if number % 2 else "ng"))

        writer = threading.Thread(target=change)
        writer.start()
        try:
            answers = [plc.read_holding_registers(16, count=8).registers for _ in range(300)]
        finally:
            ended.set()
            writer.join()
    seen = {(words[3], words[4], words[5], words[6]) for words in answers if words[5]}
    assert len(seen) > 2
    for high, low, verdict, score in seen:
        assert high == low
        assert (verdict, score) == ((1, 1000) if low % 2 else (2, 9000))


def is_open(connection: socket.socket, request: bytes) -> bool:
    try:
        connection.sendall(request)
    except ConnectionError:
        return False
    return True


def test_a_client_that_never_reads_is_cut_off_and_delays_no_other() -> None:
    with box() as (output, _, port), plc_at(port) as plc, socket.socket() as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        rude.connect(("127.0.0.1", port))
        wait_until(lambda: output._connections == 2)
        request, slowest_s = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 64), 0.0
        asked = 0
        while is_open(rude, request):
            began = time.perf_counter()
            assert plc.read_holding_registers(21, count=1).registers == [0]
            slowest_s, asked = max(slowest_s, time.perf_counter() - began), asked + 1
            assert asked < 20_000
        assert slowest_s < 2
        output(status())  # all this may have taken long, and a silent station is not trusted
        output(part(1))
        assert plc.read_holding_registers(21, count=1).registers == [1]


def test_a_plc_that_is_killed_is_told_as_away_and_may_come_back() -> None:
    with box() as (output, _, port):
        assert output.problem == "no PLC is connected"
        with plc_at(port) as plc:
            wait_until(lambda: not output.problem)
            assert plc.socket is not None
            plc.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # as by a power cut
        wait_until(lambda: output.problem == "no PLC is connected")
        with plc_at(port) as plc:
            assert plc.read_holding_registers(16, count=1).registers[0] & 3 == 3


def test_a_plc_sees_that_the_station_goes_offline_then_no_answer_and_then_it_again_on_the_same_port() -> None:
    port = free_port()
    output = open_output(Options(port=port), Control(), "plc")
    output(status())
    with plc_at(port) as plc:
        output(part(1))
        assert plc.read_holding_registers(21, count=1).registers == [1]
        output(status("offline"))
        words = plc.read_holding_registers(16, count=6).registers
        assert (words[0] & 0b10111, words[2], words[5]) == (0b10100, 2, 3)
        output.close(1)
        with pytest.raises(Exception, match="[Cc]onnection"):
            plc.read_holding_registers(16, count=1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    again = open_output(Options(port=port), Control(), "plc")
    with plc_at(port) as plc:
        assert plc.read_holding_registers(18, count=1).registers == [1]  # it starts
    again.close(0)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_clients_beyond_the_limit_are_closed() -> None:
    with box(most_clients=1) as (output, _, port), plc_at(port) as first:
        wait_until(lambda: not output.problem)
        with socket.create_connection(("127.0.0.1", port)) as second:
            second.settimeout(20)
            assert is_closed(second)
        assert not first.read_holding_registers(16, count=1).isError()


def test_the_plcs_heartbeat_that_stands_still_is_told() -> None:
    with box(plc_heartbeat_s=0.05) as (output, _, port), plc_at(port) as plc:
        plc.write_register(1, 1)
        wait_until(lambda: "heartbeat stands still" in output.problem)
        plc.write_register(1, 2)
        wait_until(lambda: not output.problem)


def test_a_port_that_is_taken_is_refused_with_the_remedy() -> None:
    with (
        box() as (_, _, port),
        pytest.raises(InputError, match=f"plc: 127.0.0.1 port {port} cannot be listened on"),
    ):
        open_output(Options(port=port), Control(), "plc")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"port": 0}, "port must be"),
        ({"plc_heartbeat_s": -1.0}, "plc_heartbeat_s"),
        ({"most_clients": 0}, "most_"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Options(**options)  # type: ignore[arg-type]

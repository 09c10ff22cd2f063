"""What telling a verdict costs the thread that judges, and when a coil has it. `python -m benchmarks.outputs`

Peers are real and on this machine, each in a process of its own where that is possible; "away" is a port that nobody
listens on, "hangs" one that takes connections and never answers.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Annotated, Any, cast

import numpy as np
import typer

from acl_runtime.commands.serve_check import NoControl
from acl_runtime.detection.verdict import Inspected, Verdict
from acl_runtime.images.frame import Frame
from acl_runtime.outputs.station import PartResult, StationOutput, StationStatus
from acl_runtime.scoring.regions import Region
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table

PACE_S = 0.002  # between two verdicts: 500 parts a second
KINDS = (
    "modbus_server",
    "modbus_client",
    "mqtt",
    "opcua",
    "s7",
    "webhook",
    "station_lines",
    "station_folder",
    "evidence",
    "live_page",
)
STATUS = StationStatus(state="running", cameras={"top": True}, bundle="abcd1234")
_NAMES = ("p50", "p99", "worst")
ALONE = (
    "modbus_server",
    "opcua",
    "station_lines",
    "station_folder",
    "evidence",
    "live_page",
)  # need no peer that could be away


@dataclass(frozen=True)
class Cost:
    """Microseconds that calls took."""

    kind: str
    peer: str
    calls_us: np.ndarray  # (N, 2): by the wall clock, and of the processor
    dropped: int

    @property
    def row(self) -> list[str]:
        """For the table."""
        wall, processor = (np.percentile(self.calls_us[:, column], (50, 99, 100)) for column in (0, 1))
        numbers = [f"{value:.0f}" for value in (*processor, *wall)]
        return [self.kind.replace("_", "-"), self.peer, *numbers, str(self.dropped)]


def make_part(number: int, picture: np.ndarray, anomaly_map: np.ndarray) -> PartResult:
    """A part; every tenth is NG, with three regions."""
    is_ng = number % 10 == 0
    regions = tuple(Region(x=1, y=2, width=3, height=4, area=12, peak=0.9) for _ in range(3))
    verdict = Verdict(
        score=0.9 if is_ng else 0.1,
        peak=0.9 if is_ng else 0.1,
        is_anomalous=is_ng,
        margin=2.0,
        threshold=0.5,
        peak_threshold=None,
        regions=regions if is_ng else (),
        anomaly_map=anomaly_map,
        latency_ms={"preprocess": 1.0, "inference": 5.0, "postprocess": 1.0},
    )
    return PartResult(
        number=number,
        part_id=f"P{number}",
        camera="top",
        verdict="ng" if is_ng else "ok",
        reason="",
        exposed_at=time.time(),
        latency_ms=8.0,
        result=Inspected(Frame("top", number, PurePath(f"top_{number}"), picture), verdict),
    )


def time_calls(output: StationOutput, calls: int) -> np.ndarray:
    """(calls, 2) float64 microseconds that telling a verdict took, at a steady pace, with a status each second."""
    picture, anomaly_map = np.zeros((1024, 1024, 3), np.uint8), np.zeros((518, 518), np.float32)
    found = np.zeros((calls, 2))
    for number in range(calls):
        part = make_part(number + 1, picture, anomaly_map)
        if number % 500 == 0:
            output(STATUS)
        began, worked = time.perf_counter(), time.thread_time()
        output(part)
        found[number] = 1e6 * (time.perf_counter() - began), 1e6 * (time.thread_time() - worked)
        time.sleep(PACE_S)
    return found


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def hanging() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield int(listener.getsockname()[1])


@contextmanager
def peer_of(kind: str, folder: Path) -> Iterator[int]:
    """A peer in a process of its own; its port, 0 if it cannot be had."""
    port = free_port()
    mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    command = [sys.executable, "-m", "benchmarks.outputs", "--be", kind, "--port", str(port)]
    if kind == "mqtt":
        if mosquitto is None:
            yield 0
            return
        conf = folder / "mosquitto.conf"
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n")
        command = [mosquitto, "-c", str(conf)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


def open_kind(kind: str, port: int, folder: Path) -> StationOutput:
    """An output of this kind towards a port."""
    key = folder / "key"
    key.touch(0o600)
    key.write_text("key")
    kinds: dict[str, dict[str, Any]] = {
        "modbus_server": {"port": port},
        "modbus_client": {"host": "127.0.0.1", "port": port, "good_coil": 5},
        "mqtt": {"host": "127.0.0.1", "port": port},
        "opcua": {"port": port},
        "s7": {"host": "127.0.0.1", "port": port},
        "webhook": {"url": f"http://127.0.0.1:{port}/", "secret_file": key, "spool": folder / "spool"},
        "station_lines": {"folder": folder / "lines"},
        "station_folder": {"folder": folder / "pictures", "least_free_mb": 0.0},
        "evidence": {"folder": folder / "evidence", "keep_free_gb": 0.0},
        "live_page": {"port": port},
    }
    module = import_module(f"acl_runtime.outputs.{kind}")
    return cast(StationOutput, module.open_output(module.Options(**kinds[kind]), NoControl(), kind))


def measure(kind: str, peer: str, calls: int) -> Cost | None:
    """What a kind costs while its peer is "there", "away" or "hangs"; None where the peer cannot be had."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if peer == "there" and kind not in ALONE:
            port = stack.enter_context(peer_of(kind, folder))
        else:
            port = stack.enter_context(hanging()) if peer == "hangs" else free_port()
        if not port:
            return None
        output = open_kind(kind, port, folder)
        stack.callback(output.close, 1.0)
        until = time.monotonic() + 30
        while peer == "there" and output.problem and kind != "modbus_server" and time.monotonic() < until:
            time.sleep(0.01)
        calls_us = time_calls(output, calls)
        return Cost(kind, peer, calls_us, output.dropped)


def time_coil(times: int) -> np.ndarray:
    """(times,) float64 milliseconds from telling a good part to its coil in a device of another process."""
    with tempfile.TemporaryDirectory() as name, peer_of("modbus_client", Path(name)) as port:
        from pymodbus.client import ModbusTcpClient

        from acl_runtime.outputs.plc.modbus_client import Options, open_output

        options = Options(host="127.0.0.1", port=port, good_coil=5, hold_ms=60_000.0)
        output = open_output(options, NoControl(), "gate")
        watcher = ModbusTcpClient("127.0.0.1", port=port)
        watcher.connect()
        picture, anomaly_map = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)
        found = np.zeros(times)
        output(STATUS)
        for turn in range(times):
            if turn % 50 == 0:
                output(STATUS)
            output(make_part(10, picture, anomaly_map))  # NG: off
            while output.problem or watcher.read_coils(5, count=1).bits[0]:
                time.sleep(0.001)
            time.sleep(0.005)
            began = time.perf_counter()
            output(make_part(11, picture, anomaly_map))
            while not watcher.read_coils(5, count=1).bits[0]:
                pass
            found[turn] = 1e3 * (time.perf_counter() - began)
        output.close(1.0)
        watcher.close()
        return found


def be_peer(kind: str, port: int) -> None:
    """Be the other side, until killed."""
    if kind == "modbus_client":
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        bits = [SimData(0, count=64, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=64, values=0, datatype=DataType.REGISTERS)]

        async def serve() -> None:
            device = SimDevice(id=0, simdata=(bits, bits, words, words))
            await ModbusTcpServer(device, address=("127.0.0.1", port)).serve_forever()

        asyncio.run(serve())
    elif kind == "s7":
        from snap7.server import Server
        from snap7.type import SrvArea

        server = Server()
        server.register_area(SrvArea.DB, 1, bytearray(256))
        server.start(tcp_port=port)
        threading.Event().wait()
    else:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main(
    calls: Annotated[int, typer.Option(help="Verdicts that each output is told.")] = 2000,
    be: Annotated[str, typer.Option(hidden=True)] = "",
    port: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Print the tables."""
    if be:
        be_peer(be, port)
        return
    logging.getLogger("acl").setLevel(logging.CRITICAL)  # that peers are away is what is measured
    print(machine_line(describe_machine()), end="\n\n")
    ways = [(kind, peer) for kind in KINDS for peer in ("there", "away", "hangs")]
    costs = [measure(kind, peer, calls) for kind, peer in ways if peer == "there" or kind not in ALONE]
    header = [
        "output",
        "peer",
        *(f"{clock} {name}" for clock in ("CPU", "wall") for name in _NAMES),
        "dropped",
    ]
    print(markdown_table(header, [cost.row for cost in costs if cost is not None]), end="\n\n")
    coil_ms = time_coil(calls // 4)
    p50, p99 = np.percentile(coil_ms, (50, 99))
    print(
        f"From telling a good part to its coil: p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {coil_ms.max():.2f} ms"
    )


if __name__ == "__main__":
    typer.run(main)

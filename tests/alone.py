"""Run commands where only this machine can be reached, and tell what they asked the network for and wrote at home.

`python tests/alone.py REQUEST` runs inside `unshare`; see `run_alone`. There is a name server on 127.0.0.1 that answers
every question with 127.0.0.1 and keeps it, and a listener on the ports of the web that keeps who connected.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")
_WEB = (80, 443)


@dataclass(frozen=True)
class Alone:
    """What commands did.

    Attributes:
        names: That the name server was asked for.
        connections: Ports of this machine that were connected to.
        home: Files left below HOME.
        codes: Exit codes, in the commands' order.
        output: All that they printed.
    """

    names: list[str]
    connections: list[int]
    home: list[str]
    codes: list[int]
    output: str


def why_not() -> str:
    """Return why commands cannot be run alone here; empty if they can."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return "needs Linux and unshare"
    done = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"namespaces cannot be made here: {done.stderr.strip()}" if done.returncode else ""


def run_alone(
    commands: Sequence[Sequence[str]],
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    wait_s: float = 0,
) -> Alone:
    """Run commands one after the other with nothing but this machine to talk to, and an empty HOME.

    Args:
        commands: To run.
        folder: Where they run.
        env: More environment variables.
        wait_s: How long to wait after the last for what is still asked.
    """
    with tempfile.TemporaryDirectory(prefix="alone-") as temporary:
        home = Path(temporary, "home")
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        request = {
            "commands": [list(command) for command in commands],
            "env": {**kept, "HOME": str(home), **(env or {})},
            "wait_s": wait_s,
        }
        path, answer = Path(temporary, "request.json"), Path(temporary, "answer.json")
        path.write_text(json.dumps(request))
        subprocess.run(
            [*_UNSHARE, sys.executable, __file__, str(path), str(answer)], cwd=folder, check=True, timeout=900
        )
        found = json.loads(answer.read_text())
        files = sorted(str(file.relative_to(home)) for file in home.rglob("*") if not file.is_dir())
        return Alone(home=files, **found)


def main(path: Path, answer: Path) -> None:
    """Do what `run_alone` asks, inside the namespaces."""
    request = json.loads(path.read_text())
    _raise_loopback()
    resolver = path.with_name("resolv.conf")
    resolver.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    names: list[str] = []
    connections: list[int] = []
    _serve_names(names)
    for port in _WEB:
        _listen(port, connections)
    codes, output = [], ""
    for command in request["commands"]:
        done = subprocess.run(
            command,
            env=request["env"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        codes.append(done.returncode)
        output += done.stdout
    time.sleep(request["wait_s"])
    found = {"names": names, "connections": connections, "codes": codes, "output": output}
    answer.write_text(json.dumps(found))


def _raise_loopback() -> None:
    """As `ip link set lo up`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        get, put, up = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
        name, flags = struct.unpack("16sh", fcntl.ioctl(wire, get, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(wire, put, struct.pack("16sh", name, flags | up))


def _serve_names(names: list[str]) -> None:
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            query, sender = wire.recvfrom(4096)
            name, end = _name_in(query)
            names.append(name)
            question = query[12 : end + 4]
            is_address = query[end : end + 2] == b"\0\1"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if is_address else b""
            header = query[:2] + struct.pack(">5H", 0x8180, 1, len(record) > 0, 0, 0)
            wire.sendto(header + question + record, sender)

    threading.Thread(target=serve, daemon=True).start()


def _name_in(query: bytes) -> tuple[str, int]:
    """The name that a question is about, and where it ends."""
    labels, place = [], 12
    while size := query[place]:
        labels.append(query[place + 1 : place + 1 + size].decode("ascii", "replace"))
        place += 1 + size
    return ".".join(labels), place + 1


def _listen(port: int, connections: list[int]) -> None:
    server = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            connections.append(port)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

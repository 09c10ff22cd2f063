"""A real Triton server for tests, from the wheel that `make triton-server` installs.

The wheel has the Python backend alone. Its stub looks for packages beside itself and nowhere else, so a folder of links
is made to them: to a numpy below 2, which this version of the server needs, and to all that this environment has.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = (Path(sys.prefix) / "triton", ROOT / ".venv" / "triton")
READY_S = 60.0


def folder() -> Path | None:
    """Where the wheel is installed; None if it is not."""
    return next((place for place in PLACES if (place / "pytriton").is_dir()), None)


def why_not() -> str:
    """Return why no server can be started here, with the remedy; empty if one can."""
    place = folder()
    if place is None:
        return "Triton is not installed: make triton-server (Linux on x86-64, Python 3.10 to 3.12)"
    tried = subprocess.run([str(_stub(place))], capture_output=True, text=True, check=False)
    if "error while loading" in tried.stderr:
        return f"Triton's Python backend cannot start: {tried.stderr.strip().rpartition('stub: ')[2]}"
    return ""


@dataclass
class Server:
    """One server, on a port of its own.

    Attributes:
        repositories: Folders of models.
        port: Of its HTTP service; the same after `start`.
        log: What it says.
    """

    repositories: list[Path]
    backends: Path
    log: Path
    port: int = 0
    _memory: str = field(default_factory=lambda: f"acl_{secrets.token_hex(6)}", init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """As `--triton` takes it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        place = folder()
        assert place is not None
        self.port = self.port or _free_port()
        libraries = place / "nvidia_pytriton.libs"
        command = [
            str(place / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            *(f"--model-repository={repository}" for repository in self.repositories),
            *("--backend-directory", str(self.backends), "--http-address", "127.0.0.1"),
            *("--http-port", str(self.port), "--allow-grpc", "false", "--allow-metrics", "false"),
            *("--exit-timeout-secs", "1", "--disable-auto-complete-config"),
            *("--model-control-mode", "explicit", "--load-model", "*"),
            f"--backend-config=python,shm-region-prefix-name={self._memory}",
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "LD_LIBRARY_PATH": str(libraries), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # so that the processes of its models can be ended with it
            )
        until = time.monotonic() + READY_S
        while not self._is_ready():
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def load(self, model: str) -> None:
        """Have it read a model's folder again."""
        for what in ("unload", "load"):
            url = f"http://{self.address}/v2/repository/models/{model}/{what}"
            urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=READY_S).close()

    def kill(self) -> None:
        """End it as a power cut would; the shared memory that it leaves is removed."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        for left in Path("/dev/shm").glob(f"{self._memory}*"):
            left.unlink()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=READY_S)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def serving(repositories: list[Path], temporary: Path) -> Iterator[Server]:
    """A server that is ready, and ends with the block."""
    server = Server(repositories, make_backends(temporary / "backends"), temporary / "triton.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def make_backends(target: Path) -> Path:
    """The folder of backends, whose Python backend finds numpy 1 and this environment's packages beside itself."""
    place = folder()
    assert place is not None
    backend = target / "python"
    if backend.is_dir():
        return target
    shutil.copytree(place / "pytriton" / "tritonserver" / "backends" / "python", backend)
    stub = backend / "triton_python_backend_stub"
    shutil.copyfile(_stub(place), stub)
    stub.chmod(0o755)
    sources = [*place.glob("numpy*"), ROOT / "acl_runtime"]
    sources += [
        each for each in Path(sysconfig.get_paths()["purelib"]).iterdir() if not each.name.startswith(".")
    ]
    for source in sources:
        link = backend / source.name
        if not link.exists() and not source.name.startswith("__"):
            link.symlink_to(source)
    return target


def _stub(place: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        place / "pytriton" / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port

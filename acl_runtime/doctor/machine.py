"""What a machine has, read without touching its GPU; what is not there is an answer, what cannot be read a problem."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from acl_runtime.backends.tensorrt.library import LIBRARIES, Library, load_library
from acl_runtime.files.errors import BackendError

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it prints; FileNotFoundError if there is none, RuntimeError if it fails."""

PACKAGES = (
    *(
        "onnxruntime",
        "onnxruntime-gpu",
        "openvino",
        "cuda-bindings",
        "tensorrt",
        "tensorrt-cu12",
        "tensorrt-cu13",
    ),
    *("tensorrt-rtx", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu13-bindings"),
    *("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "pypylon",
)
ARAVIS = "libaravis-0.8.so.0"
JETPACKS = {  # by the start of the L4T version
    "35.": "5.1",
    "36.2": "6.0",
    "36.3": "6.0",
    "36.4": "6.1 or 6.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.": "7.2",
}
BOARDS = {"Thor": "11.0", "Orin": "8.7", "Xavier": "7.2"}  # compute capability, by a word of the board's name
PATIENCE_S = 20.0  # for a command
_QUERY = (
    "name",
    "compute_cap",
    "memory.total",
    "memory.free",
    "power.limit",
    "power.default_limit",
    "driver_version",
)
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor, and the start of the class, of a graphics card on the PCI bus


@dataclass(frozen=True, kw_only=True)
class OpenCv:
    """The OpenCV that Python imports."""

    version: str
    is_system: bool  # installed for the system, as by JetPack, and not by pip into this environment
    windows: str  # what cv2.imshow draws with; "none" without
    gstreamer: bool  # whether it opens GStreamer's pipelines


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU; what the system does not tell is None."""

    name: str
    compute_capability: str | None
    memory_bytes: int | None
    free_bytes: int | None
    power_limit_w: float | None
    default_power_limit_w: float | None


@dataclass(frozen=True, kw_only=True)
class Jetson:
    """A Jetson board, whose GPU shares the memory; what the system does not tell is None."""

    board: str
    l4t: str | None  # such as "36.4.3"
    jetpack: str | None
    power_mode: str | None  # such as "15W"
    full_power: int | None  # number of the mode without limits, if there is one
    gpu_mhz: (
        tuple[int, int, int] | None
    )  # lowest, present and highest clock; all the same once they are fixed


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts, without names of people or of the machine."""

    system: str
    python: str
    cores: int
    memory_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None
    gpus: tuple[Gpu, ...]
    has_nvidia_card: bool  # on the PCI bus, whether or not a driver is there
    driver: str | None
    cuda: str | None  # the newest that the driver runs
    jetson: Jetson | None
    packages: dict[str, str]  # versions of what this Python has of PACKAGES
    system_tensorrt: dict[
        str, str
    ]  # installed for the system: its version by the Python it is for, such as "3.10"
    libraries: dict[str, str]  # version of each edition of TensorRT that can be imported
    rtx_capabilities: tuple[str, ...]  # what TensorRT-RTX builds for; none if it cannot be imported
    providers: tuple[str, ...]  # of ONNX Runtime; none if it cannot be imported
    opencv: OpenCv | None  # None if it cannot be imported
    has_aravis: bool  # the system's library of GigE Vision and USB3 Vision cameras
    problems: tuple[str, ...]  # what should have told something and did not, a sentence each


def read_machine(root: Path = Path("/"), run: Run | None = None) -> Machine:
    """Read this machine.

    Args:
        root: Where its files are.
        run: How to run a command on it; None for really.
    """
    read = _Reader(root, run or run_command)
    memory = {name: int(kb) << 10 for name, kb in re.findall(r"(\w+):\s+(\d+) kB", read.text("proc/meminfo"))}
    jetson = _read_jetson(read)
    gpus, driver = _read_gpus(read)
    if jetson is not None and all(gpu.compute_capability is None for gpu in gpus):
        gpus = (_gpu_of(jetson, memory),)
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", read.text("proc/driver/nvidia/version"))
    smi = read.output("nvidia-smi", may_fail=True)  # its other call tells of failures
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", smi)
    libraries = _load_libraries(read)
    rtx = libraries.get("tensorrt-rtx")
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        swap_bytes=memory.get("SwapTotal"),
        gpus=gpus,
        has_nvidia_card=read.has_nvidia_card(),
        driver=driver or (found[1] if found else None),
        cuda=cuda[1] if cuda else None,
        jetson=jetson,
        packages=_read_packages(),
        system_tensorrt=_read_system_tensorrt(read),
        libraries={name: library.version for name, library in libraries.items()},
        rtx_capabilities=tuple(rtx.compute_capabilities) if rtx else (),
        providers=_read_providers(read),
        opencv=_read_opencv(read),
        has_aravis=_can_load(ARAVIS),
        problems=tuple(problem.replace(str(Path.home()), "~") for problem in read.problems),
    )


def run_command(command: Sequence[str]) -> str:
    """See `Run`."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer in {PATIENCE_S:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(said[0] if said else f"exit code {done.returncode}")
    return done.stdout


class _Reader:
    """Reads files and commands of one machine and collects problems."""

    def __init__(self, root: Path, run: Run) -> None:
        self.root, self._run = root, run
        self.problems: list[str] = []

    def text(self, path: str) -> str:
        """A file of the machine; empty if there is none."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            self.problems.append(f"/{path} cannot be read: {error.strerror}")
            return ""

    def output(self, *command: str, may_fail: bool = False) -> str:
        """What a command prints; empty if there is none, or if it fails, which is a problem unless it may."""
        try:
            return self._run(command)
        except FileNotFoundError:
            return ""
        except (RuntimeError, OSError) as error:
            if not may_fail:
                self.problems.append(f"{command[0]} fails: {' '.join(str(error).split())}")
            return ""

    def has_nvidia_card(self) -> bool:
        """Whether there is an NVIDIA graphics card on the PCI bus."""
        folders = sorted((self.root / "sys/bus/pci/devices").glob("*"))
        names = [f"{folder.relative_to(self.root).as_posix()}/{{}}" for folder in folders]
        return any(
            self.text(name.format("vendor")) == _NVIDIA
            and self.text(name.format("class")).startswith(_DISPLAY)
            for name in names
        )


def _read_gpus(read: _Reader) -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that nvidia-smi lists, and the driver."""
    gpus: list[Gpu] = []
    driver = None
    query = ("nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits")
    for line in read.output(*query).splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(_QUERY):
            read.problems.append(f"nvidia-smi prints something unexpected: {line.strip()}")
            continue
        name, capability, *numbers, version_text = fields
        total, free, limit, default = map(_number, numbers)
        known = capability if re.fullmatch(r"\d+\.\d", capability) else None
        gpus.append(
            Gpu(
                name=name,
                compute_capability=known,
                memory_bytes=_mebibytes(total),
                free_bytes=_mebibytes(free),
                power_limit_w=limit,
                default_power_limit_w=default,
            )
        )
        driver = version_text if re.match(r"\d", version_text) else driver
    return tuple(gpus), driver


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None  # "[N/A]" is none


def _mebibytes(number: float | None) -> int | None:
    return None if number is None else int(number) << 20


def _read_jetson(read: _Reader) -> Jetson | None:
    board, release = read.text("proc/device-tree/model"), read.text("etc/nv_tegra_release")
    if "Jetson" not in board and not release:
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release)
    l4t = f"{found[1]}.{found[2]}" if found else None
    package = read.output("dpkg-query", "-W", "-f=${Version}", "nvidia-jetpack", may_fail=True).strip()
    guess = next((name for start, name in JETPACKS.items() if l4t and l4t.startswith(start)), None)
    mode = re.search(r"Power Mode:\s*(\S+)", read.output("nvpmodel", "-q"))
    full = re.search(r"POWER_MODEL\s+ID=(\d+)\s+NAME=MAXN", read.text("etc/nvpmodel.conf"))
    return Jetson(
        board=board or "a board that does not tell its name",
        l4t=l4t,
        jetpack=package.partition("+")[0] or guess,
        power_mode=mode[1] if mode else None,
        full_power=int(full[1]) if full else None,
        gpu_mhz=_read_clocks(read),
    )


def _read_clocks(read: _Reader) -> tuple[int, int, int] | None:
    """Of a Jetson's GPU, which the system calls 17000000.gpu, or gpu-gpc-0."""
    for folder in sorted((read.root / "sys/class/devfreq").glob("*gpu*")):
        name = folder.relative_to(read.root).as_posix()
        hertz = [read.text(f"{name}/{which}_freq") for which in ("min", "cur", "max")]
        if all(each.isdecimal() for each in hertz):
            low, now, high = (int(each) // 1_000_000 for each in hertz)
            return low, now, high
    return None


def _gpu_of(jetson: Jetson, memory: dict[str, int]) -> Gpu:
    capability = next((number for word, number in BOARDS.items() if word in jetson.board), None)
    return Gpu(
        name=jetson.board,
        compute_capability=capability,
        memory_bytes=memory.get("MemTotal"),
        free_bytes=memory.get("MemAvailable"),
        power_limit_w=None,
        default_power_limit_w=None,
    )


def _read_packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read_system_tensorrt(read: _Reader) -> dict[str, str]:
    """By the folders that Debian's packages of the binding have, whatever Python this is."""
    found = {}
    for folder in sorted((read.root / "usr/lib").glob("python3*/dist-packages/tensorrt")):
        name = folder.parent.parent.name.removeprefix("python")
        records = sorted(folder.parent.glob("tensorrt-*.dist-info"))
        text = (
            records[0].name.removesuffix(".dist-info").removeprefix("tensorrt-")
            if records
            else "unknown version"
        )
        found[name] = text
    return found


def _load_libraries(read: _Reader) -> dict[str, Library]:
    found: dict[str, Library] = {}
    for name in LIBRARIES:
        try:
            found[name] = load_library(name)
        except BackendError as error:
            if "cannot be imported" in str(error):
                read.problems.append(str(error))
    return found


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _read_providers(read: _Reader) -> tuple[str, ...]:
    try:
        from acl_runtime.backends.onnx_session import available_providers
    except BackendError as error:
        read.problems.append(str(error))
        return ()
    return available_providers()


def _read_opencv(read: _Reader) -> OpenCv | None:
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):  # as where libGL is missing
            read.problems.append(f"OpenCV cannot be imported: {error}")
        return None
    built: str = cv2.getBuildInformation()
    windows = re.search(r"GUI:\s*(\S+)", built)
    return OpenCv(
        version=cv2.__version__,
        is_system="dist-packages" in cv2.__file__,  # Debian's folder; pip's is site-packages
        windows=(windows[1] if windows else "none").lower(),
        gstreamer=bool(re.search(r"GStreamer:\s*YES", built)),
    )

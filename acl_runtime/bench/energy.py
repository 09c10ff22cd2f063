"""What a frame costs in energy, where the machine tells its power: a Jetson, NVIDIA's GPUs, the CPUs of PCs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from acl_runtime.bench.candidates import Candidate
from acl_runtime.bench.measure import Progress, group_of

METERED_S = 4.0  # per candidate; the programs print ten times a second
POWERCAP = Path("/sys/class/powercap")
_TEGRASTATS = ("tegrastats", "--interval", "100")
_SMI = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0", "-lms", "100")


@dataclass(frozen=True)
class Meter:
    """Something that tells the power.

    Attributes:
        of: Whose power, and by what.
        watts: Called with work to do; the mean power meanwhile, or None if it told nothing.
    """

    of: str
    watts: Callable[[Callable[[], None]], float | None]


def find_meters() -> list[Meter]:
    """What tells the power here: a Jetson's module as a whole, else GPUs and CPUs, each if it can be read."""
    if shutil.which(_TEGRASTATS[0]):
        return [Meter("module, tegrastats", lambda work: _printed_watts(_TEGRASTATS, _module_watts, work))]
    meters = []
    if shutil.which(_SMI[0]):
        meters.append(Meter("GPU 0, nvidia-smi", lambda work: _printed_watts(_SMI, _gpu_watts, work)))
    if packages := _packages():
        meters.append(Meter("CPU, RAPL", lambda work: _counted_watts(packages, work)))
    return meters


def joules_per_frame(
    candidates: Sequence[Candidate], frames: Sequence[np.ndarray], meters: Sequence[Meter], progress: Progress
) -> list[dict[str, float]]:
    """Energy of a frame, by what was metered, of each candidate at work; idle power is part of it.

    Args:
        candidates: Who; one after the other, for some seconds each and meter.
        frames: Used again and again.
        meters: See `find_meters`.
        progress: Called with what is done, how much of it and of how much.
    """
    found: list[dict[str, float]] = []
    for done, candidate in enumerate(candidates if meters else (), start=1):
        found.append({})
        for meter in meters:
            judged, elapsed = 0, 0.0

            def work(candidate: Candidate = candidate) -> None:
                nonlocal judged, elapsed
                started = time.perf_counter()
                for turn in count():
                    candidate.run(group_of(frames, turn * candidate.batch, candidate.batch))
                    judged += candidate.batch
                    elapsed = time.perf_counter() - started
                    if elapsed >= METERED_S:
                        return

            if (watts := meter.watts(work)) is not None:
                found[-1][meter.of] = watts * elapsed / judged
        progress("metering energy", done, len(candidates))
    return found or [{} for _ in candidates]


def _printed_watts(
    command: Sequence[str], watts_of: Callable[[str], float | None], work: Callable[[], None]
) -> float | None:
    """Mean of what a program prints while the work is done."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            work()
        finally:
            process.terminate()
            printed, _ = process.communicate()
    told = [watts for line in printed.splitlines() if (watts := watts_of(line)) is not None]
    return float(np.mean(told)) if told else None


def _module_watts(line: str) -> float | None:
    """`VDD_IN 5040mW/4990mW` is now and on average, of all; where there is none, the rails are all there is."""
    rails = {name: int(now) / 1000 for name, now in re.findall(r"(V\w+) (\d+)mW/\d+mW", line)}
    return rails.get("VDD_IN", sum(rails.values())) if rails else None


def _gpu_watts(line: str) -> float | None:
    """Laptops print `[N/A]`."""
    try:
        return float(line)
    except ValueError:
        return None


def _packages() -> list[Path]:
    """RAPL's counters of whole CPUs that may be read; on most systems only root may."""
    found = []
    for folder in sorted(POWERCAP.glob("*-rapl:*")):
        try:
            (folder / "energy_uj").read_text()
        except OSError:
            continue
        if folder.name.count(":") == 1:  # a second one is a part of the first
            found.append(folder)
    return found


def _counted_watts(packages: Sequence[Path], work: Callable[[], None]) -> float:
    """By counters of microjoules, which begin anew at their end."""

    def read(name: str) -> np.ndarray:
        return np.array([int((package / name).read_text()) for package in packages])

    before, started = read("energy_uj"), time.perf_counter()
    work()
    used = read("energy_uj") - before
    seconds = time.perf_counter() - started
    used[used < 0] += read("max_energy_range_uj")[used < 0]
    return float(used.sum() / 1e6 / seconds)

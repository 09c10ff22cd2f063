"""Energy of a frame from whatever tells the power; the programs and counters here are stand-ins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from acl_runtime.bench import energy
from acl_runtime.bench.candidates import Candidate
from acl_runtime.bench.energy import Meter, find_meters, joules_per_frame

FRAMES = [np.zeros((4, 4), np.uint8)]
NANO = "RAM 3012/7620MB (lfb 4x4MB) CPU [2%@729] VDD_IN {now}mW/4990mW VDD_CPU_GPU_CV 520mW/520mW VDD_SOC 1390mW/1390mW"
AGX = "GR3D_FREQ 0% VDD_GPU_SOC 2000mW/1990mW VDD_CPU_CV 500mW/400mW VIN_SYS_5V0 3500mW/3400mW"


def program(folder: Path, name: str, line: str) -> None:
    """A program that prints a line ten times a second, for ever."""
    path = folder / name
    path.write_text(f"#!/bin/sh\nwhile :; do echo '{line}'; sleep 0.1; done\n")
    path.chmod(0o755)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that tells nothing yet; programs go here."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(energy, "METERED_S", 0.3)
    for name in ("sh", "sleep"):
        real = next(Path(folder) / name for folder in ("/bin", "/usr/bin") if (Path(folder) / name).exists())
        (tmp_path / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def working(milliseconds: float, batch: int = 1) -> Candidate:
    def run(frames: Sequence[np.ndarray]) -> Mapping[str, float]:
        assert len(frames) == batch
        time.sleep(milliseconds / 1000)
        return {}

    return Candidate(backend="none", provider="CPU", precision="fp32", batch=batch, run=run)


def joules(*candidates: Candidate) -> list[dict[str, float]]:
    return joules_per_frame(candidates, FRAMES, find_meters(), lambda *told: None)


def test_where_nothing_tells_there_is_no_figure() -> None:
    assert find_meters() == []
    assert joules(working(1), working(1)) == [{}, {}]


@pytest.mark.parametrize(("line", "watts"), [(NANO.format(now=5040), 5.04), (AGX, 6.0)])
def test_a_jetsons_module(machine: Path, line: str, watts: float) -> None:
    program(machine, "tegrastats", line)
    program(machine, "nvidia-smi", "1.0")  # would count the GPU twice
    [one, two] = joules(working(20), working(20, batch=2))
    assert one == {"module, tegrastats": pytest.approx(watts * 0.02, rel=0.3)}
    assert two["module, tegrastats"] == pytest.approx(watts * 0.01, rel=0.3)


def test_a_gpu(machine: Path) -> None:
    program(machine, "nvidia-smi", "312.50")
    assert joules(working(20)) == [{"GPU 0, nvidia-smi": pytest.approx(312.5 * 0.02, rel=0.3)}]


def test_a_gpu_that_does_not_tell(machine: Path) -> None:
    program(machine, "nvidia-smi", "[N/A]")
    assert joules(working(1)) == [{}]


def write_counters(folder: Path, **microjoules: int) -> None:
    for name, value in microjoules.items():
        package = folder / "powercap" / name.replace("_", "-", 1).replace("_", ":")
        package.mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("1000000\n")


def test_a_cpus_counters_and_where_they_begin_anew(machine: Path) -> None:
    write_counters(machine, intel_rapl_0=900_000, intel_rapl_1=0, intel_rapl_0_0=0)
    [meter] = find_meters()

    def work() -> None:
        time.sleep(0.1)
        write_counters(machine, intel_rapl_0=100_000, intel_rapl_1=300_000, intel_rapl_0_0=50_000)

    started = time.perf_counter()
    watts = meter.watts(work)
    elapsed = time.perf_counter() - started
    assert meter.of == "CPU, RAPL"
    assert watts is not None
    assert 0.5 / elapsed <= watts <= 0.5 / 0.1  # 0.2 J past the end, 0.3 J; the part is not counted again


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_counters_that_only_root_may_read_are_left_out(machine: Path) -> None:
    write_counters(machine, intel_rapl_0=1)
    (machine / "powercap" / "intel-rapl:0" / "energy_uj").chmod(0)
    assert find_meters() == []


def test_the_program_is_ended_even_if_the_work_fails(machine: Path) -> None:
    program(machine, "nvidia-smi", "1.0")
    [meter] = find_meters()

    def fail() -> None:
        raise RuntimeError("broken")

    started = time.perf_counter()
    with pytest.raises(RuntimeError, match="broken"):
        meter.watts(fail)
    assert time.perf_counter() - started < 5
    assert isinstance(meter, Meter)

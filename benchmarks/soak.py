"""A station for an hour, with faults every few seconds: is every part told once, and do memory, threads and files stay?

    python -m benchmarks.soak demo/bundle --seconds 3600

Two drawn cameras share an engine in a service of its own process. Faults are drawn from a seed: a camera is away, the
network fails, the process hangs, the clock is set back an hour, the file is read again, and, in the first quarter only
so that memory is seen to be flat in the others, it is killed or told to stop, and started again. Brokers and PLCs that
fail are not among them: outputs have their own tests.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from acl_runtime.backends.session import Session
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, SourceError
from acl_runtime.inspection.station.camera import open_camera
from acl_runtime.inspection.station.judge import open_detector_of
from acl_runtime.inspection.station.service import Station
from acl_runtime.inspection.station.station_file import CameraSection, StationSection, load_station
from acl_runtime.inspection.watch import reload_signal, stop_signals
from acl_runtime.outputs.line_file import LineFile
from acl_runtime.outputs.station import PartResult, StationEvent
from acl_runtime.sources.block import Block, LineSource
from acl_runtime.text.json_log import json_log
from benchmarks.machine import describe_machine, machine_line

AWAY, BROKEN, BACK = "away", "broken", "set-back"  # files by which the driver makes faults in the service
FAULTS = ("camera", "network", "hang", "clock", "reload")
ENDS = ("kill", "stop")
PATIENCE_S = 60.0
_PIECES = 8  # of the time, whose memory is told


@dataclass
class Report:
    """What a soak adds up to."""

    parts: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    holes: list[int] = field(default_factory=list)
    doubles: list[int] = field(default_factory=list)
    seconds: float = 0.0
    resident_mb: list[float] = field(default_factory=list)  # of the last life of the process, sampled
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def text(self) -> str:
        """Some lines of Markdown."""
        parts = np.array_split(np.array(self.resident_mb), _PIECES)
        resident = ", ".join(f"{np.median(part):.1f}" for part in parts if len(part))
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(self.verdicts.items()))
        reasons = "\n".join(f"  - {count} {reason}" for reason, count in self.reasons.most_common())
        return (
            f"- {self.seconds:.0f} s, {self.parts} parts: {verdicts}\n{reasons}\n"
            f"- faults: {faults}\n"
            f"- numbers missing {len(self.holes)}, told twice {len(self.doubles)}\n"
            f"- resident in the {_PIECES} pieces of the last start, MB: {resident}; threads "
            f"{min(self.threads)} to {max(self.threads)}, open files {min(self.files)} to {max(self.files)}"
        )


# The service


class _Lines:
    """An output that writes a line for each part at once."""

    name, problem, dropped = "lines", "", 0

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, append=True)

    def __call__(self, event: StationEvent) -> None:
        """Write a part."""
        if isinstance(event, PartResult):
            row = {"number": event.number, "verdict": event.verdict, "reason": event.reason}
            self._file.write(json.dumps(row))

    def close(self, within_s: float) -> None:
        """Let the file go."""
        self._file.close()


class _Breakable:
    """A camera that is away while a file is there."""

    def __init__(self, source: LineSource, away: Path) -> None:
        self.name, self.width, self.height = source.name, source.width, source.height
        self.numbers, self.is_live, self._source, self._away = source.numbers, source.is_live, source, away

    def read(self, timeout_s: float) -> Block | None:
        """The next block, unless it is away."""
        if self._away.exists():
            raise SourceError(f"{self.name}: the cable is out; plug it in")
        return self._source.read(timeout_s)

    def close(self) -> None:
        """Give the source back."""
        self._source.close()


class _Failing:
    """A session whose next call fails when a file appears, which is then removed."""

    def __init__(self, session: Session, broken: Path) -> None:
        self.backend, self.provider, self._session, self._broken = (
            session.backend,
            session.provider,
            session,
            broken,
        )

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """The answers, or the failure."""
        if self._broken.exists():
            self._broken.unlink()
            raise BackendError("the device was lost; connect it")
        return self._session(images)

    def close(self) -> None:
        """Give it back."""
        self._session.close()


def serve(folder: Path) -> None:
    """Run the station of a folder as `acl serve` does, with the faults that the driver asks for."""
    real = time.time
    time.time = lambda: real() - 3600 * (folder / BACK).exists()

    def open_source(section: CameraSection) -> LineSource:
        away = folder / f"{AWAY}-{section.name}"
        if away.exists():
            raise SourceError(f"{section.name}: is not connected; connect it")
        return _Breakable(open_camera(section), away)

    def open_detector(section: StationSection) -> Detector:
        detector = open_detector_of(section)
        return Detector(detector.bundle, session=_Failing(detector.session, folder / BROKEN))

    with json_log(level="warning", repeat_s=60) as log, stop_signals() as stopped, reload_signal() as reload:
        station = Station(
            load_station(folder / "station.toml"),
            log=log,
            outputs=[_Lines(folder / "parts.jsonl")],
            open_source=open_source,
            open_detector=open_detector,
        )
        station.run(stopped, reload)


# The driver


def soak(
    bundle: Path, folder: Path, *, seconds: float, per_s: float, side: int, pause_s: float, seed: int = 0
) -> Report:
    """Run a station with faults, and see what it told.

    Args:
        bundle: What judges.
        folder: For the station; empty.
        seconds: How long.
        per_s: Parts a second of each of the two cameras.
        side: Of a frame, in pixels.
        pause_s: Between faults, on average.
        seed: Of the faults.
    """
    driver = _Driver(bundle, folder, per_s=per_s, side=side, seed=seed)
    try:
        driver.start()
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            kinds = (*FAULTS, *ENDS) if elapsed < seconds / 4 else FAULTS
            driver.fault(kinds)
            driver.sample_for(pause_s)
        driver.report.seconds = time.monotonic() - began
        driver.end(signal.SIGTERM)
    finally:
        driver.process.kill()
    driver.count()
    return driver.report


class _Driver:
    """Starts, breaks and watches the service."""

    def __init__(self, bundle: Path, folder: Path, *, per_s: float, side: int, seed: int) -> None:
        self.report, self._folder, self._rng = Report(), folder, random.Random(seed)
        cameras = "".join(
            f'[[camera]]\nname = "{name}"\ndeadline_ms = 2000\n'
            f'source = "drawn:{seed}?width={side}&height={side}&rate={round(per_s * side)}&loss=0.002"\n'
            for seed, name in enumerate(("left", "right"), start=1)
        )
        (folder / "station.toml").write_text(
            f'[station]\nbundle = "{bundle.resolve()}"\nmode = "part"\ndata = "data"\n{cameras}'
        )

    def start(self) -> None:
        """Start the service and wait for its first part."""
        before = self._told()
        with open(self._folder / "log", "a") as log:
            command = [sys.executable, "-m", "benchmarks.soak", "--serve", str(self._folder)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait(lambda: self._told() > before, "a part")
        for samples in (self.report.resident_mb, self.report.threads, self.report.files):
            samples.clear()

    def end(self, number: signal.Signals) -> None:
        """End the service; after SIGTERM with exit code 0."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        if code != (0 if number == signal.SIGTERM else -number):
            raise RuntimeError(f"the service ended with {code}; see {self._folder / 'log'}")

    def fault(self, kinds: tuple[str, ...]) -> None:
        """Make one fault of those."""
        kind = self._rng.choice(kinds)
        self.report.faults[kind] += 1
        if kind == "camera":
            self._for_a_while(f"{AWAY}-{self._rng.choice(('left', 'right'))}")
        elif kind == "network":
            (self._folder / BROKEN).touch()
        elif kind == "clock":
            self._for_a_while(BACK)
        elif kind == "reload":
            self.process.send_signal(signal.SIGHUP)
        elif kind == "hang":
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(self._rng.random())
            self.process.send_signal(signal.SIGCONT)
        else:
            self.end(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            self.start()

    def sample_for(self, pause_s: float) -> None:
        """Let it work, and look at it now and then."""
        until = time.monotonic() + pause_s * 2 * self._rng.random()
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the service ended with {self.process.returncode}; see {self._folder / 'log'}"
                )
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            self.report.resident_mb.append(int(fields["VmRSS"].split()[0]) / 1000)
            self.report.threads.append(int(fields["Threads"]))
            self.report.files.append(len(os.listdir(f"/proc/{self.process.pid}/fd")))
            time.sleep(min(1.0, max(0.05, pause_s / 4)))

    def count(self) -> None:
        """See what was told."""
        rows: list[dict[str, Any]] = [
            json.loads(line) for line in (self._folder / "parts.jsonl").read_text().splitlines()
        ]
        numbers = Counter(row["number"] for row in rows)
        self.report.parts = len(rows)
        self.report.verdicts.update(row["verdict"] for row in rows)
        self.report.reasons.update(row["reason"] for row in rows if row["reason"])
        self.report.holes = [number for number in range(1, max(numbers) + 1) if number not in numbers]
        self.report.doubles = [number for number, count in numbers.items() if count > 1]

    def _for_a_while(self, name: str) -> None:
        (self._folder / name).touch()
        time.sleep(self._rng.random())
        (self._folder / name).unlink()

    def _told(self) -> int:
        path = self._folder / "parts.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"the service did not give {what}; see {self._folder / 'log'}")
            time.sleep(0.01)


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 3600.0,
    per_s: Annotated[float, typer.Option(min=0.1, help="Parts a second of each of two cameras.")] = 5.0,
    side: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 128,
    pause_s: Annotated[float, typer.Option(min=0.1, help="Seconds between faults, on average.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    serves: Annotated[bool, typer.Option("--serve", hidden=True)] = False,
) -> None:
    """Soak a station; the exit code is 1 where a part was told twice or not at all."""
    if serves:
        serve(bundle)
        return
    typer.echo(machine_line(describe_machine()))
    with tempfile.TemporaryDirectory() as folder:
        report = soak(
            bundle, Path(folder), seconds=seconds, per_s=per_s, side=side, pause_s=pause_s, seed=seed
        )
    typer.echo(report.text())
    raise typer.Exit(1 if report.holes or report.doubles else 0)


if __name__ == "__main__":
    typer.run(main)

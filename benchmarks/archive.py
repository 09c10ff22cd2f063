"""An archive whose workers and driver are killed at random, and what `acl archive` costs beside the bare detector.

python -m benchmarks.archive killed BUNDLE --pictures 20000 --kills 10 [--ray ADDRESS --cluster PID]
python -m benchmarks.archive overhead BUNDLE FOLDER [--ray ADDRESS --cluster PID]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from acl_runtime.archive.begin import begin_run
from acl_runtime.archive.folder import open_folder
from acl_runtime.archive.pictures import iter_pictures
from acl_runtime.archive.plan import Shard
from acl_runtime.archive.record import Judging
from acl_runtime.archive.shard import ShardJudge
from acl_runtime.detection.detector import Detector
from acl_runtime.images.decode import load_frame
from benchmarks.machine import describe_machine, machine_line

ACL = [sys.executable, "-c", "import sys; from acl_runtime.cli import app; app(sys.argv[1:])", "archive"]
WORKERS = (b"spawn_main", b"ray::_Worker")  # in the command lines of a run's workers
ONE_THREAD = ("--threads", "1")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
FEW, MANY = 8, 328  # pictures of two runs, whose difference leaves out what a start costs


def descendants(process: int) -> Iterator[tuple[int, bytes]]:
    """Processes below one, with their command lines."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it ended meanwhile
            for child in map(int, path.read_text().split()):
                yield child, Path(f"/proc/{child}/cmdline").read_bytes()
                yield from descendants(child)


def draw(folder: Path, count: int) -> None:
    """Small drawn pictures, 1 in 100 unreadable."""
    folder.mkdir()
    for number in range(count):
        blocks = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        _, data = cv2.imencode(".png", np.repeat(np.repeat(blocks, 10, 0), 10, 1))
        (folder / f"{number:06d}.png").write_bytes(b"no picture" if number % 100 == 50 else data.tobytes())


def digest(folder: Path) -> tuple[int, str]:
    """How many rows there are, and a digest of all, in order."""
    found, rows = hashlib.sha256(), 0
    for path in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(path)
        rows += len(table)
        found.update(repr(table.to_pylist()).encode())
    return rows, found.hexdigest()


def run_killed(
    command: list[str], folder: Path, kills: int, seed: int, cluster: int | None
) -> tuple[int, int]:
    """Run to the end, killing a worker or the driver again and again; how many of each were killed."""
    chance, workers, drivers = random.Random(seed), 0, 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        begun = len(list(folder.glob("part-*")))
        while process.poll() is None and workers + drivers < kills:
            time.sleep(chance.uniform(0.3, 4.0))
            if len(list(folder.glob("part-*"))) < begun + 3:
                continue  # not at work yet
            found = [
                child
                for child, words in descendants(cluster or process.pid)
                if any(name in words for name in WORKERS)
            ]
            if found and chance.random() < 0.6:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(found), signal.SIGKILL)
                    workers += 1
            else:
                process.kill()
                drivers += 1
        if process.wait() == 0:
            return workers, drivers
        if process.returncode > 0:
            raise RuntimeError(f"the command ended with {process.returncode}")


def killed(
    bundle: str, count: int, kills: int, ray: list[str], shard: int, seed: int, cluster: int | None
) -> None:
    """Compare the rows of a run that was killed with those of one that was not."""
    print(f"{machine_line(describe_machine())}\n")
    print("| executor | pictures | killed workers, drivers | rows | equal | left over | s |")
    print("| --- | --: | --: | --: | --- | --: | --: |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        pictures, whole = Path(scratch, "in"), Path(scratch, "whole")
        draw(pictures, count)
        command = [*ACL, bundle, str(pictures), "--shard", str(shard), *ONE_THREAD]
        started = time.monotonic()
        subprocess.run([*command, "-o", str(whole)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        print(f"| processes | {count} | 0, 0 | {digest(whole)[0]} | | 0 | {seconds:.0f} |", flush=True)
        broken = Path(scratch, "broken")
        started = time.monotonic()
        workers, drivers = run_killed([*command, "-o", str(broken), *ray], broken, kills, seed, cluster)
        seconds = time.monotonic() - started
        found = digest(broken)
        left = [path for path in broken.iterdir() if path.name.startswith(".") and path.name != ".lock"]
        equal = "yes" if found == digest(whole) else "NO"
        row = ("Ray" if ray else "processes", count, f"{workers}, {drivers}", found[0], equal, len(left))
        print(f"| {' | '.join(map(str, row))} | {seconds:.0f} |")


def bare(detector: Detector, paths: list[str], batch: int) -> None:
    """The loop that a program would write."""
    for first in range(0, len(paths), batch):
        detector.detect([load_frame(path) for path in paths[first : first + batch]])


def cpu_of(call: object, *arguments: object) -> float:
    """Seconds of the processor, of all threads."""
    assert callable(call)
    started = time.process_time()
    call(*arguments)
    return time.process_time() - started


def cpu_of_tree(command: list[str], cluster: int | None) -> float:
    """Seconds of the processor of a command, of a cluster meanwhile, and of all below them, as last seen of each."""
    began = _cpu_below(cluster) if cluster else {}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used: dict[int, float] = {}
    while process.poll() is None:
        used |= _cpu_below(process.pid) | (_cpu_below(cluster) if cluster else {})
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return sum(seconds - began.get(child, 0) for child, seconds in used.items())


def _cpu_below(process: int) -> dict[int, float]:
    used: dict[int, float] = {}
    for child in (process, *(each for each, _ in descendants(process))):
        with suppress(OSError):
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            used[child] = (int(fields[11]) + int(fields[12])) * TICK_S
    return used


def overhead(bundle: str, folder: str, rounds: int, ray: list[str], cluster: int | None) -> None:
    """CPU time per picture: a bare loop over the detector, a shard in this process, and the whole command."""
    paths = list(islice(iter_pictures([folder]), MANY))
    judging = Judging(
        tiling=None,
        threshold=None,
        fast_resize=False,
        bits=None,
        exif=False,
        max_megapixels=200.0,
        backend="auto",
        provider="auto",
        batch=8,
    )
    with tempfile.TemporaryDirectory() as scratch, Detector(bundle, threads=1) as detector:
        place = open_folder(f"{scratch}/out")
        with place.held():
            run = begin_run(
                place,
                Path(bundle),
                tuple(paths),
                judging=judging,
                maps=None,
                shard_size=len(paths),
                again=False,
            )
        judge = ShardJudge(run, detector=detector)
        shard = Shard(0, tuple(map(os.fsencode, paths)))
        bare(detector, paths[:8], 8)  # warm
        times = np.array(
            [(cpu_of(bare, detector, paths, 8), cpu_of(judge, shard)) for _ in range(rounds)]
        ) / len(paths)
        loop, in_shard = 1000 * np.median(times, axis=0)
        executors = {"processes": list[str]()} | ({"Ray": ray} if ray else {})
        costs = {
            name: [
                cpu_of_tree(
                    [*ACL, bundle, *paths[:count], "-o", f"{scratch}/{name}{count}", *options, *ONE_THREAD],
                    cluster if options else None,
                )
                for count in (FEW, MANY)
            ]
            for name, options in executors.items()
        }
    print(f"{machine_line(describe_machine())}\n")
    print("| CPU ms a picture | | beside the loop |\n| --- | --: | --: |")
    print(f"| bare loop, batch 8 | {loop:.1f} | |")
    print(f"| a shard | {in_shard:.1f} | {100 * (in_shard / loop - 1):+.1f} % |")
    for name, (few, many) in costs.items():
        whole = 1000 * (many - few) / (MANY - FEW)
        print(
            f"| each further picture of the command, {name} | {whole:.1f} | {100 * (whole / loop - 1):+.1f} % |"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("killed", "overhead"):
        command = commands.add_parser(name)
        command.add_argument("bundle")
        command.add_argument("--ray", metavar="ADDRESS")
        command.add_argument("--cluster", type=int, help="process below which the workers of --ray are")
        if name == "killed":
            command.add_argument("--pictures", type=int, default=20_000)
            command.add_argument("--kills", type=int, default=10)
            command.add_argument("--shard", type=int, default=100)
            command.add_argument("--seed", type=int, default=1)
        else:
            command.add_argument("folder")
            command.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ray = ["--ray", given.ray] if given.ray else []
    if given.command == "killed":
        killed(given.bundle, given.pictures, given.kills, ray, given.shard, given.seed, given.cluster)
    else:
        overhead(given.bundle, given.folder, given.rounds, ray, given.cluster)


if __name__ == "__main__":
    main()

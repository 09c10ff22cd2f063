"""A program that writes evidence in processes that it kills, and prints the numbers that they reported as written."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from station_events import part, wait_until

from acl_runtime.outputs.evidence.store import EvidenceStore, Options

KILLS = 20


def write_for_ever(folder: Path, first: int, pipe: int) -> None:
    """Write parts, and report each number once the store has it."""
    store = EvidenceStore(Options(folder=folder, keep_free_gb=0.0, sample_every=3))
    for number in range(first, first + 1_000_000):
        store(part(number, ("ok", "ng", "not judged")[number % 3]))
        if number % 4 == 0:
            wait_until(lambda: not store.waiting)
            os.write(pipe, b"%d\n" % number)


def read_for(pipe: int, seconds: float) -> bytes:
    """What comes within so long."""
    found, until = b"", time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            found += os.read(pipe, 65536)
    return found


def main(folder: Path) -> None:
    """Kill again and again."""
    rng, reported, first = random.Random(3), list[int](), 1
    for _ in range(KILLS):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            write_for_ever(folder, first, writing)
        os.close(writing)
        select.select([reading], [], [], 20)
        found = read_for(reading, rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(reading, 65536):
            found += more
        os.close(reading)
        reported += [int(line) for line in found.split()]
        first = reported[-1] + 1000  # as the station's numbers do after a kill at the worst
    print(json.dumps(reported))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

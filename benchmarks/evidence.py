"""The evidence store: its queries over a million records, commits, and the thread that judges.

`python -m benchmarks.evidence`
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from acl_runtime.outputs.evidence.index import INDEX, Index
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.record import Evidence
from acl_runtime.outputs.evidence.store import EvidenceStore, Options
from benchmarks.machine import describe_machine, machine_line
from benchmarks.outputs import make_part, time_calls
from benchmarks.tables import markdown_table

BATCH = 10_000
TURNS = 50


def draw_records(rows: int) -> Iterator[Evidence]:
    """Parts of a long shift: 2 % NG with three regions, a night of parts that were not judged, some reviews."""
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 20, rows).tolist()
    region = {"x": 100, "y": 200, "width": 30, "height": 40, "area": 900, "peak": 0.8123456}
    night = range(rows // 2, rows // 2 + rows // 10)
    for index, score in enumerate(scores):
        is_lost, is_ng = index in night, index % 50 == 0
        yield Evidence(
            number=index + 1,
            time=1.8e9 + index / 10,
            camera="top",
            kind="part",
            part_id=f"P{index:08d}",
            verdict="not judged" if is_lost else "ng" if is_ng else "ok",
            reason="no frame came" if is_lost else "",
            score=None if is_lost else score,
            peak=None if is_lost else score,
            threshold=0.5,
            peak_threshold=0.6,
            regions=(region,) * 3 if is_ng else (),
            bundle="abcd1234" if index >= rows * 9 // 20 else "before12",
            latency_ms=20.0,
            picture="png" if is_ng and not is_lost else "",
            size=500_000 if is_ng and not is_lost else 0,
            review=("good", "defect", "unsure")[index % 3] if is_ng and index < rows // 2 else "",
        )


def fill(folder: Path, rows: int) -> float:
    """Make an index; rows a second."""
    began = time.perf_counter()
    with closing(Index(folder)) as index:
        for turn, evidence in enumerate(draw_records(rows)):
            if turn % BATCH == 0:
                index.begin()
            index.add(evidence)
            if turn % BATCH == BATCH - 1 or turn == rows - 1:
                index.commit()
        index.complete()
    return rows / (time.perf_counter() - began)


def queries(reader: EvidenceReader, rows: int) -> dict[str, Callable[[], object]]:
    """What the page and the command ask."""
    middle = rows // 2
    return {
        "newest 100": reader.records,
        "100 behind a number": lambda: reader.records(after=middle),
        "100 before a number": lambda: reader.records(before=middle),
        "newest NG": lambda: reader.records(verdict="ng"),
        "newest NG before a number": lambda: reader.records(verdict="ng", before=middle),
        "newest rejects": lambda: reader.records(verdict="rejected"),
        "newest rejects nobody reviewed": lambda: reader.records(verdict="rejected", review=""),
        "newest NG nobody reviewed": lambda: reader.records(verdict="ng", review=""),
        "NG nobody reviewed, the oldest": lambda: reader.records(verdict="ng", review="", after=0),
        "OK nobody reviewed, the oldest": lambda: reader.records(verdict="ok", review="", after=0),
        "rejects behind a number": lambda: reader.records(verdict="rejected", after=middle),
        "not judged": lambda: reader.records(verdict="not judged"),
        "reviewed as good": lambda: reader.records(review="good"),
        "reviewed as defect, OK": lambda: reader.records(review="defect", verdict="ok"),
        "unsure, from the oldest": lambda: reader.records(review="unsure", after=0),
        "a part": lambda: reader.records(part_id=f"P{middle:08d}"),
        "a part that is not there": lambda: reader.records(part_id="none"),
        "a part, NG": lambda: reader.records(part_id=f"P{middle:08d}", verdict="ng"),
        "a record": lambda: reader.record(middle),
        "path of a picture": lambda: reader.picture_path(middle),
        "counts": reader.counts,
        "contradictions": reader.contradictions,
    }


def time_queries(folder: Path, rows: int) -> list[list[str]]:
    """Rows for the table: median and worst of `TURNS` by the clock, and the worst of the processor, in ms."""
    found = []
    for name, ask in queries(EvidenceReader(folder), rows).items():
        took = np.zeros((TURNS, 2))
        for turn in range(TURNS):
            began, worked = time.perf_counter(), time.thread_time()
            ask()
            took[turn] = time.perf_counter() - began, time.thread_time() - worked
        (median, _), (worst, worst_work) = 1e3 * np.median(took, axis=0), 1e3 * took.max(axis=0)
        found.append([name, f"{median:.1f}", f"{worst:.1f}", f"{worst_work:.1f}"])
    return found


def time_writing(folder: Path, parts: int) -> tuple[float, int]:
    """Parts a second that the disk takes, one of ten NG with a picture of 1024 × 1024; and what was given up."""
    options = Options(folder=folder, keep_free_gb=0.1, sample_every=0, most_waiting=1000)
    store = EvidenceStore(options)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    anomaly_map = np.zeros((518, 518), np.float32)
    began = time.perf_counter()
    for number in range(1, parts + 1):
        store(make_part(number, picture, anomaly_map))
    while store.waiting:
        time.sleep(0.01)
    took = time.perf_counter() - began
    store.close(1.0)
    return parts / took, store.dropped


def main(
    rows: Annotated[int, typer.Option(help="Records of the index.")] = 1_000_000,
    calls: Annotated[int, typer.Option(help="Verdicts that the store is told.")] = 2000,
) -> None:
    """Print the figures."""
    logging.getLogger("acl").setLevel(logging.CRITICAL)
    print(machine_line(describe_machine()), end="\n\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed = fill(folder, rows)
        size = (folder / INDEX).stat().st_size / 1e6
        print(f"{rows} records: {size:.0f} MB; made at {speed:.0f} a second\n")
        print(
            markdown_table(["query", "p50 ms", "worst ms", "worst CPU ms"], time_queries(folder, rows)),
            end="\n\n",
        )
    with tempfile.TemporaryDirectory() as name:
        speed, dropped = time_writing(Path(name), calls // 4)
        print(
            f"Written: {speed:.0f} parts a second, one of ten with a picture of 1024 × 1024; given up: {dropped}\n"
        )
    with tempfile.TemporaryDirectory() as name:
        store = EvidenceStore(Options(folder=Path(name), keep_free_gb=0.1))
        calls_us = time_calls(store, calls)
        store.close(5.0)
    (p50, cpu50), (p99, cpu99) = (np.percentile(calls_us, share, axis=0) for share in (50, 99))
    print(
        f"A call: by the clock {p50:.0f} us, 99 of 100 within {p99:.0f}; of the processor {cpu50:.0f} and {cpu99:.0f}"
    )


if __name__ == "__main__":
    typer.run(main)

"""How soon a watch that is started again judges a new file. `python -m benchmarks.watch BUNDLE`"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table

COMMAND = "import sys; from acl_runtime.cli import app; app(sys.argv[1:])"
NEW = "new.png"


class Start(NamedTuple):
    """One start of `acl watch`, from its process to the verdict of the file that came meanwhile."""

    seconds: float
    busy_s: float  # of its processor time: what counts where others keep the machine busy
    peak_mb: float


def draw_folder(folder: Path, count: int, *, per_folder: int) -> list[tuple[str, int, int]]:
    """Make empty files named as pictures; path, size and mtime of each."""
    files = []
    for i in range(count):
        inside = folder / f"{i // per_folder:04d}"
        if i % per_folder == 0:
            inside.mkdir()
        path = inside / f"part_{i:07d}.png"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        files.append((f"{inside.name}/{path.name}", 0, path.stat().st_mtime_ns))
    return files


def write_lines(path: Path, files: list[tuple[str, int, int]]) -> None:
    """Lines as they were before there was a memory beside them, of some 400 bytes."""
    regions = [{"x": 1, "y": 2, "width": 30, "height": 40, "area": 1000, "peak": 0.75}]
    verdict = {"index": 0, "score": 0.123456789, "is_anomalous": False, "threshold": 0.5, "regions": regions}
    times = {"latency_ms": {"preprocess": 1.234, "inference": 5.678, "postprocess": 0.123}, "unusual": []}
    with path.open("w", encoding="ascii") as file:
        for source, size, mtime_ns in files:
            file.write(
                json.dumps({"source": source, **verdict, **times, "size": size, "mtime_ns": mtime_ns}) + "\n"
            )


def start(arguments: list[str], folder: Path, picture: bytes, number: int) -> Start:
    """Let a file arrive, start a watch, wait for the file's verdict, stop the watch."""
    (folder / f"{number}_{NEW}").write_bytes(picture)
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the names of the columns
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        if NEW.encode() not in line:
            raise RuntimeError(f"another file was judged first: {line!r}")
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        ticks = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        process.terminate()
    peak_kb = next(row.split()[1] for row in status.splitlines() if row.startswith("VmHWM"))
    busy_s = sum(map(int, ticks[11:13])) / os.sysconf("SC_CLK_TCK")  # user and system
    return Start(seconds, busy_s, int(peak_kb) / 1000)


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle that starts quickly.")],
    files: Annotated[int, typer.Option(help="Files that were judged before.")] = 100_000,
    per_folder: Annotated[int, typer.Option(help="Files in a folder.")] = 10_000,
    starts: Annotated[int, typer.Option(help="Starts, one after the other.")] = 4,
    gone: Annotated[bool, typer.Option("--gone", help="The files are in the lines only.")] = False,
    old: Annotated[bool, typer.Option("--old", help="Measure acl run --watch, of an older commit.")] = False,
) -> None:
    """Print a table; the first start reads lines without a memory beside them."""
    import cv2
    import numpy as np

    picture = bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    with tempfile.TemporaryDirectory() as temporary:
        folder, lines = Path(temporary) / "in", Path(temporary) / "verdicts.jsonl"
        folder.mkdir()
        if gone:
            drawn = [(f"{i // per_folder:04d}/part_{i:07d}.png", 0, i) for i in range(files)]
        else:
            drawn = draw_folder(folder, files, per_folder=per_folder)
        write_lines(lines, drawn)
        command = ["run", str(bundle), "--watch"] if old else ["watch", str(bundle)]
        arguments = [*command, str(folder), "--json", str(lines)]
        rows = [start(arguments, folder, picture, number) for number in range(starts)]
    typer.echo(machine_line(describe_machine()))
    table = [
        [str(number), f"{row.seconds:.1f}", f"{row.busy_s:.1f}", f"{row.peak_mb:.0f}"]
        for number, row in enumerate(rows, 1)
    ]
    header = ["start", "to the first verdict, s", "of these computing, s", "peak memory, MB"]
    typer.echo(markdown_table(header, table))


if __name__ == "__main__":
    typer.run(main)

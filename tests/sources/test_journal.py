"""The lines of a watched folder and the memory beside them."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from watching import judged, lines

from acl_runtime.files.errors import InputError
from acl_runtime.sources import journal as journal_module
from acl_runtime.sources.journal import open_journal

OLD = Path(__file__).parent.parent / "samples" / "journals" / "without_memory.jsonl"
WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from acl_runtime.sources import journal as module
from acl_runtime.sources.journal import open_journal

module._LINES_TO_READ = 4
print("begins", flush=True)
with open_journal(Path(sys.argv[1]), rotate_bytes=400) as journal:
    for i in range(int(sys.argv[2])):
        if journal.known.version(f"{i}.png") is None:
            journal.append([{"source": f"in/{i}.png", "path": f"{i}.png", "size": 1, "mtime_ns": i}])
"""


def record(name: str, size: int = 1, mtime_ns: int = 2) -> dict[str, Any]:
    return {"source": f"in/{name}", "score": 0.5, "path": name, "size": size, "mtime_ns": mtime_ns}


def write(path: Path, *names: str) -> None:
    with open_journal(path) as journal:
        for name in names:
            journal.append([record(name)])


def known(path: Path) -> list[str]:
    """What a restart knows."""
    with open_journal(path) as journal:
        return sorted(journal.known.paths())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl.memory"


def test_a_journal_of_the_time_before_memories_is_read_once_and_kept(path: Path, memory: Path) -> None:
    shutil.copy(OLD, path)
    before = path.read_bytes()
    for _ in range(2):
        with open_journal(path) as journal:
            for line in lines(OLD):
                assert journal.known.version(line["source"]) == f"{line['size']} {line['mtime_ns']}"
            assert len(journal.known) == 8
        assert path.read_bytes() == before
        assert memory.exists()
    path.write_bytes(b"x" * len(before))  # would be refused if it were read
    with pytest.raises(InputError, match="line 1 is no result"):
        known(path)
    path.write_bytes(b"x" * (len(before) - 4096) + before[-4096:])
    assert len(known(path)) == 8


def test_lines_after_the_memory_are_read(path: Path, memory: Path) -> None:
    write(path, "a.png")
    old = memory.read_bytes()
    write(path, "b.png", "deep/c.png")
    memory.write_bytes(old)
    assert known(path) == ["a.png", "b.png", "deep/c.png"]


def test_the_memory_is_written_again_before_a_restart_takes_long(
    path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_LINES_TO_READ", 5)
    with open_journal(path) as journal:
        for i in range(18):
            journal.append([record(f"{i}.png")])
        held = json.loads(memory.read_bytes().splitlines()[1])
    assert len(held["known"][""]) == 16  # after the first, and every five


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path: Path, memory: Path) -> None:
    write(path, "a.png", "b.png")
    memory.unlink()
    whole = path.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    torn = [whole[:cut] for cut in range(len(first), len(whole))]
    zeros = [whole[:cut] + bytes(len(whole) - cut) for cut in range(len(first), len(whole))]
    for content in (*torn, *zeros, first + bytes(40) + b"\n"):
        path.write_bytes(content)
        assert known(path) == ["a.png"]
        assert path.read_bytes() == first


def test_a_file_that_is_no_journal_is_refused_and_left_alone(path: Path) -> None:
    line = b'{"source": "a.png", "size": 1, "mtime_ns": 2}\n'
    for content, number in (
        (b"my notes", 1),
        (line + b"my notes\n", 2),
        (line + b"\n" + line, 2),
        (line + b'{"source": "b.png", "score": 0.5}\n' + line, 2),  # as acl run writes
        (line + b'{"source": "b.png", "size": "1", "mtime_ns": 2}\n', 2),
        (line + b'{"source": "b.png", "path": 1, "size": 1, "mtime_ns": 2}\n', 2),
        (line + b"[]\n", 2),
        (line + b"\xff\xfe\n", 2),
        (line + bytes(9) + b"\n" + line, 2),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"results.jsonl: line {number} is no"):
            known(path)
        assert path.read_bytes() == content


def test_lines_that_are_moved_away_or_deleted_begin_anew(path: Path, tmp_path: Path) -> None:
    with open_journal(path) as journal:
        journal.append([record("a.png")])
        os.rename(path, tmp_path / "results.jsonl.1")
        journal.append([record("b.png")])
        path.unlink()
        journal.append([record("c.png")])
    assert judged(tmp_path / "results.jsonl.1") == ["a.png"]
    assert judged(path) == ["c.png"]
    path.unlink()
    assert known(path) == ["a.png", "b.png", "c.png"]  # after a stop, too


def test_lines_that_are_moved_away_before_a_stop_are_known(path: Path, tmp_path: Path) -> None:
    with open_journal(path) as journal:
        journal.append([record("a.png")])
        os.rename(path, tmp_path / "results.jsonl.1")
        journal.keep()
    assert known(path) == ["a.png"]
    assert path.read_bytes() == b""


def test_lines_that_are_truncated_go_on(path: Path) -> None:
    with open_journal(path) as journal:
        journal.append([record("a.png")])
        journal.append([record("b.png")])
        os.truncate(path, 0)
        journal.append([record("c.png")])
    assert judged(path) == ["c.png"]
    assert known(path) == ["a.png", "b.png", "c.png"]


def test_lines_that_have_grown_too_long_are_moved_to_the_next_number(path: Path, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl.000007").write_text("of another time\n")
    with open_journal(path, rotate_bytes=2 * len(json.dumps(record("0.png")))) as journal:
        for i in range(7):
            journal.append([record(f"{i}.png")])
    parts = [tmp_path / f"results.jsonl.{number:06d}" for number in (8, 9, 10)]
    assert [judged(part) for part in (*parts, path)] == [
        ["0.png", "1.png"],
        ["2.png", "3.png"],
        ["4.png", "5.png"],
        ["6.png"],
    ]
    assert known(path) == [f"{i}.png" for i in range(7)]


@pytest.mark.parametrize("moves", [True, False], ids=["moved away too", "killed alone"])
def test_kill_9_at_twenty_points_loses_nothing_and_repeats_nothing(
    path: Path, tmp_path: Path, moves: bool
) -> None:
    chance, count = random.Random(2), 5000

    def move() -> None:
        with suppress(FileNotFoundError):  # the journal may move it itself in this moment
            if moves and path.stat().st_size:
                os.rename(path, tmp_path / f"results.jsonl-{time.monotonic_ns()}")

    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.3))
            move()
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
        if chance.random() < 0.5:
            move()
    with open_journal(path) as journal:
        remembered = sorted(journal.known.paths())
    written = [
        name for part in tmp_path.glob("results.jsonl*") if part.suffix != ".memory" for name in judged(part)
    ]
    assert len(written) > 20
    assert sorted(written) == remembered == sorted(f"{i}.png" for i in range(len(written)))


def test_a_damaged_memory_is_refused_in_one_sentence(path: Path, memory: Path) -> None:
    write(path, "a.png", "b.png")
    good = memory.read_bytes()
    chance = random.Random(3)
    for content in damaged(good, chance):
        memory.write_bytes(content)
        with pytest.raises(InputError, match=r"results.jsonl.memory: .*delete it, and only the lines"):
            known(path)
    memory.write_bytes(good.replace(b'"format_version": 1', b'"format_version": 9'))
    with pytest.raises(InputError, match="is of format version 9, newer than 1"):
        known(path)
    memory.unlink()
    assert known(path) == ["a.png", "b.png"]


def damaged(good: bytes, chance: random.Random) -> Iterator[bytes]:
    yield b""
    yield b"{}\n"
    for _ in range(40):
        yield good[: chance.randrange(len(good))]
    start = good.index(b"\n") + 1
    for _ in range(40):
        place = chance.randrange(start, len(good))
        yield good[:place] + bytes([good[place] ^ 1 << chance.randrange(8)]) + good[place + 1 :]


def test_a_journal_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is not a regular file"):
        known(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a regular file"):
        known(tmp_path)


def test_a_journal_that_is_in_use_is_refused_and_left_alone(path: Path) -> None:
    with open_journal(path) as journal:
        journal.append([record("a.png")])
        with pytest.raises(
            InputError, match="results.jsonl: is in use by process [0-9]+ .*; stop it, or name another"
        ):
            known(path)
        journal.append([record("b.png")])
    assert known(path) == ["a.png", "b.png"]


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_journal(path) as opened:
        opened.append([record("a.png")])
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))  # the next fits in part
        try:
            with pytest.raises(OSError, match=str(path)):
                opened.append([record("b.png")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        opened.append([record("b.png")])
    assert judged(path) == known(path) == ["a.png", "b.png"]


def test_a_disk_too_full_for_the_memory_loses_no_line(path: Path, memory: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    names = [f"{'long' * 20}{i}.png" for i in range(9)]
    with open_journal(path) as opened:
        for name in names:
            opened.append([record(name)])
        before = memory.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                opened.keep()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert memory.read_bytes() == before
    assert known(path) == sorted(names)


def test_names_of_any_kind_are_remembered(path: Path) -> None:
    names = [
        "with  spaces .png",
        "Größe 部品.PNG",
        "two\nlines.png",
        'quote".png',
        "\udcff\udc80.png",
        "back\\.png",
    ]
    write(path, *names)
    for _ in range(2):
        assert known(path) == sorted(names)

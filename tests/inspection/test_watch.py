"""A watched folder: complete files only, each judged once, whatever is done to the files, the folder and us."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from PIL import Image
from typer.testing import CliRunner

from acl_runtime.cli import app
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.images.frame import BadFrame
from acl_runtime.inspection.run import inspect
from acl_runtime.inspection.watch import Pace, check_journal, watch
from acl_runtime.outputs.pictures import Maps
from acl_runtime.outputs.text import HEADER
from acl_runtime.sources import journal as journal_module
from acl_runtime.sources.arrivals import Arrivals, is_whole, scan
from acl_runtime.sources.files import Source, iter_frames
from acl_runtime.sources.journal import Version, open_journal

PACE = Pace(poll=0.02, settle=0.1, patience=0.6)
KEYS = {"source", "index", "score", "is_anomalous", "regions", "size", "mtime_ns"}
WATCH = """
import sys
from functools import partial
from pathlib import Path
from acl_runtime.detection.detector import Detector
from acl_runtime.sources.journal import open_journal
from acl_runtime.inspection.run import inspect
from acl_runtime.inspection.watch import Pace, stop_signals, watch

bundle, folder, journal = map(Path, sys.argv[1:])
look = partial(inspect, detector=Detector(bundle), batch=2)
with open_journal(journal) as lines, stop_signals() as stopped:
    print("ready", flush=True)
    pace = Pace(poll=0.02, settle=0.1, patience=0.6)
    for result in watch(folder, lines, look, pace=pace, batch=2, note=print, stopped=stopped):
        print("judged", flush=True)
print("stopped", flush=True)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("watch") / "bundle")


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector(bundle)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.jsonl"


def encoded(suffix: str = ".png", seed: int = 0) -> bytes:
    return bytes(cv2.imencode(suffix, drawn_frame(seed))[1].tobytes())


def put(path: Path | str, data: bytes | None = None) -> None:
    """A file that appears at once and complete."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    hidden = os.path.join(os.path.dirname(path), f".{random.random()}")
    with open(hidden, "wb") as file:
        file.write(encoded() if data is None else data)
    os.replace(hidden, path)


def lines(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def sources(journal: Path) -> list[str]:
    return [line["source"] for line in lines(journal)]


class Watching:
    """A watch that goes on beside the test until the test leaves the block."""

    def __init__(
        self,
        folder: Path,
        journal: Path,
        inspect: Callable[[Sequence[Source]], Iterable[Result]],
        *,
        batch: int = 1,
    ) -> None:
        self.notes: list[str] = []
        self.results: list[Result] = []
        self._error: BaseException | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, args=(folder, journal, inspect, batch))

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait_for(self, count: int, *, seconds: float = 10) -> None:
        """Until so many are judged, and a little longer, so that one too many would be seen."""
        self.wait_until(lambda: len(self.results) >= count, seconds=seconds)
        time.sleep(3 * PACE.settle)
        assert len(self.results) == count

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition() and self._error is None:
            assert time.monotonic() < end, (len(self.results), self.notes)
            time.sleep(0.01)

    def _run(self, folder: Path, journal: Path, inspect: Any, batch: int) -> None:
        settings: Any = {"pace": PACE, "batch": batch, "note": self.notes.append}
        try:
            with open_journal(journal) as opened:
                for result in watch(folder, opened, inspect, stopped=lambda: self._stop, **settings):
                    self.results.append(result)
        except BaseException as error:  # raised again in the test
            self._error = error


@pytest.fixture
def watching(folder: Path, journal: Path, detector: Detector) -> Callable[[], Watching]:
    return lambda: Watching(folder, journal, partial(inspect, detector=detector))


def test_what_is_there_and_what_arrives_is_judged_with_the_ordinary_verdict(
    folder: Path, journal: Path, detector: Detector, watching: Callable[[], Watching]
) -> None:
    put(folder / "deep" / "er" / "old.png", encoded(seed=1))
    with watching() as running:
        running.wait_for(1)
        put(folder / "new.jpg", encoded(".jpg"))
        running.wait_for(2)
    first, second = lines(journal)
    assert (first["source"], second["source"]) == ("deep/er/old.png", "new.jpg")
    assert first.keys() >= KEYS
    assert next(iter(first)) == "source"
    assert first["score"] == pytest.approx(detector(drawn_frame(1)).score, abs=1e-6)
    status = (folder / "new.jpg").stat()
    assert (second["size"], second["mtime_ns"]) == (status.st_size, status.st_mtime_ns)


def test_a_restart_judges_only_what_is_new(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    put(folder / "a.png")
    with watching() as running:
        running.wait_for(1)
    put(folder / "b.png")
    with watching() as running:
        running.wait_for(1)
    with watching() as running:
        running.wait_for(0)
    assert sources(journal) == ["a.png", "b.png"]


def test_kill_9_at_any_moment_loses_nothing_and_repeats_nothing(
    bundle: Path, folder: Path, journal: Path
) -> None:
    names = [f"{i % 3}/part {i}.png" for i in range(120)]
    chance = random.Random(1)

    def deliver() -> None:
        for i, name in enumerate(names):
            put(folder / name, encoded(seed=i % 7))
            time.sleep(chance.uniform(0, 0.06))

    delivery = threading.Thread(target=deliver)
    delivery.start()
    for _ in range(6):
        with Started(bundle, folder, journal) as process:
            time.sleep(chance.uniform(0.05, 0.5))
            process.kill()
    delivery.join()
    before = len(journal.read_bytes().splitlines())
    with Started(bundle, folder, journal) as process:
        wait_for(lambda: journal.read_bytes().count(b"\n") >= len(names))
        time.sleep(0.3)
        process.terminate()
    assert 0 < before <= len(names)
    assert Counter(sources(journal)) == Counter(names)


def test_a_stop_finishes_the_frame_in_hand(bundle: Path, folder: Path, journal: Path) -> None:
    for i in range(300):
        put(folder / f"{i}.png")
    for number, last in ((signal.SIGTERM, "stopped"), (signal.SIGINT, "judged")):
        with Started(bundle, folder, journal) as process:
            assert process.stdout is not None
            before = len(lines(journal))
            assert process.stdout.readline() == "judged\n"
            process.send_signal(number)
            printed = process.stdout.read().splitlines()
            code = process.wait()
        assert printed[-1] == last
        assert code == (0 if number == signal.SIGTERM else -signal.SIGINT)  # Python's own after Ctrl-C
        assert len(lines(journal)) - before == printed.count("judged") + 1


def test_files_come_in_the_order_of_arrival(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    for name, mtime in (("10.png", 5), ("9.png", 5), ("a/1.png", 5), ("late.png", 2**33), ("early.png", 1)):
        put(folder / name)
        os.utime(folder / name, (mtime, mtime))  # a clock far off, past or future, does no harm
    with watching() as running:
        running.wait_for(5)
    assert sources(journal) == ["early.png", "a/1.png", "9.png", "10.png", "late.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".ppm", ".webp"])
@pytest.mark.parametrize("missing", ["half", "end"])
def test_a_file_that_is_still_copied_waits_for_its_end(
    folder: Path, journal: Path, watching: Callable[[], Watching], suffix: str, missing: str
) -> None:
    data = encoded(suffix)
    cut = len(data) // 2 if missing == "half" else len(data) - 3
    with watching() as running, (folder / f"a{suffix}").open("wb", buffering=0) as file:
        file.write(data[:cut])
        time.sleep(2.5 * PACE.settle)  # a network that hangs
        assert running.results == []
        file.write(data[cut:])
        running.wait_for(1)
    assert isinstance(running.results[0], Inspected)
    assert [line["size"] for line in lines(journal)] == [len(data)]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_space_that_is_reserved_is_no_picture_yet(
    folder: Path, watching: Callable[[], Watching], suffix: str
) -> None:
    data = encoded(suffix)
    with watching() as running, (folder / f"a{suffix}").open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        file.truncate(len(data))  # its final size, the rest zeros
        time.sleep(2.5 * PACE.settle)
        assert running.results == []
        file.write(data[len(data) // 2 :])
        running.wait_for(1)
    assert isinstance(running.results[0], Inspected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_no_cut_passes_for_whole(folder: Path, suffix: str) -> None:
    data, path = encoded(suffix), folder / f"a{suffix}"
    cuts = [*range(7, len(data), 97), *range(len(data) - 30, len(data))]
    for cut in cuts:
        path.write_bytes(data[:cut])
        whole = is_whole(str(path))
        assert not whole, cut
    path.write_bytes(data + b"maker notes" * 9)
    assert is_whole(str(path))


def test_a_bad_file_is_reported_when_patience_ends_and_judged_when_mended(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    with watching() as running:
        begun = time.monotonic()
        put(folder / "a.png", encoded()[:-100])
        put(folder / "b.png", b"")
        running.wait_for(2)
        assert time.monotonic() - begun > PACE.patience
        put(folder / "a.png")
        running.wait_for(3)
    with watching() as running:
        running.wait_for(0)
    cut, empty, mended = lines(journal)
    assert "cannot be decoded" in cut["error"]
    assert "is empty" in empty["error"]
    assert (mended["source"], "score" in mended) == ("a.png", True)


def test_names_of_any_bytes_are_held_and_known_again(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    names = [
        "with  spaces .png",
        "Größe 部品.PNG",
        "two\nlines.png",
        'quote".png',
        "\udcff\udc80.png",
        "back\\.png",
    ]
    for name in names:
        put(os.path.join(folder, name))
    with watching() as running:
        running.wait_for(len(names))
    with watching() as running:
        running.wait_for(0)
    assert sorted(sources(journal)) == sorted(names)
    assert journal.read_bytes().count(b"\n") == len(names)


def test_a_rename_into_place_a_new_version_and_a_deletion(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    with watching() as running:
        put(folder / "upload.tmp")
        put(folder / ".a.png")
        put(folder / ".partial" / "c.png")
        time.sleep(2 * PACE.settle)
        os.replace(folder / "upload.tmp", folder / "a.png")
        running.wait_for(1)
        put(folder / "a.png", encoded(seed=3))  # another picture under the same name
        running.wait_for(2)
        os.utime(folder / "a.png", ns=(1, 1))  # or the same saved again: mtime alone says so
        running.wait_for(3)
        (folder / "a.png").unlink()
        running.wait_for(3)
    assert sources(journal) == ["a.png"] * 3
    assert len({(line["size"], line["mtime_ns"]) for line in lines(journal)}) == 3
    assert running.notes == []


def test_a_file_that_changes_while_it_is_read_is_read_again(
    folder: Path, journal: Path, detector: Detector
) -> None:
    calls: list[Source] = []

    def look(group: Sequence[Source]) -> Iterable[Result]:
        results = list(inspect(group, detector))
        calls.extend(group)
        if group and len(calls) == 1:
            put(folder / "a.png", encoded(seed=5))
        return results

    put(folder / "a.png")
    with Watching(folder, journal, look) as running:
        running.wait_for(1)
    assert len(calls) == 2
    assert lines(journal)[0]["score"] == pytest.approx(detector(drawn_frame(5)).score, abs=1e-6)


def test_what_is_deleted_too_early_is_said(folder: Path, journal: Path, detector: Detector) -> None:
    def look(group: Sequence[Source]) -> Iterable[Result]:
        for source in group:
            os.unlink(source.path)
        return inspect(group, detector)

    put(folder / "a.png")
    with Watching(folder, journal, look) as running:
        running.wait_until(lambda: bool(running.notes))
    assert "a.png: was deleted before it was judged" in running.notes[0]
    assert lines(journal) == []


def test_a_folder_that_vanishes_is_waited_for(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    put(folder / "a.png")
    away = folder.with_name("away")
    with watching() as running:
        running.wait_for(1)
        os.rename(folder, away)
        time.sleep(0.2)
        put(away / "b.png")
        os.rename(away, folder)
        running.wait_for(2)
    assert sources(journal) == ["a.png", "b.png"]
    gone, back = running.notes
    assert "in/: cannot be looked at (no such file or directory); waiting for it" in gone
    assert "in/: no longer a problem" in back


def test_a_mount_point_that_is_empty_for_a_while_brings_nothing_back_as_new(
    folder: Path, journal: Path, watching: Callable[[], Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "REMEMBERED", 1)
    for i in range(9):
        put(folder / f"{i}.png")
    with watching() as running:
        running.wait_for(9)
        os.rename(folder, folder.with_name("away"))
        folder.mkdir()
        time.sleep(0.2)
        folder.rmdir()
        os.rename(folder.with_name("away"), folder)
        running.wait_for(9)
    os.rename(folder, folder.with_name("away"))  # and the same while the watch begins
    folder.mkdir()
    with watching() as running:
        time.sleep(0.2)
        folder.rmdir()
        os.rename(folder.with_name("away"), folder)
        running.wait_for(0)


def test_a_missing_folder_is_refused_at_the_start(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match="in: no such folder; name the folder to watch"), watching():
        pass


def test_nothing_is_written_to_the_folder(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    put(folder / "a.png")
    folder.chmod(0o555)
    before = folder.stat().st_mtime_ns
    with watching() as running:
        running.wait_for(1)
    assert folder.stat().st_mtime_ns == before
    folder.chmod(0o755)


def test_pipes_links_to_nothing_and_linked_folders_are_passed_over(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.png")  # to open it would wait for ever
    (folder / "nothing.png").symlink_to(folder / "nowhere.png")
    (folder / "loop").symlink_to(folder)
    put(tmp_path / "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    found, problems = scan(str(folder))
    assert (list(found), problems) == (["link.png"], {})
    (folder / "round.png").symlink_to(folder / "round.png")
    assert list(scan(str(folder))[1]) == ["round.png"]


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with open_journal(path) as opened:
        for name in ("a.png", "b.png"):
            opened.append([{"source": name, "score": 0.5, "size": 1, "mtime_ns": 2}])
    whole = path.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    torn = [whole[:cut] for cut in range(len(first), len(whole))]
    zeros = [whole[:cut] + bytes(len(whole) - cut) for cut in range(len(first), len(whole))]
    for content in (*torn, *zeros, first + bytes(40) + b"\n"):
        path.write_bytes(content)
        with open_journal(path) as opened:
            assert opened.versions(()) == {"a.png": (1, 2)}
        assert path.read_bytes() == first


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    line = b'{"source": "a.png", "size": 1, "mtime_ns": 2}\n'
    for content, number in (
        (b"my notes", 1),
        (line + b"my notes\n", 2),
        (line + b"\n" + line, 2),
        (line + b'{"source": "b.png", "score": 0.5}\n' + line, 2),  # as acl run writes without --watch
        (line + b'{"source": "b.png", "size": "1", "mtime_ns": 2}\n', 2),
        (line + b"[]\n", 2),
        (line + b"\xff\xfe\n", 2),
        (line + bytes(9) + b"\n" + line, 2),
    ):
        path.write_bytes(content)
        with open_journal(path) as opened, pytest.raises(ValueError, match=f"notes.txt: line {number} is no"):
            opened.versions(())
        assert path.read_bytes() == content


def test_a_second_process_is_refused_until_the_first_ends(bundle: Path, folder: Path, journal: Path) -> None:
    with Started(bundle, folder, journal) as process:
        message = "jsonl: another process watches with it; stop that one, or name another file"
        with pytest.raises(ValueError, match=message), open_journal(journal):
            pass
        process.kill()
        process.wait()
        with open_journal(journal):
            pass


def test_a_journal_is_a_regular_file_in_its_place(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is not a regular file"), open_journal(tmp_path / "pipe"):
        pass
    with open_journal(tmp_path / "a.jsonl") as opened:
        os.rename(tmp_path / "a.jsonl", tmp_path / "a.1")
        with pytest.raises(ValueError, match=r"a.jsonl: was moved or deleted"):
            opened.append([{"source": "a"}])
    with pytest.raises(ValueError, match="is named as a picture of the watched folder; name it .jsonl"):
        check_journal(folder / "a.PNG", folder)
    check_journal(folder / "a.jsonl", folder)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_journal(path) as opened:
        opened.append([{"source": "a.png", "size": 1, "mtime_ns": 2}])
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))  # the next fits in part
        try:
            with pytest.raises(OSError, match=str(path)):
                opened.append([{"source": "b.png", "size": 1, "mtime_ns": 2}])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        opened.append([{"source": "b.png", "size": 1, "mtime_ns": 2}])
    assert sources(path) == ["a.png", "b.png"]


def test_saved_pictures_are_told_apart_by_suffix(folder: Path, journal: Path, detector: Detector) -> None:
    maps = journal.parent / "maps"
    put(folder / "deep" / "a.png")
    put(folder / "deep" / "a.jpg", encoded(".jpg"))  # which may arrive in a year
    with Watching(folder, journal, partial(inspect, detector=detector, outputs=[Maps(maps)])) as running:
        running.wait_for(2)
    assert sorted(path.name for path in (maps / "deep").iterdir()) == ["a.jpg.npy", "a.png.npy"]


def test_ten_thousand_files_are_judged_once(folder: Path, journal: Path, detector: Detector) -> None:
    small = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(small, "PNG")
    for i in range(10_000):
        (folder / f"{i}.png").write_bytes(small.getvalue())
    verdict = detector(drawn_frame())

    def look(group: Iterable[Source]) -> Iterator[Result]:  # the files are real, the verdict is not
        for frame in iter_frames(group):
            yield frame if isinstance(frame, BadFrame) else Inspected(frame, verdict)

    with Watching(folder, journal, look, batch=50) as running:
        running.wait_for(10_000, seconds=60)
    with Watching(folder, journal, look) as running:
        running.wait_for(0)
    assert sorted(sources(journal)) == sorted(f"{i}.png" for i in range(10_000))


def test_memory_stays_flat_while_files_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "REMEMBERED", 10)
    arrivals = Arrivals(settle=0, patience=1)
    largest = 0
    for day in range(200):
        found = {f"{day}/{i}.png": (i, day) for i in range(7)}
        arrivals.observe(found, (), day)
        for path in arrivals.due(day):
            arrivals.done(path)
        largest = max(largest, len(arrivals.known))
    assert largest <= 7 + 2 * 10 + 7
    assert arrivals.observe({"199/0.png": (0, 199), "198/0.png": (0, 198)}, (), 300) == []
    assert arrivals.due(300) == []  # moved away and returned


def test_what_cannot_be_seen_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "REMEMBERED", 1)
    arrivals = Arrivals(settle=0, patience=1)
    found: dict[str, Version] = {f"a/{i}.png": (i, i) for i in range(50)} | {"b.png": (1, 1)}
    arrivals.observe(found, (), 0)
    for path in arrivals.due(0):
        arrivals.done(path)
    arrivals.observe({"b.png": (1, 1)}, ("a/",), 1)
    arrivals.observe(found, (), 2)
    assert arrivals.due(2) == []


def test_a_journal_of_years_is_read_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "REMEMBERED", 10)
    path = tmp_path / "results.jsonl"
    records = [{"source": f"{i}.png", "size": 1, "mtime_ns": i} for i in range(500)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with open_journal(path) as opened:
        known = opened.versions({"3.png", "4.png"})
    assert {"3.png", "4.png", "499.png", "490.png"} <= known.keys()
    assert len(known) <= 2 + 2 * 10
    assert list(known) == sorted(known, key=lambda path: int(path[:-4]))


def test_the_command_watches_until_it_is_told_to_stop(bundle: Path, folder: Path, journal: Path) -> None:
    code = "import sys; from acl_runtime.cli import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", code, "run", str(bundle), "--watch", str(folder), "--json", str(journal)]
    for name in ("a.png", "b.png"):
        put(folder / name)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{HEADER}\n"
            assert process.stdout.readline().endswith(f"{folder / name}\n")
            process.terminate()
            assert process.stdout.read().startswith("1 frame: ")
        assert process.returncode == 0
    assert lines(journal)[-1]["source"] == "b.png"


def test_usage_errors_are_two(bundle: Path, folder: Path, journal: Path) -> None:
    for wrong in (
        [],
        ["--watch", folder],
        ["--watch", folder, "--json", "-"],
        ["--watch", folder, "--json", journal, "--fail-on-defect"],
        [folder, "--watch", folder, "--json", journal],
    ):
        assert CliRunner().invoke(app, ["run", str(bundle), *map(str, wrong)]).exit_code == 2


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Started:
    """A process that watches, once it has the journal; it is killed at the end of the block if it still runs."""

    def __init__(self, bundle: Path, folder: Path, journal: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WATCH, bundle, folder, journal],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

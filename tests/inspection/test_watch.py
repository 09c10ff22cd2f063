"""A watched folder: complete files only, each judged once, whatever is done to the files, the folder and us."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from PIL import Image
from watching import PACE, Watching, encoded, judged, lines, put, wait_for

from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.files.errors import BackendError, FrameError
from acl_runtime.images.frame import BadFrame
from acl_runtime.inspection.run import inspect
from acl_runtime.outputs.pictures import Maps
from acl_runtime.sources import known as known_module
from acl_runtime.sources.files import Source, iter_frames
from acl_runtime.sources.journal import open_journal

KEYS = {"source", "index", "score", "is_anomalous", "regions", "path", "size", "mtime_ns"}

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
    for result in watch(folder, lines, look, pace=pace, batch=2, stopped=stopped):
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
    assert (first["path"], second["path"]) == ("deep/er/old.png", "new.jpg")
    assert (first["source"], second["source"]) == (str(folder / "deep/er/old.png"), str(folder / "new.jpg"))
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
    assert judged(journal) == ["a.png", "b.png"]


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
    assert Counter(judged(journal)) == Counter(names)


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
    assert judged(journal) == ["early.png", "a/1.png", "9.png", "10.png", "late.png"]


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
    assert (mended["path"], "score" in mended) == ("a.png", True)


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
    assert sorted(judged(journal)) == sorted(names)
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
    assert judged(journal) == ["a.png"] * 3
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
    assert judged(journal) == ["a.png", "b.png"]
    gone, back = running.notes
    assert "in/: cannot be looked at (no such file or directory); waiting for it" in gone
    assert "in/: no longer a problem" in back


def test_a_mount_point_that_is_empty_for_a_while_brings_nothing_back_as_new(
    folder: Path, journal: Path, watching: Callable[[], Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_module, "REMEMBERED", 1)
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


def test_a_second_process_is_refused_until_the_first_ends(bundle: Path, folder: Path, journal: Path) -> None:
    with Started(bundle, folder, journal) as process:
        message = "jsonl: is in use by process [0-9]+ .*; stop it, or name another file"
        with pytest.raises(ValueError, match=message), open_journal(journal):
            pass
        process.kill()
        process.wait()
        with open_journal(journal):
            pass


class Odd:
    """Inspects as usual, but fails where a name says so, as long as `names` has it."""

    def __init__(self, detector: Detector, error: Exception, *names: str) -> None:
        self.names = set(names)
        self._detector, self._error = detector, error

    def __call__(self, group: Sequence[Source]) -> Iterator[Result]:
        for source in group:
            if source.name.name in self.names:
                raise self._error
            yield from inspect([source], self._detector)


@pytest.mark.parametrize(
    "error", [ValueError("odd\nshape"), MemoryError(), FrameError("too thin"), KeyError("mode")]
)
def test_a_file_for_which_inspecting_fails_is_bad_and_stops_nothing(
    folder: Path, journal: Path, detector: Detector, error: Exception
) -> None:
    for name in ("1.png", "2.png", "3.png", "4.png"):
        put(folder / name)
    with Watching(folder, journal, Odd(detector, error, "2.png"), batch=3) as running:
        running.wait_for(4)
    *good, bad = lines(journal)
    assert [line["path"] for line in good] == ["1.png", "3.png", "4.png"]
    assert all("score" in line for line in good)
    assert bad["error"].startswith(f"{folder / '2.png'}: cannot be judged ({type(error).__name__}")
    assert "\n" not in bad["error"]
    with Watching(folder, journal, Odd(detector, error, "2.png")) as running:
        running.wait_for(0)


def test_where_inspecting_fails_for_all_files_they_wait(
    folder: Path, journal: Path, detector: Detector
) -> None:
    names = [f"{i}.png" for i in range(3)]
    odd = Odd(detector, RuntimeError("a bug"), *names)
    for name in names:
        put(folder / name)
    with Watching(folder, journal, odd, batch=2) as running:
        running.wait_until(lambda: len(running.notes) >= len(names))
        assert running.results == []
        assert (
            "0.png: cannot be judged (RuntimeError: a bug); save the image again; nothing else was judged"
            in ("".join(sorted(running.notes)))
        )
        odd.names = {"1.png"}
        running.wait_for(3)
    assert sorted(judged(journal)) == names
    assert ["error" in line for line in sorted(lines(journal), key=lambda line: str(line["path"]))] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "error", [BackendError("the GPU is away"), OSError(28, "no space left on device", "maps")]
)
def test_what_is_no_files_fault_ends_the_watch_and_costs_no_file(
    folder: Path, journal: Path, detector: Detector, error: Exception
) -> None:
    for name in ("1.png", "2.png"):
        put(folder / name)
    with (
        pytest.raises(type(error)),
        Watching(folder, journal, Odd(detector, error, "2.png"), batch=2) as running,
    ):
        running.wait_until(lambda: False)
    assert lines(journal) == []
    with Watching(folder, journal, partial(inspect, detector=detector)) as running:
        running.wait_for(2)
    assert judged(journal) == ["1.png", "2.png"]


def test_results_belong_to_their_file_in_whatever_order_they_come(
    folder: Path, journal: Path, detector: Detector
) -> None:
    def look(group: Sequence[Source]) -> list[Result]:
        results = list(inspect(group, detector))[::-1]
        return results[:1] if len(results) > 2 else results  # one that comes without the others is no answer

    for i in range(5):
        put(folder / f"{i}.png", encoded(seed=i))
    with Watching(folder, journal, look, batch=3) as running:
        running.wait_for(5)
    for line in lines(journal):
        frame = drawn_frame(int(line["path"][0]))
        assert line["score"] == pytest.approx(detector(frame).score, abs=1e-6)
        assert line["source"] == str(folder / line["path"])


def test_a_file_of_several_frames_has_a_line_for_each(
    folder: Path, journal: Path, detector: Detector
) -> None:
    def look(group: Sequence[Source]) -> Iterator[Result]:
        for source in group:
            yield from inspect([source, source], detector)

    put(folder / "a.png")
    put(folder / "b.png")
    with Watching(folder, journal, look, batch=2) as running:
        running.wait_for(4)
    assert judged(journal) == ["a.png", "a.png", "b.png", "b.png"]


def test_a_pipe_among_the_files_holds_nothing_up(
    folder: Path, journal: Path, watching: Callable[[], Watching]
) -> None:
    os.mkfifo(folder / "a.png")
    with watching() as running:
        put(folder / "b.png")
        running.wait_for(1)
    assert judged(journal) == ["b.png"]


def test_files_that_are_passed_over_are_noted_once_for_each_new_kind(
    folder: Path, watching: Callable[[], Watching]
) -> None:
    for name in ("a.heic", "b.heic", "c.txt", "results.jsonl.000001"):
        put(folder / name)
    with watching() as running:
        running.wait_until(lambda: len(running.notes) == 1)
        put(folder / "d.heic")
        put(folder / "e.avi")
        running.wait_until(lambda: len(running.notes) == 2)
        time.sleep(0.2)
    assert [note.split("passed over: ")[1] for note in running.notes] == [
        "2 .heic; save pictures as PNG or JPEG",
        "3 .heic, 1 .avi; save pictures as PNG or JPEG",
    ]


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
        running.wait_for(10_000, seconds=120)
    with Watching(folder, journal, look) as running:
        running.wait_for(0)
    assert sorted(judged(journal)) == sorted(f"{i}.png" for i in range(10_000))


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

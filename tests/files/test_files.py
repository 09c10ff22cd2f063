"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acl_runtime.files import atomic
from acl_runtime.files.atomic import atomic_file, atomic_folder, sha256


def write(path: Path, text: str, *, error: BaseException | None = None) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)
        if error:
            raise error


def write_folder(path: Path, text: str, *, error: BaseException | None = None) -> None:
    with atomic_folder(path, marker="manifest.json") as folder:
        (folder / "manifest.json").write_text(text)
        if error:
            raise error


def write_folder_late(path: Path) -> None:
    with atomic_folder(path, marker="manifest.json") as folder:
        (folder / "manifest.json").write_text("new")
        path.mkdir()
        (path / "thesis.txt").write_text("dear")


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_appears_with_its_parent_folders_and_replaces_an_older_one(
    tmp_path: Path, durable: bool
) -> None:
    for text in ("old", "new"):
        with atomic_file(tmp_path / "a" / "b.npy", durable=durable) as temporary:
            assert temporary.suffix == ".npy"  # numpy would append it otherwise
            temporary.write_text(text)
    assert (tmp_path / "a" / "b.npy").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npy"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt(), ValueError("no")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "a.txt", "old")
    with pytest.raises(type(error)):
        write(tmp_path / "a.txt", "ne", error=error)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "target.txt", "old")
    (tmp_path / "link.txt").symlink_to("target.txt")
    write(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "new"


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_is_not_a_regular_file_is_not_replaced(path: str) -> None:
    with pytest.raises(ValueError, match="is not a regular file; name a file"):
        write(Path(path), "text")


def test_a_folder_appears_and_replaces_an_older_one_completely(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "bundle", "old")
    (tmp_path / "a" / "bundle" / "more").write_text("stale")
    write_folder(tmp_path / "a" / "bundle", "new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["bundle"]
    assert [path.read_text() for path in (tmp_path / "a" / "bundle").iterdir()] == ["new"]


def test_an_empty_folder_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write_folder(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write_folder(tmp_path / "bundle", "old")
    with pytest.raises(type(error)):
        write_folder(tmp_path / "bundle", "ne", error=error)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"


def test_a_folder_of_someone_else_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"is not empty and holds no manifest\.json; name a new"):
        write_folder(tmp_path, "new")
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_a_folder_filled_by_someone_else_during_the_work_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not empty"):
        write_folder_late(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["thesis.txt"]


def test_a_file_and_the_current_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="is not a folder"):
        write_folder(tmp_path / "file", "new")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="the current folder; name a new folder"):
        write_folder(Path(), "new")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # more than one block
    (tmp_path / "data").write_bytes(data)
    assert sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()


KILLED = """
import sys
from pathlib import Path
from acl_runtime.files.atomic import atomic_folder
number = 0
while True:
    number += 1
    with atomic_folder(sys.argv[1], marker="manifest.json") as folder:
        (folder / "manifest.json").write_text(str(number))
        (folder / "inner").mkdir()
        (folder / "inner" / "same").write_text(str(number))
    print(number, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_killed_at_any_moment_there_is_a_whole_folder(tmp_path: Path) -> None:
    """Kill -9 while the folder is replaced again and again, some hundred times a second."""
    target = tmp_path / "bundle"
    rng = random.Random(0)
    for _ in range(12):
        process = start(KILLED, target)
        first_line(process)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert (target / "manifest.json").read_text() == (target / "inner" / "same").read_text()
    for left_over in tmp_path.glob(".bundle.*"):
        os.utime(left_over, (0, 0))  # one that is young and not yet held might be another's, about to be
    write_folder(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # what the killed ones left is gone
    assert [path.name for path in target.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, number: signal.Signals
) -> None:
    write_folder(tmp_path / "bundle", "old")
    code = """
import sys, time
from acl_runtime.files.atomic import atomic_file, atomic_folder
with atomic_folder(sys.argv[1], marker="manifest.json") as folder, atomic_file(folder / "file") as file:
    file.write_text("half")
    print("ready", flush=True)
    time.sleep(30)
"""
    process = start(code, tmp_path / "bundle")
    assert first_line(process) == "ready\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"


def test_what_others_are_writing_is_not_removed_and_the_folder_is_theirs(tmp_path: Path) -> None:
    write_folder(tmp_path / "bundle", "old")
    with atomic_folder(tmp_path / "bundle", marker="manifest.json") as folder:
        (folder / "manifest.json").write_text("new")
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + (
            "from pathlib import Path; from test_files import write_folder\n"
            "write_folder(Path(sys.argv[1]), 'other')"
        )
        process = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "bundle"], capture_output=True, text=True, check=False
        )
        assert "bundle: is in use by process" in process.stderr
        assert folder.is_dir()
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"


def test_only_temporary_folders_of_ours_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stale, young, aside, other = (
        tmp_path / name
        for name in (
            ".bundle.0123456789ab",
            ".bundle.0123456789ac",
            ".bundle.0123456789ad.old",
            ".bundle.mine",
        )
    )
    for folder in (stale, young, aside, other):
        folder.mkdir()
    (stale / ".lock").touch()
    with caplog.at_level("INFO", logger="acl"):
        write_folder(tmp_path / "bundle", "new")
    assert {path.name for path in tmp_path.iterdir()} == {young.name, aside.name, other.name, "bundle"}
    assert f"{aside}: was put aside by a process that was killed; delete it" in caplog.text
    assert f"{stale}: removed" in caplog.text


def test_where_names_cannot_be_exchanged_the_old_folder_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)  # as on a file system without it
    write_folder(tmp_path / "bundle", "old")
    write_folder(tmp_path / "bundle", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"


def test_names_are_synced_and_not_only_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut cannot be had in a test; that the folders were asked to sync can."""
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: synced.append(Path(folder)))
    write(tmp_path / "a" / "b" / "c.txt", "text")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    synced.clear()
    with atomic_folder(tmp_path / "bundle", marker="manifest.json") as folder:
        (folder / "inner").mkdir()
    assert synced == [folder / "inner", folder, tmp_path]
    monkeypatch.undo()
    atomic.sync_folder(tmp_path)


def test_a_full_disk_is_named_by_the_file_that_it_did_not_take(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as raised:
        write(tmp_path / "a.txt", "new", error=OSError(errno.ENOSPC, "Error writing bytes to file"))
    assert raised.value.filename == str(tmp_path / "a.txt")

"""A watched folder: which of its files are images, new and complete."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watching import encoded, put

from acl_runtime.sources import arrivals as arrivals_module
from acl_runtime.sources import known as known_module
from acl_runtime.sources.arrivals import Arrivals, WatchedFolder, is_whole, version_of
from acl_runtime.sources.known import Known


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def learn(known: Known, folder: Path) -> None:
    """Take all that is in a folder for judged."""
    for path, version in WatchedFolder(str(folder), known).look().found.items():
        known.add(path, version)


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """Let a folder be one that may not be listed, even by root."""
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listdir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        yield


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


def test_a_pipe_that_took_a_files_place_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(OSError, match="seek"):
        is_whole(str(folder / "pipe.png"))


def test_pipes_links_to_nothing_and_linked_folders_are_passed_over(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.png")  # to open it would wait for ever
    (folder / "nothing.png").symlink_to(folder / "nowhere.png")
    (folder / "loop").symlink_to(folder)
    put(tmp_path / "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    watched = WatchedFolder(str(folder), Known())
    look = watched.look()
    assert (list(look.found), look.problems) == (["link.png"], {})
    (folder / "round.png").symlink_to(folder / "round.png")
    put(folder / "nowhere.png")
    look = watched.look()
    assert sorted(look.found) == ["link.png", "nothing.png", "nowhere.png"]
    assert list(look.problems) == ["round.png"]


def test_bins_and_thumbnails_of_systems_are_passed_over(folder: Path) -> None:
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", ".hidden"):
        put(folder / name / "a.png")
    put(folder / ".a.png")
    put(folder / "recycle" / "a.png")
    assert list(WatchedFolder(str(folder), Known()).look().found) == ["recycle/a.png"]


def test_files_that_a_user_may_take_for_images_are_counted(folder: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.avif", "clip.mp4", "notes.txt", "deep/d.tga", ".e.heic"):
        put(folder / name, b"x")
    watched = WatchedFolder(str(folder), Known())
    for _ in range(2):
        assert watched.look().found == {}
        assert watched.passed_over == {".heic": 2, ".avif": 1, ".mp4": 1, ".tga": 1}


def test_a_folder_that_cannot_be_read_is_a_problem_of_its_own(folder: Path) -> None:
    put(folder / "a.png")
    put(folder / "locked" / "b.png")
    with unreadable(folder / "locked"):
        look = WatchedFolder(str(folder), Known()).look()
    assert (list(look.found), look.problems) == (["a.png"], {"locked/": "permission denied"})


def test_files_and_folders_change_places(folder: Path) -> None:
    known = Known()
    watched = WatchedFolder(str(folder), known)
    put(folder / "a.png" / "b.png")  # a folder with the name of an image
    put(folder / "c.txt")
    assert list(watched.look().found) == ["a.png/b.png"]
    learn(known, folder)
    os.rename(folder / "a.png" / "b.png", folder / "b.png")
    (folder / "a.png").rmdir()
    assert list(watched.look().found) == ["b.png"]
    os.rename(folder / "b.png", folder / "a.png")
    watched.look()
    assert list(watched.look().found) == ["a.png"]


def test_only_what_is_new_or_changed_is_found(folder: Path) -> None:
    known = Known()
    for name in ("a.png", "b.png", "deep/c.png"):
        put(folder / name)
    learn(known, folder)
    watched = WatchedFolder(str(folder), known)
    assert watched.look().found == {}
    put(folder / "deep" / "d.png")
    os.utime(folder / "a.png", ns=(1, 1))
    versions = {name: version_of(str(folder / name)) for name in ("deep/d.png", "a.png")}
    for _ in range(2):
        assert watched.look().found == versions
    assert watched.look(["b.png"]).found.keys() == {"b.png", *versions}  # it waits: its version is asked for


def test_known_files_are_compared_in_turn_where_they_are_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "_COMPARING_S", 0)  # one file a look
    known = Known()
    for i in range(5):
        put(folder / f"{i}.png")
    learn(known, folder)
    watched = WatchedFolder(str(folder), known)
    watched.look()
    for i in range(5):
        os.utime(folder / f"{i}.png", ns=(1, 1))
    found = [name for _ in range(7) for name in watched.look().found]
    assert set(found) == {f"{i}.png" for i in range(5)}


def test_memory_stays_flat_while_files_come_and_go(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(known_module, "REMEMBERED", 10)
    known = Known()
    watched = WatchedFolder(str(folder), known)
    largest = 0
    for day in range(40):
        for i in range(7):
            put(folder / str(day) / f"{i}.png", str(day).encode())
        for path, version in watched.look().found.items():
            known.add(path, version)
        largest = max(largest, len(known))
        os.rename(folder / str(day), folder.parent / str(day))
    assert largest <= 7 + 10
    put(folder / "b.png")
    assert list(watched.look().found) == ["b.png"]
    assert list(known.names("39/")) == []
    os.rename(folder.parent / "39", folder / "39")  # moved away and returned
    arrivals = Arrivals(known, settle=0, patience=1)
    arrivals.observe(watched.look().found, (), 0)
    assert arrivals.due(1) == ["b.png"]
    assert sorted(known.names("39/")) == [f"{i}.png" for i in range(7)]


def test_what_cannot_be_seen_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(known_module, "REMEMBERED", 1)
    known = Known()
    for i in range(20):
        put(folder / "a" / f"{i}.png")
    put(folder / "b.png")
    learn(known, folder)
    watched = WatchedFolder(str(folder), known)
    with unreadable(folder / "a"):
        assert watched.look().problems == {"a/": "permission denied"}
    assert len(known) == 21
    assert watched.look().found == {}


def test_a_disk_that_is_away_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(known_module, "REMEMBERED", 1)
    known = Known()
    for i in range(5):
        put(folder / f"{i}.png")
    learn(known, folder)
    watched = WatchedFolder(str(folder), known)
    os.rename(folder, folder.with_name("away"))
    assert list(watched.look().problems) == [""]
    folder.mkdir()  # the mount point
    watched.look()
    assert len(known) == 5


def test_files_settle_without_a_look_at_the_others() -> None:
    arrivals = Arrivals(Known(), settle=1, patience=9)
    arrivals.observe({"a.png": "1 1", "b.png": "1 1"}, (), 0)
    assert arrivals.settling(0.5) == ["a.png", "b.png"]
    arrivals.update({"a.png": "1 1", "b.png": "2 2"}, 0.9)
    assert arrivals.due(1) == ["a.png"]
    assert arrivals.settling(1) == ["b.png"]
    assert arrivals.due(2) == ["a.png", "b.png"]


def test_many_files_that_are_gone_are_forgotten_in_moments(folder: Path) -> None:
    names = {f"{i}.png": "1 1" for i in range(200_000)}
    known = Known({"gone/": names})
    put(folder / "a.png")
    started = time.process_time()
    found = WatchedFolder(str(folder), known).look().found
    assert list(found) == ["a.png"]
    assert len(known) == known_module.REMEMBERED
    assert time.process_time() - started < 5

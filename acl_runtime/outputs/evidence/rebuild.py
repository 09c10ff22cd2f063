"""Bring the index of an evidence store and its files together; nothing that is not ours is ever deleted."""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import locked_folder
from acl_runtime.outputs.evidence.files import ASIDE, days, file_of, files_of, move_aside, number_of
from acl_runtime.outputs.evidence.index import INDEX, Index
from acl_runtime.outputs.evidence.record import Evidence, from_sidecar

LOG = logging.getLogger("acl")
NEWEST_DAYS = (
    2  # that are looked at whenever a store is opened, because a process that was killed wrote there:
)
NEWEST = 1000  # files of so many numbers before the index's last one, and all behind it


@dataclass
class Rebuilt:
    """What was found.

    Attributes:
        added: Records that files have and the index had not.
        aside: Files that were moved aside: not ours, torn, or of no record.
        without_files: Records whose files are gone.
        from_old: Records without files that could be read from the index before.
    """

    added: int = 0
    aside: int = 0
    without_files: int = 0
    from_old: int = 0


def open_index(folder: Path, *, is_suspect: bool = False) -> Index:
    """Open the index of a folder that the caller holds; one that is gone or damaged is made again from the files.

    Args:
        folder: Of the store; made if absent.
        is_suspect: Whether it failed before, so that every page is looked at.

    Raises:
        InputError: It is of a newer version.
        sqlite3.Error: The disk is full or away.
        OSError: The same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = None
    try:
        index = Index(folder)
        if is_suspect and not index.is_sound():
            index.close()
            raise sqlite3.DatabaseError("its pages are damaged")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        old = put_index_aside(folder)
        LOG.warning(
            "%s: is damaged (%s); it is in %s now, and is made again from the files",
            folder / INDEX,
            error,
            old,
        )
        index = Index(folder)
    try:
        if not index.is_complete:
            found = fill(index, folder, old)
            if found.added:
                LOG.warning("%s: was made again: %d records from files", folder / INDEX, found.added)
        else:
            for day in days(folder)[-NEWEST_DAYS:]:
                _take_day(index, folder, day, Rebuilt(), after=index.last() - NEWEST)
    except BaseException:
        index.close()
        raise
    return index


def rebuild(folder: Path) -> Rebuilt:
    """Make the index of a folder again from its files; the index before goes aside, and what only it knew is kept.

    Raises:
        InputError: It is no folder of evidence, another process writes it, or the disk refuses.
    """
    if not folder.is_dir() or not ((folder / INDEX).exists() or days(folder)):
        raise InputError(f"{folder}: holds no evidence; name the folder of an output of kind evidence")
    with locked_folder(folder, "stop its service first"):
        try:
            old = put_index_aside(folder) if (folder / INDEX).exists() else None
            with closing(Index(folder)) as index:
                return fill(index, folder, old)
        except sqlite3.Error as error:
            raise InputError(f"{folder}: the index cannot be written ({error}); look at the disk") from error


def fill(index: Index, folder: Path, old: Path | None) -> Rebuilt:
    """Take into an index what the files say, and what only an old index in another folder knows."""
    found = Rebuilt()
    for day in days(folder):
        _take_day(index, folder, day, found)
    if old is not None:
        _take_old(index, old, found)
    _forget_gone(index, folder, found)
    index.complete()
    return found


def put_index_aside(folder: Path) -> Path:
    """Move an index, with what SQLite has beside it, into a folder of its own below `aside/`."""
    place = folder / ASIDE / f"index-{time.time_ns():x}"
    place.mkdir(parents=True)
    for suffix in ("-shm", "-wal", ""):
        path = folder / f"{INDEX}{suffix}"
        if path.exists():
            path.rename(place / path.name)
    return place


def _take_day(index: Index, folder: Path, day: Path, found: Rebuilt, *, after: int = 0) -> None:
    """Take what the sidecars of a day say, of larger numbers; move aside what belongs to no record."""
    paths = [path for path in sorted(day.iterdir()) if (number_of(path) or sys.maxsize) > after]
    own: set[Path] = set()
    index.begin()
    for path in paths:
        if number_of(path) is None or path.suffix != ".json":
            continue
        evidence = _read(folder, path)
        before = None if evidence is None else index.find(evidence.number)
        if evidence is None or (before is not None and before.day != day.name):
            continue  # it goes aside below
        own.update(files_of(folder, evidence))
        if before is None:
            index.add(evidence)
            found.added += 1
        elif before != evidence:
            index.put(evidence)
    index.commit()
    for path in paths:
        if path not in own:
            LOG.warning("%s: belongs to no record; it is in %s now", path, move_aside(folder, path))
            found.aside += 1


def _read(folder: Path, path: Path) -> Evidence | None:
    """The record of a sidecar as its files are; None if it is torn or lies in another place than its own."""
    try:
        evidence = from_sidecar(path.read_bytes())
    except (InputError, UnicodeDecodeError):
        return None
    if file_of(folder, evidence, "sidecar") != path:
        return None
    if evidence.picture and not file_of(folder, evidence, "picture").is_file():
        evidence = replace(evidence, picture="")
    if evidence.has_overlay and not file_of(folder, evidence, "overlay").is_file():
        evidence = replace(evidence, has_overlay=False)
    return replace(evidence, size=sum(each.stat().st_size for each in files_of(folder, evidence)))


def _take_old(index: Index, place: Path, found: Rebuilt) -> None:
    index.begin()
    try:
        with closing(Index(place)) as old:
            for evidence in old.records():
                if index.find(evidence.number) is None:
                    index.add(replace(evidence, picture="", has_overlay=False, size=0))
                    found.from_old += 1
    except (sqlite3.Error, ValueError) as error:  # a row that is no longer what was written is a ValueError
        LOG.warning("%s: %d records could be read, then: %s", place / INDEX, found.from_old, error)
    index.commit()


def _forget_gone(index: Index, folder: Path, found: Rebuilt) -> None:
    index.begin()
    for evidence in index.records():
        if evidence.size and not file_of(folder, evidence, "sidecar").is_file():
            index.forget_files(evidence)
            found.without_files += 1
    index.commit()

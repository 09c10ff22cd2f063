"""The results of a watched folder are its memory: one JSON line per judged file, appended, never rewritten."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Container, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from acl_runtime.files.errors import InputError

Version = tuple[int, int]  # size in bytes and mtime in ns: another pair is another picture
REMEMBERED = 100_000  # files that are no longer there; about 25 MB
_LONGEST_LINE = 1 << 24  # bytes
_START = b'{"source": "'  # of every line


class Paths(Container[str], Sized, Protocol):
    """Anything that knows its paths and their number: a set, a dict."""


class Journal:
    """An open, locked file of results; see `open_journal`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def versions(self, present: Paths) -> dict[str, Version]:
        """The version of every file in its last line, oldest line first.

        A last line that a crash or a power cut left torn is removed from the file.

        Args:
            present: Paths that are in the folder now; of all others the newest `REMEMBERED` are kept.

        Raises:
            ValueError: A line is not ours.
        """
        known: dict[str, Version] = {}
        for number, line in enumerate(self._lines(), 1):
            path, version = self._parse(line, number)
            known.pop(path, None)
            known[path] = version
            forget(known, present)
        return known

    def append(self, records: Sequence[Mapping[str, object]]) -> None:
        """Add lines and wait until the disk has them; on a full disk the file stays as it was.

        Args:
            records: Each what JSON can hold; `source` first, with `size` and `mtime_ns`.
        """
        self._check_in_place()
        # ASCII: undecodable file names are escaped
        lines = "".join(json.dumps(record) + "\n" for record in records).encode("ascii")
        end = os.fstat(self._descriptor).st_size
        try:
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]  # one write, unless the disk is full
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def _lines(self) -> Iterator[bytes]:
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                if _is_torn(line) and _may_be_ours(line) and not file.read(1):
                    os.ftruncate(self._descriptor, end)
                    return
                if _is_torn(line):
                    raise self._not_ours(number)
                yield line
                end += len(line)

    def _parse(self, line: bytes, number: int) -> tuple[str, Version]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise self._not_ours(number) from error
        wanted = {"source": str, "size": int, "mtime_ns": int}
        if not isinstance(record, dict) or any(
            not isinstance(record.get(key), kind) for key, kind in wanted.items()
        ):
            raise self._not_ours(number)
        return record["source"], (record["size"], record["mtime_ns"])

    def _not_ours(self, number: int) -> ValueError:
        return ValueError(
            f"{self._path}: line {number} is no result of a watched folder (source, size, mtime_ns); "
            "name another file, or remove the line"
        )

    def _check_in_place(self) -> None:
        if os.name != "posix":  # elsewhere an open file can be neither moved nor deleted
            return
        if not self._path.exists() or not os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
            raise InputError(
                f"{self._path}: was moved or deleted, and with it which files are judged; put it back"
            )


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open or make a journal, for one process alone: the lock ends with the process, however it ends.

    Raises:
        ValueError: It is not a regular file, or another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{path}: is not a regular file; name a file for the results")
        if not _lock(descriptor):
            raise InputError(f"{path}: another process watches with it; stop that one, or name another file")
        yield Journal(path, descriptor)
    finally:
        os.close(descriptor)


def forget(known: dict[str, Version], present: Paths, away: tuple[str, ...] = ()) -> None:
    """Drop the oldest of the files that are gone, so that memory stays flat; `REMEMBERED` of them are kept.

    They are kept because files come back: moved away and returned, restored from a copy, or on a disk that
    was not mounted for a while.

    Args:
        known: Oldest first.
        present: Paths that are there now.
        away: Beginnings of paths that cannot be seen at present, which is not the same as gone.
    """
    if len(known) <= len(present) + 2 * REMEMBERED:
        return
    gone = [path for path in known if path not in present and not path.startswith(away)]
    for path in gone[:-REMEMBERED]:
        del known[path]


def _is_torn(line: bytes) -> bool:
    return not line.endswith(b"\n") or b"\0" in line  # a power cut may leave zeros


def _may_be_ours(line: bytes) -> bool:
    written = line.partition(b"\0")[0]
    return written.startswith(_START[: len(written)])


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 2**31 - 2, os.SEEK_SET)  # far behind the lines, which others may read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

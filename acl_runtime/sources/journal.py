"""The results of a watched folder, one JSON line per judged frame, and what of the folder was judged.

The lines are what counts: they are on the disk before anything else is done. The memory beside them, `FILE.memory`,
says what is known up to some line, so that a restart reads only the lines after it, and so that the lines can be moved
away.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock
from acl_runtime.files.strict_json import parse_document
from acl_runtime.sources.known import Known, Version

LOG = logging.getLogger("acl")
_LONGEST_LINE = 1 << 24  # bytes
_FORMAT = "acl watch memory"
_START = b'{"source": "'  # of every line
_FINGERPRINT = 4096  # bytes before a place in the lines by which they are known again
_LINES_TO_READ = 10_000  # the memory is written again after so many lines, or a fiftieth of what is known


class Journal:
    """An open, locked file of results and its memory; see `open_journal`.

    Attributes:
        known: What was judged.
        name: How the names of all its files begin.
    """

    def __init__(self, path: Path, *, rotate_bytes: int | None = None) -> None:
        self._path, self._rotate_bytes = path, rotate_bytes
        self._file = _open_alone(path)
        self._kept_bytes = 0  # size of the lines that the memory's file knows
        self._unkept = 0  # number of the lines after them
        self._end = 0  # size of the lines when something was appended last
        self.known, self.name = Known(), path.name
        try:
            self._recall()
        except BaseException:
            self._file.close()
            raise

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines and wait until the disk has them; on a full disk the file stays as it was.

        Lines that were moved away or deleted meanwhile begin anew, and so do those that have grown too long.

        Args:
            records: Each what JSON can hold; `source` first, with `path` below the folder, `size` and `mtime_ns`.
        """
        self._begin_anew_where_due()
        # ASCII: undecodable file names are escaped
        lines = "".join(json.dumps(record) + "\n" for record in records).encode("ascii")
        end = self._size()
        try:
            while lines:
                lines = lines[self._file.write(lines) :]  # one write, unless the disk is full
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._end = self._size()
        for record in records:
            self._take(record)
        self._keep_where_due()

    def keep(self) -> None:
        """Write the memory, so that a restart need not read the lines."""
        end = self._size()
        memory = {
            "lines_bytes": end,
            "lines_sha256": _fingerprint(self._file, end),  # the file may have been moved away
            "gone": self.known.gone,
            "known": self.known.folders,
        }
        body = json.dumps(memory).encode("ascii")
        header = {"format": _FORMAT, "format_version": 1, "sha256": hashlib.sha256(body).hexdigest()}
        with atomic_file(_memory_path(self._path)) as temporary:
            temporary.write_bytes(json.dumps(header).encode("ascii") + b"\n" + body)
        self._kept_bytes, self._unkept = end, 0

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def _recall(self) -> None:
        """Read the memory, and the lines that came after it."""
        memory = _memory_path(self._path)
        if memory.exists():
            self._kept_bytes, fingerprint, self.known = _read_memory(memory)
            self._catch_up(fingerprint, memory.stat().st_mtime_ns)
        end = self._read(self._path, self._kept_bytes)
        if end < self._size():  # torn by a crash or a power cut
            self._file.truncate(end)
        self._end = end
        self._keep_where_due()

    def _keep_where_due(self) -> None:
        """Write the memory when it has much to learn, or does not know these lines by their end."""
        if self._unkept >= (max(_LINES_TO_READ, len(self.known) // 50) if self._kept_bytes else 1):
            self.keep()

    def _catch_up(self, fingerprint: str, written_ns: int) -> None:
        """Read lines that were moved away, where some came after the memory was written: after a crash."""
        start = self._kept_bytes
        for path in sorted(_moved(self._path), key=lambda path: path.stat().st_mtime_ns):
            is_next = start > 0 and _holds(path, start, fingerprint)
            if is_next or path.stat().st_mtime_ns >= written_ns:
                self._read(path, start if is_next else 0)
        if not _holds(self._path, start, fingerprint):
            self._kept_bytes = 0
            _note(
                f"{self._path}: begins anew; {_memory_path(self._path)} knows {len(self.known)} files that are not "
                "judged again"
            )

    def _read(self, path: Path, start: int) -> int:
        """Take lines in from a place on, and return where they end; a torn last line is left out."""
        end = start
        with path.open("rb") as file:
            file.seek(start)
            for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
                if _is_torn(line):
                    if _may_be_ours(line) and not file.read(1):
                        break
                    raise _not_ours(path, end)
                self._take(_parse(line, path, end))
                end += len(line)
        return end

    def _take(self, record: Mapping[str, Any]) -> None:
        self.known.add(*_key(record))
        self._unkept += 1

    def _begin_anew_where_due(self) -> None:
        if self._rotate_bytes is not None and self._size() >= self._rotate_bytes:
            moved = _next_name(self._path)
            self._file.close()  # some systems move no open files
            os.rename(self._path, moved)
        elif self._is_in_place():
            if self._size() < self._end:
                _note(f"{self._path}: was emptied, and begins anew")
                self._kept_bytes = 0
            return
        else:
            _note(f"{self._path}: was moved or deleted, and begins anew")
            self._file.close()
        self._file = _open_alone(self._path)
        self._kept_bytes = 0

    def _is_in_place(self) -> bool:
        if os.name != "posix":  # elsewhere an open file can be neither moved nor deleted
            return True
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


@contextmanager
def open_journal(path: Path, *, rotate_bytes: int | None = None) -> Iterator[Journal]:
    """Open or make a journal, for one process alone, and read it: the lock ends with the process, however it ends.

    The lines of an older version, which had no memory beside them, are read once. A last line that a crash or a power
    cut left torn is removed. Lines that were moved away, to a name that begins alike, stay known; but after a crash
    not the last of them if they were also compressed.

    Args:
        path: File of the lines.
        rotate_bytes: Size at which the lines are moved to `PATH.000001`, and so on; None for no limit.

    Raises:
        InputError: It is not a regular file, holds other lines, or another process has it; or the memory is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path, rotate_bytes=rotate_bytes)
    try:
        yield journal
    finally:
        journal.close()


def _open_alone(path: Path) -> FileIO:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: is not a regular file; name a file for the results")
    file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by the journal
    try:
        lock(file, path, "stop it, or name another file")
    except BaseException:
        file.close()
        raise
    return file


def _memory_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.memory")


def _read_memory(path: Path) -> tuple[int, str, Known]:
    """Size and fingerprint of the lines that a memory knows, and what it knows."""
    remedy = "delete it, and only the lines beside it say what was judged"
    try:
        header, _, body = path.read_bytes().partition(b"\n")
        document = parse_document(
            header, kind="memory of a watched folder", format_name=_FORMAT, newest=1, remedy=remedy
        )
        if hashlib.sha256(body).hexdigest() != document.get("sha256"):
            raise InputError(f"is damaged; {remedy}")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    memory = json.loads(body)
    return memory["lines_bytes"], memory["lines_sha256"], Known(memory["known"], memory["gone"])


def _fingerprint(file: BinaryIO | FileIO, end: int) -> str:
    """Digest of the bytes before a place in a file."""
    file.seek(max(0, end - _FINGERPRINT))
    return hashlib.sha256(file.read(min(end, _FINGERPRINT))).hexdigest()


def _holds(path: Path, end: int, fingerprint: str) -> bool:
    with path.open("rb") as file:
        return _fingerprint(file, end) == fingerprint


def _next_name(path: Path) -> Path:
    """`PATH.000001`, or one more than the highest that there is."""
    endings = (other.name[len(path.name) + 1 :] for other in _beside(path, ".*"))
    highest = max((int(ending) for ending in endings if ending.isdecimal()), default=0)
    return path.with_name(f"{path.name}.{highest + 1:06d}")


def _moved(path: Path) -> Iterator[Path]:
    """Files of lines that may once have had this name."""
    for other in _beside(path, "*"):
        if other != path and other.is_file() and _head(other) == _START:
            yield other


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_START))


def _beside(path: Path, pattern: str) -> Iterator[Path]:
    """Files in the same folder whose names begin alike."""
    return path.parent.glob(f"{glob.escape(path.name)}{pattern}")


def _parse(line: bytes, path: Path, place: int) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise _not_ours(path, place) from error
    wanted = {"source": str, "size": int, "mtime_ns": int}
    if not isinstance(record, dict) or not isinstance(record.get("path", ""), str):
        raise _not_ours(path, place)
    if any(type(record.get(key)) is not kind for key, kind in wanted.items()):
        raise _not_ours(path, place)
    return record


def _key(record: Mapping[str, Any]) -> tuple[str, Version]:
    """Path below the folder, and version; lines of older versions have that path as their source."""
    return record.get("path", record["source"]), f"{record['size']} {record['mtime_ns']}"


def _not_ours(path: Path, place: int) -> InputError:
    with path.open("rb") as file:
        number = 1 + file.read(place).count(b"\n")
    return InputError(
        f"{path}: line {number} is no result of a watched folder (source, size, mtime_ns); "
        "name another file, or remove the line"
    )


def _is_torn(line: bytes) -> bool:
    return not line.endswith(b"\n") or b"\0" in line  # a power cut may leave zeros


def _may_be_ours(line: bytes) -> bool:
    written = line.partition(b"\0")[0]
    return written.startswith(_START[: len(written)])


def _note(message: str) -> None:
    LOG.info("%s", message, extra={"again": True})

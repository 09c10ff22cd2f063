"""A file of lines that one process writes; what is there is whole, and safe from Ctrl-C."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock

LONGEST = 1 << 20  # bytes of a line


class LineFile:
    """A file that lines are added to, each whole or not at all."""

    def __init__(self, path: Path, *, append: bool = False, remedy: str = "name another file") -> None:
        """Take the file, alone.

        Args:
            path: File to write.
            append: Whether it may hold results of an earlier run, which then stay.
            remedy: What to do where it does and must not.

        Raises:
            InputError: It holds results of an earlier run, another process writes it, or it is the journal of a watched
                folder.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("ab+", buffering=0)  # nothing is lost before it is held
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            if self._is_regular:
                lock(self._file, path, "wait until it has ended, or name another file")
                self._check_content(append=append, remedy=remedy)
        except BaseException:
            self._file.close()
            raise

    def mend(self) -> None:
        """Cut off a last line that a crash left unfinished; of a file that was taken to append to."""
        size = os.fstat(self._file.fileno()).st_size
        start = self._file.seek(max(0, size - LONGEST))
        whole = start + self._file.read(LONGEST).rfind(b"\n") + 1
        if whole < size:
            self._file.truncate(whole)

    def write(self, text: str) -> None:
        """Write one; a disk that has no room for all of a line gets nothing of it.

        Args:
            text: Without its end of line.

        Raises:
            OSError: The disk is full or away; the error names the file.
        """
        line = memoryview(f"{text}\n".encode())
        end = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]  # one write, unless the disk is full
        except OSError as error:
            if self._is_regular:
                self._file.truncate(end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _check_content(self, *, append: bool, remedy: str) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if b'"mtime_ns": ' in first:
            raise InputError(
                f"{self._path}: remembers what was judged of a watched folder; name another file"
            )
        if first and not append:
            raise InputError(f"{self._path}: holds the results of an earlier run; {remedy}")

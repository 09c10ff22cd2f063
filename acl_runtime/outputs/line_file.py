"""A file of lines that one process writes; what is there is whole, and safe from Ctrl-C."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock


class LineFile:
    """A new file that lines are written to, each whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Take the file, alone, and empty it.

        Args:
            path: File to write; an older one is replaced, unless another process has it.

        Raises:
            InputError: Another process writes it, or it is the journal of a watched folder.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("ab+", buffering=0)  # nothing is lost before it is held
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            if self._is_regular:
                lock(self._file, path, "wait until it has ended, or name another file")
                self._check_no_journal()
                self._file.truncate(0)
        except BaseException:
            self._file.close()
            raise

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

    def _check_no_journal(self) -> None:
        self._file.seek(0)
        if b'"mtime_ns": ' in self._file.readline():
            raise InputError(
                f"{self._path}: remembers what was judged of a watched folder; name another file"
            )

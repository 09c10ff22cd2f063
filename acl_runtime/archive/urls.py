"""Object storage through fsspec: its addresses, what lies below one, and the bytes of an object."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec

from acl_runtime.files.errors import InputError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Storage where an object appears whole or not at all; "memory" is fsspec's own, inside a process."""


def scheme_of(text: str) -> str:
    """The scheme of an address such as `s3://bucket/folder`; empty for a path.

    Raises:
        InputError: It is one of a storage that we do not know.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if not found:
        return ""
    if found[1] not in SCHEMES:
        raise InputError(
            f"{text}: addresses must begin with one of {', '.join(SCHEMES)} and ://; mount anything else, and name "
            "a folder"
        )
    return found[1]


class Storage:
    """The storage that an address lies in."""

    def __init__(self, address: str) -> None:
        """Find it; nothing is asked of it yet.

        Raises:
            InputError: fsspec's package for it is not installed.
        """
        self._scheme = scheme_of(address)
        try:
            self._files: Any = fsspec.filesystem(self._scheme)
        except ImportError as error:
            raise InputError(f"{address}: {error}; install it with pip") from error

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names of what lies in a folder, and whether each is a folder too; none where there is no such folder."""
        path = self._files._strip_protocol(folder)
        self._files.invalidate_cache(path)
        try:
            listed = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return []
        found = [(PurePosixPath(entry["name"]).name, entry["type"] == "directory") for entry in listed]
        return [(name, is_folder) for name, is_folder in found if name]

    def is_file(self, address: str) -> bool:
        """Whether there is an object of this name."""
        return bool(self._files.isfile(address))

    def glob(self, pattern: str) -> list[str]:
        """Addresses that a pattern stands for, in no order."""
        return [self._address(path) for path in self._files.glob(pattern)]

    def open(self, address: str) -> IO[bytes]:
        """Open an object to be read."""
        file: IO[bytes] = self._files.open(address, "rb")
        return file

    def read(self, address: str, most: int) -> bytes:
        """The first `most` bytes of an object."""
        data: bytes = self._files.cat_file(address, start=0, end=most)
        return data

    def put(self, file: str, address: str) -> None:
        """Let a local file appear as an object, whole."""
        self._files.put_file(file, address)

    def _address(self, path: str) -> str:
        return f"{self._scheme}://{path.lstrip('/')}"

"""The folder of an archive's results, on a disk or in object storage: a file appears there whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Protocol

from acl_runtime.archive.urls import Storage, scheme_of
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import is_held, locked_folder

_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.\w+")  # as `atomic_file` calls them


class Folder(Protocol):
    """Where results lie."""

    name: str

    def names(self) -> list[str]:
        """Names of the files in it, in order; none where there is no such folder yet."""
        ...

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file to be read; FileNotFoundError if there is none."""
        ...

    def new(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local path; what is written there becomes the file on success, whole, replacing an older one."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder alone, and remove what a run that was killed left half-written.

        Raises:
            InputError: Another process holds it.
        """
        ...

    def is_held(self) -> bool:
        """Whether a run holds it, as far as can be told."""
        ...


class LocalFolder:
    """A folder of a file system, NFS among them."""

    def __init__(self, path: Path) -> None:
        """Name one; it is made when it is held."""
        self.name, self._path = str(path), path

    def names(self) -> list[str]:
        """As of `Folder`."""
        return sorted(os.listdir(self._path)) if self._path.exists() else []

    def open(self, name: str) -> IO[bytes]:
        """As of `Folder`."""
        return open(self._path / name, "rb")

    def new(self, name: str) -> AbstractContextManager[Path]:
        """As of `Folder`."""
        return atomic_file(self._path / name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """As of `Folder`."""
        self._path.mkdir(parents=True, exist_ok=True)
        with locked_folder(self._path, "wait until it has ended, or name another folder"):
            remove_temporary(self._path)
            yield

    def is_held(self) -> bool:
        """As of `Folder`."""
        return is_held(self._path)


class StoredFolder:
    """A folder of object storage.

    Storage knows no locks: two runs at once do the same work twice and write the same objects, so that no picture is
    in the results twice.
    """

    def __init__(self, address: str) -> None:
        """Name one."""
        self.name, self._storage = address.rstrip("/"), Storage(address)

    def names(self) -> list[str]:
        """As of `Folder`."""
        return sorted(name for name, is_folder in self._storage.entries(self.name) if not is_folder)

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """As of `Folder`."""
        return self._storage.open(f"{self.name}/{name}")

    @contextmanager
    def new(self, name: str) -> Iterator[Path]:
        """As of `Folder`."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, name)
            yield path
            self._storage.put(str(path), f"{self.name}/{name}")

    def held(self) -> AbstractContextManager[None]:
        """Do nothing: there is no lock, and nothing is half-written."""
        return nullcontext()

    def is_held(self) -> bool:
        """False: nobody knows."""
        return False


def open_folder(name: str) -> Folder:
    """The folder of a path or an address.

    Raises:
        InputError: It is empty, such as a shell's variable that is not set, or a file.
    """
    if not name:
        raise InputError("the folder of results has an empty name; name one, such as results")
    if scheme_of(name):
        return StoredFolder(name)
    if Path(name).is_file():
        raise InputError(f"{name}: is a file; name a folder of results")
    return LocalFolder(Path(name))


def remove_temporary(folder: Path) -> None:
    """Remove files that a process was writing when it was killed."""
    for name in os.listdir(folder) if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(name):
            (folder / name).unlink(missing_ok=True)

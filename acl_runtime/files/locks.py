"""Hold a file or a folder alone, so that two processes never write the same thing; a killed holder lets go."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from acl_runtime.files.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


LOCK = ".lock"  # empty file in a folder that is, or was, held
_held_here = (
    threading.local()
)  # `folders`: those that this thread holds; the system knows open files, not threads


@contextmanager
def locked_folder(folder: Path | str, remedy: str = "wait until it has ended") -> Iterator[None]:
    """Hold a folder through the hidden file `.lock` in it, which stays there, empty.

    A thread that holds it may hold it again: what writes a part of a folder may be called by what writes the whole.

    Args:
        folder: It must exist and be writable.
        remedy: What to do while another process holds it.

    Raises:
        InputError: Another process holds it; the message says which, where the system tells.
    """
    held: set[tuple[int, int]] = vars(_held_here).setdefault("folders", set())
    with open(Path(folder) / LOCK, "ab") as file:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if identity in held:
            yield
            return
        lock(file, folder, remedy)
        held.add(identity)
        try:
            yield
        finally:
            held.discard(identity)


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder."""
    try:
        with _open_lock(folder) as file:
            lock(file, folder)
    except FileNotFoundError:
        return False
    except InputError:
        return True
    return False


def _open_lock(folder: Path) -> IO[bytes]:
    """Open to write, which NFS wants of whoever asks for a lock; to read where we may not write."""
    try:
        return open(folder / LOCK, "rb+")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return open(folder / LOCK, "rb")


def lock(file: IO[Any], path: Path | str, remedy: str = "wait until it has ended") -> None:
    """Hold an open file until it is closed.

    Args:
        file: Open for writing; to keep what another process writes, open it to append.
        path: What to call it in the message.
        remedy: What to do while another process holds it.

    Raises:
        InputError: Another process holds it; the message says which, where the system tells.
    """
    try:
        _lock(file.fileno())
    except (BlockingIOError, PermissionError) as error:  # what POSIX and Windows say of a file that is held
        raise InputError(f"{path}: is in use by {_holder(file.fileno())}; {remedy}") from error


if sys.platform == "win32":  # not run: written after the documentation of msvcrt.locking

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 2**31 - 2, os.SEEK_SET)  # far behind the bytes, which others may read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(descriptor: int) -> str:
    """The process that holds a file, as Linux tells: "process 123 (acl watch bundle incoming)"."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
        number = next(row[4] for row in rows if row[5].rpartition(":")[2] == inode and row[1] != "->")
        command = Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, StopIteration, IndexError):  # another system, or it let go meanwhile
        return "another process"
    words = " ".join(" ".join([os.path.basename(command[0]), *command[1:]]).split())
    return f"process {number} ({words[:80]})"

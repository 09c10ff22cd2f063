"""Write files and folders so that a crash, a full disk, Ctrl-C or a power cut leaves the old or the new, never half.

A folder is replaced by an exchange of names where the system has one (Linux, on its usual file systems): at no moment
is there none. Elsewhere the old folder is put aside first, and a crash between the two renames leaves it there, as
`.NAME.<hex>.old`; the next to write the folder says so.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import LOCK, is_held, locked_folder

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h and fs.h
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # what a kernel or a file system without it says
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # what a file system whose folders cannot be synced says
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # of a write no system names the file
_NEWBORN_S = 60.0  # a temporary folder this young may be between its making and its lock


@contextmanager
def atomic_file(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; what is written there becomes `path` on success.

    Missing parent folders are made. Whatever is raised inside, the temporary file is removed and `path` is as
    it was before; SIGTERM and SIGHUP are raised as SystemExit, unless the program has its own way with them.

    Args:
        path: File to write; an older one is replaced.
        durable: Whether to wait until the disk has the bytes and the name, so that a power cut loses nothing either.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing where it did; its target is replaced
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: is not a regular file; name a file to write")
    _make_folder(target.parent, durable=durable)
    temporary = target.with_name(f".{secrets.token_hex(6)}{target.suffix}")
    with _signals_raise():
        try:
            yield temporary
            if durable:
                _sync_file(temporary)
            os.replace(temporary, target)
            if durable:
                sync_folder(target.parent)
        except OSError as error:
            if error.errno is None or error.errno not in _FULL or error.filename:
                raise
            raise OSError(
                error.errno, os.strerror(error.errno), os.fspath(path)
            ) from error  # which disk it is
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, *, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` on success, replacing an older one.

    An older one is held meanwhile, as by `locked_folder`, and so is the temporary one. What an earlier process left
    beside it when it was killed is removed. Signals are as in `atomic_file`.

    Args:
        path: Folder to make. It may be absent, empty, or hold a file called `marker`; any other is refused,
            before and after the work, because it is not ours to delete.
        marker: Name of the file by which a folder of ours is known, such as `manifest.json`.
    """
    target = Path(os.path.realpath(path))
    _check_replaceable(target, marker)
    _make_folder(target.parent, durable=True)
    _remove_left_over(target)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    with _signals_raise(), _held(target) if (target / marker).is_file() else nullcontext():
        try:
            temporary.mkdir()
            with _held(temporary):
                yield temporary
                _sync_tree(temporary)
                _check_replaceable(target, marker)
                (temporary / LOCK).unlink(missing_ok=True)
                _swap(temporary, target)
                sync_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # the old one after a success


def sha256(path: Path | str) -> str:
    """Digest of a file's bytes, 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names; without it a file that was written may be gone after a power cut."""
    if sys.platform == "win32":  # which cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # such as a network share, which keeps names in its own way
            raise
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    with open(
        path, "rb+" if sys.platform == "win32" else "rb"
    ) as file:  # Windows syncs only what it may write
        os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    for inner in sorted(folder.rglob("*")):
        if inner.is_dir() and not inner.is_symlink():
            sync_folder(inner)
        elif inner.is_file() and not inner.is_symlink():
            _sync_file(inner)
    sync_folder(folder)


def _make_folder(folder: Path, *, durable: bool) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, durable=durable)
    folder.mkdir(exist_ok=True)
    if durable:
        sync_folder(folder.parent)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the signals that end a process at once into SystemExit, so that temporary files are removed."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python hands signals to the main thread only
        numbers = []
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is _exit:  # the work may have set its own way with it
                signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as a shell counts


def _held(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder that is going to be renamed, which Windows refuses while a file in it is open."""
    return nullcontext() if sys.platform == "win32" else locked_folder(folder)


def _check_replaceable(folder: Path, marker: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; name a folder to write")
    if os.path.ismount(folder) or folder == Path.cwd():
        raise InputError(f"{folder}: is a mount point or the current folder; name a new folder inside it")
    if any(folder.iterdir()) and not (folder / marker).is_file():
        raise InputError(f"{folder}: is not empty and holds no {marker}; name a new or an empty folder")


def _remove_left_over(target: Path) -> None:
    """Remove temporary folders of `target` whose process is gone; tell of an old one that was put aside."""
    ours = re.compile(re.escape(f".{target.name[:100]}.") + r"[0-9a-f]{12}(\.old)?")
    for folder in target.parent.glob(".*"):
        if not (match := ours.fullmatch(folder.name)) or folder.is_symlink() or not folder.is_dir():
            continue
        if match[1]:
            logging.getLogger("acl").info("%s: was put aside by a process that was killed; delete it", folder)
            continue
        is_newborn = not (folder / LOCK).exists() and time.time() - folder.stat().st_mtime < _NEWBORN_S
        if not is_newborn and not is_held(folder):
            shutil.rmtree(folder)
            logging.getLogger("acl").info("%s: removed, left by a process that was killed", folder)


def _swap(new: Path, target: Path) -> None:
    """Make `new` the folder `target`; the older one, if there is one, is called `new` afterwards."""
    if not target.exists():
        os.rename(new, target)
    elif not _exchange(new, target):
        aside = target.with_name(f"{new.name}.old")
        try:
            os.rename(target, aside)
            os.rename(new, target)
        except BaseException:
            if aside.exists() and not target.exists():
                os.rename(aside, target)
            raise
        os.rename(aside, new)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; false where the system cannot."""
    rename = (
        getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    )
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))

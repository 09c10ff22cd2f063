"""Write files and folders so that a crash, a full disk or Ctrl-C leaves the old or the new, never half."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acl_runtime.files.errors import InputError


@contextmanager
def atomic_file(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; what is written there becomes `path` on success.

    Missing parent folders are made. Whatever is raised inside, the temporary file is removed and `path` is as
    it was before.

    Args:
        path: File to write; an older one is replaced.
        durable: Whether to wait until the disk has the bytes, so that a power cut loses nothing either.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing where it did; its target is replaced
    if target.exists() and not target.is_file():
        raise InputError(f"{path}: is not a regular file; name a file to write")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(6)}{target.suffix}")
    try:
        yield temporary
        if durable:
            _flush(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, *, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` on success, replacing an older one.

    Args:
        path: Folder to make. It may be absent, empty, or hold a file called `marker`; any other is refused,
            before and after the work, because it is not ours to delete.
        marker: Name of the file by which a folder of ours is known, such as `manifest.json`.
    """
    target = Path(os.path.realpath(path))
    _check_replaceable(target, marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _flush(file)
        _check_replaceable(target, marker)
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # absent after a success


def sha256(path: Path | str) -> str:
    """Digest of a file's bytes, 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _check_replaceable(folder: Path, marker: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; name a folder to write")
    if os.path.ismount(folder) or folder == Path.cwd():
        raise InputError(f"{folder}: is a mount point or the current folder; name a new folder inside it")
    if any(folder.iterdir()) and not (folder / marker).is_file():
        raise InputError(f"{folder}: is not empty and holds no {marker}; name a new or an empty folder")


def _swap(new: Path, target: Path) -> None:
    """Rename `new` to `target`; an older one is put aside, put back on failure, deleted at the end."""
    if not target.exists():
        os.rename(new, target)
        return
    aside = target.with_name(f"{new.name}.old")
    try:
        os.rename(target, aside)
        os.rename(new, target)
    except BaseException:
        if aside.exists() and not target.exists():
            os.rename(aside, target)
        raise
    shutil.rmtree(aside)

"""Git LFS pointers: small texts that stand for files which were not downloaded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

_BEGINNING, _LARGEST = b"version https://git-lfs", 1024  # bytes of a pointer, by Git LFS's specification


def refuse_pointers(root: Path, files: Collection[Path]) -> None:
    """Refuse a data set of which some files are pointers.

    Args:
        root: Its folder.
        files: Regular files in it.
    """
    pointers = [path for path in files if _is_pointer(path)]
    if pointers:
        names = shorten(
            str(path.relative_to(root) if path.is_relative_to(root) else path) for path in pointers
        )
        raise InputError(
            f"{root}: {len(pointers)} of {len(files)} files are Git LFS pointers, not the files themselves ({names}); "
            "run git lfs pull there"
        )


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _LARGEST:
        return False
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING

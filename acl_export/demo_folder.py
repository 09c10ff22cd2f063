"""The folder of a demonstration: an earlier one is replaced, but only its own files are ever removed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import LOCK
from acl_runtime.text.names import printable, shorten

MARKER = ".acl-demo"  # lists what the demonstration made
PARTS = (  # folders of its own
    "learning",
    "calibration",
    "unseen",
    "bundle",
    "bundles",
    "prompts.checkpoints",
    "report",
)
FILES = ("prompts.safetensors", "contact_sheet.png", "summary.json")
_CACHE = re.compile("bundle(s/[^/]+)?/engines/onnxruntime/")  # what using a bundle leaves there


@contextmanager
def demo_folder(output: Path, data: Path | None, *, kept: Collection[str] = ()) -> Iterator[None]:
    """Empty the folder of what an earlier demonstration made, and note at the end, however it comes, what this one did.

    Args:
        output: Folder of everything that the demonstration makes; made if absent.
        data: The user's images, if they are judged.
        kept: Which of `PARTS` stay.

    Raises:
        InputError: The folder is somebody else's, holds files that no demonstration made or that were changed since, or
            the user's images lie in it.
    """
    if data is not None and data.resolve().is_relative_to(output.resolve()):
        raise InputError(
            f"{output}: holds {data}, the images to judge; name another folder for the demonstration"
        )
    _check(output)
    for part in PARTS:
        if part not in kept and (output / part).exists():
            shutil.rmtree(output / part)
    output.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with atomic_file(output / MARKER) as temporary:
            temporary.write_text(json.dumps(_list(output), indent=1), encoding="utf-8")


def _check(output: Path) -> None:
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / MARKER).exists():
        raise InputError(f"{output}: is not empty and no demo made it; name a new or an empty folder")
    try:
        made = json.loads((output / MARKER).read_text(encoding="utf-8") or "{}")
    except ValueError:
        made = {}
    theirs = [printable(name) for name, state in _list(output).items() if made.get(name) != state]
    if theirs:
        raise InputError(
            f"{output}: holds files that the demo did not make, or that were changed since ({shorten(theirs)}); name "
            "another folder, or delete it yourself"
        )


def _list(output: Path) -> dict[str, list[int]]:
    """Size and time of change, in ns, of every file that the next demonstration would remove or replace."""
    paths = [output / name for name in FILES]
    paths += [path for part in PARTS for path in sorted((output / part).rglob("*"))]
    return {
        name: [path.lstat().st_size, path.lstat().st_mtime_ns]
        for path in paths
        if (path.is_symlink() or path.is_file()) and path.name != LOCK
        for name in [path.relative_to(output).as_posix()]
        if not _CACHE.match(name)
    }

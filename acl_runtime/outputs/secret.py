"""Read a password or key from a file of its own, which nobody else may read."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from acl_runtime.files.errors import InputError


def read_secret(path: Path) -> str:
    """The first line of a file.

    Raises:
        InputError: It cannot be read, is empty, or others may read it.
    """
    return read_secrets(path)[0]


def read_secrets(path: Path, *, is_guarded: bool = False) -> list[str]:
    """The lines of a file that are not empty.

    Args:
        path: Of the file.
        is_guarded: Whether something else keeps others from it, as systemd does with its credentials.

    Raises:
        InputError: It cannot be read, is empty, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); write the secret there, on one line") from error
    if sys.platform != "win32" and not is_guarded and stat.S_IMODE(mode) & 0o077:
        raise InputError(f"{path}: others may read it; run: chmod 600 {path}")
    if not any(lines):
        raise InputError(f"{path}: is empty; write the secret there, on one line")
    return [line for line in lines if line]

"""Which files of a watched folder are new and complete."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from acl_runtime.images.decode import IMAGES
from acl_runtime.sources.journal import Version, forget
from acl_runtime.text.names import natural_key

_TAIL = 1 << 16  # bytes at the end of a file in which its end mark is looked for
_END_MARKS = {b"\x89PNG": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}  # by how the file begins


def scan(folder: str) -> tuple[dict[str, Version], dict[str, str]]:
    """The images below a folder as they are now. Hidden files, hidden folders and linked folders are passed over.

    Args:
        folder: It may be read-only, or gone.

    Returns:
        Path to version, and path to problem of what could not be looked at. Paths are relative to the folder,
        with "/"; those of folders end with it, that of the folder itself is "".
    """
    found: dict[str, Version] = {}
    problems: dict[str, str] = {}
    folders = [""]
    while folders:
        inside = folders.pop()
        try:
            with os.scandir(os.path.join(folder, inside)) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        _look(entry, inside, found, folders, problems)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not inside:  # else deleted since its parent was listed
                problems[inside] = _say(error)
        except OSError as error:
            problems[inside] = _say(error)
    return found, problems


def version_of(path: str) -> Version | None:
    """Size and mtime of a regular file; None where there is none, or none to be seen: `scan` says why."""
    try:
        return _version(os.stat(path))
    except OSError:
        return None


def is_whole(path: str) -> bool:
    """False for a PNG or JPEG without its end mark, or a BMP shorter than it says.

    Decoders let these pass: where only the last bytes are missing, or where the writer reserved the space
    first and the rest is still zeros.
    """
    with open(path, "rb") as file:
        head = file.read(6)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:], "little") <= size
    return all(mark in tail for start, mark in _END_MARKS.items() if head.startswith(start))


@dataclass
class _Waiting:
    version: Version
    since: float  # when this version was first seen
    order: tuple[object, ...]  # of arrival
    tried: bool = False  # and found unreadable


class Arrivals:
    """What was judged, what waits, and what of it is due. Times are seconds of any one clock that only rises."""

    def __init__(self, *, settle: float, patience: float) -> None:
        """Begin with nothing known.

        Args:
            settle: A file is due once its version is this old.
            patience: So old is a version that could not be read when it is due again, for the last time.
        """
        self.known: dict[str, Version] = {}  # as judged last, oldest first
        self._settle, self._patience = settle, patience
        self._waiting: dict[str, _Waiting] = {}

    def observe(self, found: Mapping[str, Version], away: tuple[str, ...], now: float) -> list[str]:
        """Take note of what is there now.

        Args:
            found: Path to version, from `scan`.
            away: Beginnings of paths that could not be looked at.
            now: Time.

        Returns:
            Paths that were due and are gone: they can no longer be judged.
        """
        for path, version in found.items():
            waiting = self._waiting.get(path)
            if version == self.known.get(path):
                self._waiting.pop(path, None)
            elif waiting is None or waiting.version != version:
                self._waiting[path] = _Waiting(version, now, _arrival_order(path, version))
        due = set(self.due(now))
        gone = [path for path in self._waiting if path not in found and not path.startswith(away)]
        for path in gone:
            del self._waiting[path]
        # A folder that is empty all of a sudden may be the mount point of a disk that is away.
        forget(self.known, found, away if found else ("",))
        return [path for path in gone if path in due]

    def due(self, now: float) -> list[str]:
        """Paths to judge, in order of arrival: mtime, then natural order."""
        due = [
            (waiting.order, path)
            for path, waiting in self._waiting.items()
            if now - waiting.since >= (self._patience if waiting.tried else self._settle)
        ]
        return [path for _, path in sorted(due)]

    def version(self, path: str) -> Version:
        """The version of a file that is due."""
        return self._waiting[path].version

    def is_last_try(self, path: str, now: float) -> bool:
        """Whether patience with a file that is due is at its end."""
        return now - self._waiting[path].since >= self._patience

    def put_off(self, path: str) -> None:
        """It cannot be read yet: wait until it changes, or patience ends."""
        self._waiting[path].tried = True

    def restart(self, path: str, now: float) -> None:
        """It is changing: wait until it settles."""
        self._waiting[path].since = now

    def done(self, path: str) -> None:
        """It was judged."""
        self.known.pop(path, None)  # the newest comes last
        self.known[path] = self._waiting.pop(path).version


def _look(
    entry: os.DirEntry[str],
    inside: str,
    found: dict[str, Version],
    folders: list[str],
    problems: dict[str, str],
) -> None:
    path = inside + entry.name
    try:
        if entry.is_dir(follow_symlinks=False):
            folders.append(f"{path}/")
        elif entry.name.lower().endswith(IMAGES) and (version := _version(entry.stat())) is not None:
            found[path] = version
    except FileNotFoundError:
        pass  # deleted since the folder was listed, or a link to nothing
    except OSError as error:
        problems[path] = _say(error)


def _version(status: os.stat_result) -> Version | None:
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _arrival_order(path: str, version: Version) -> tuple[object, ...]:
    return (version[1], [natural_key(part) for part in PurePosixPath(path).parts])


def _say(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

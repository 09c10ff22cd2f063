"""Which files of a watched folder are new and complete."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath

from acl_runtime.files.clutter import is_clutter, unread_ending
from acl_runtime.images.decode import IMAGES
from acl_runtime.sources.known import Known, Version, split
from acl_runtime.text.names import natural_key

_TAIL = 1 << 16  # bytes at the end of a file in which its end mark is looked for
_END_MARKS = {b"\x89PNG": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}  # by how the file begins
_COMPARING_S = 0.2  # that one look at the folder spends on files that it knows


@dataclass
class Look:
    """What a look at a folder found. Paths are relative to the folder, with "/"; those of folders end with it.

    Attributes:
        found: Versions of the images that may be new: all that are not known, and those known under another version.
        problems: What could not be looked at, and why; the watched folder itself is "".
    """

    found: dict[str, Version] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class WatchedFolder:
    """The images below a folder. Hidden files, what systems keep for themselves and linked folders are passed over.

    A look lists all names, which is cheap, and asks for the version of what is not known. Whether known files have
    changed is asked too, in so far as `_COMPARING_S` allows, so for all where they are fewer than some ten thousand,
    and else for a part of them at each look.
    """

    def __init__(self, folder: str, known: Known, *, own: str = "") -> None:
        """Look at nothing yet.

        Args:
            folder: It may be read-only, or gone.
            known: The files that were judged; it is told which of them are gone.
            own: How the names of files begin that the watch itself writes; empty for none.
        """
        self.passed_over: Counter[str] = Counter()  # files so far that are not read, by ending
        self._folder, self._known, self._own = folder, known, own
        self._subfolders: dict[str, set[str]] = {}  # names of folders by folder
        self._others: dict[str, set[str]] = {}  # names that are neither images nor folders, by folder
        self._comparing: Iterator[str] = iter(())  # from the second look on: first what is new

    def look(self, waiting: Iterable[str] = ()) -> Look:
        """Look at all names.

        Args:
            waiting: Paths whose version is wanted, known or not.
        """
        look = Look()
        folders, visited, gone = [""], set(), {}
        holds_any = False
        while folders:
            inside = folders.pop()
            names = self._list(inside, look)
            if names is None:
                continue
            visited.add(inside)
            known = self._known.names(inside)
            unseen = names - known.keys()
            if len(names) - len(unseen) < len(known):
                gone[inside] = [name for name in known if name not in names]
            holds_any = holds_any or len(names) > len(unseen)
            self._sort(inside, unseen, look)
            folders += [f"{inside}{name}/" for name in self._subfolders.get(inside, ())]
        if holds_any or look.found:  # else it may be the mount point of a disk that is away
            self._forget(gone, visited, tuple(look.problems))
        self._ask(waiting, look)
        self._compare(look)
        return look

    def _list(self, inside: str, look: Look) -> set[str] | None:
        """The names in a folder; None where it cannot be listed."""
        try:
            return set(os.listdir(self._full(inside)))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not inside:
                look.problems[inside] = _say(error)
            else:  # deleted since its parent was listed
                parent, name = split(inside[:-1])
                self._subfolders[parent].discard(name)
        except OSError as error:
            look.problems[inside] = _say(error)
        return None

    def _sort(self, inside: str, unseen: set[str], look: Look) -> None:
        """Tell images, folders and others among the names that are not known files."""
        folders = self._subfolders.get(inside, set()) & unseen
        others = self._others.get(inside, set()) & unseen
        for name in unseen - folders - others:
            path, is_image = inside + name, name.lower().endswith(IMAGES)
            if is_clutter(name):
                others.add(name)
            elif is_image and (version := self._version(path, look)) is not None:
                look.found[path] = version
            elif stat.S_ISDIR(mode := self._mode(path)):
                folders.add(name)
            elif mode and not is_image:
                others.add(name)
                is_own = bool(self._own) and name.startswith(self._own)
                self.passed_over.update(filter(None, [] if is_own else [unread_ending(name)]))
        self._subfolders[inside], self._others[inside] = folders, others

    def _mode(self, path: str) -> int:
        """What kind of file it is, itself and not what it links to; 0 where that cannot be told."""
        try:
            return os.lstat(self._full(path)).st_mode
        except OSError:
            return 0

    def _forget(self, gone: Mapping[str, list[str]], visited: set[str], away: tuple[str, ...]) -> None:
        for inside, names in gone.items():
            self._known.lose(inside, names)
        self._known.lose_folders(visited, away)
        for folder in self._subfolders.keys() - visited:
            del self._subfolders[folder], self._others[folder]

    def _ask(self, paths: Iterable[str], look: Look) -> None:
        """Find the versions of files that were not met among the unknown."""
        for path in paths:
            version = None if path in look.found else self._version(path, look)
            if version is not None:
                look.found[path] = version

    def _compare(self, look: Look) -> None:
        """Go on with the known files where the last look stopped, or begin again."""
        end = time.monotonic() + _COMPARING_S
        for path in self._comparing:
            version = self._version(path, look)
            if version is not None and version != self._known.version(path):
                look.found[path] = version
            if time.monotonic() > end:
                return
        self._comparing = self._known.paths()

    def _version(self, path: str, look: Look) -> Version | None:
        """The version of a regular file, or of the one that a link leads to."""
        try:
            return _version(os.stat(self._full(path)))
        except (FileNotFoundError, NotADirectoryError):  # deleted since it was listed, or a link to nothing
            return None
        except OSError as error:
            look.problems[path] = _say(error)
            return None

    def _full(self, path: str) -> str:
        return os.path.join(self._folder, path)


def version_of(path: str) -> Version | None:
    """Size and mtime of a regular file; None where there is none, or none to be seen: a look says why."""
    try:
        return _version(os.stat(path))
    except OSError:
        return None


def is_whole(path: str) -> bool:
    """False for a PNG or JPEG without its end mark, or a BMP shorter than it says.

    Decoders let these pass: where only the last bytes are missing, or where the writer reserved the space
    first and the rest is still zeros.
    """
    with open(path, "rb", opener=_open_at_once) as file:
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
    tried: bool = False  # and found unreadable


class Arrivals:
    """What waits to be judged, and what of it is due. Times are seconds of any one clock that only rises."""

    def __init__(self, known: Known, *, settle: float, patience: float) -> None:
        """Begin with nothing that waits.

        Args:
            known: What was judged.
            settle: A file is due once its version is this old.
            patience: So old is a version that could not be read when it is due again, for the last time.
        """
        self._known = known
        self._settle, self._patience = settle, patience
        self._waiting: dict[str, _Waiting] = {}

    def __iter__(self) -> Iterator[str]:
        """All paths that wait."""
        return iter(list(self._waiting))

    def observe(self, found: Mapping[str, Version], away: tuple[str, ...], now: float) -> list[str]:
        """Take note of what a look found.

        Args:
            found: Path to version, of all files that are not known, and of all that wait.
            away: Beginnings of paths that could not be looked at.
            now: Time.

        Returns:
            Paths that were due and are gone: they can no longer be judged.
        """
        due = set(self.due(now))
        self.update(found, now)
        gone = [path for path in self._waiting if path not in found and not path.startswith(away)]
        for path in gone:
            del self._waiting[path]
        return [path for path in gone if path in due]

    def update(self, found: Mapping[str, Version], now: float) -> None:
        """Take note of the versions of some files, without a look at the others."""
        for path, version in found.items():
            waiting = self._waiting.get(path)
            if version == self._known.version(path):
                self._known.add(path, version)  # it came back
                self._waiting.pop(path, None)
            elif waiting is None or waiting.version != version:
                self._waiting[path] = _Waiting(version, now)

    def settling(self, now: float) -> list[str]:
        """Paths that wait for their version to be old enough for a first try."""
        return [
            path
            for path, waiting in self._waiting.items()
            if not waiting.tried and now - waiting.since < self._settle
        ]

    def due(self, now: float) -> list[str]:
        """Paths to judge, in order of arrival: mtime, then natural order."""
        due = [
            (_mtime_ns(waiting.version), path)
            for path, waiting in self._waiting.items()
            if now - waiting.since >= (self._patience if waiting.tried else self._settle)
        ]
        ordered: list[str] = []
        for _, same in groupby(sorted(due), key=lambda item: item[0]):
            ordered += sorted((path for _, path in same), key=_natural_order)
        return ordered

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
        """It was judged, and is known."""
        del self._waiting[path]


def _version(status: os.stat_result) -> Version | None:
    return f"{status.st_size} {status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else None


def _mtime_ns(version: Version) -> int:
    return int(version.partition(" ")[2])


def _natural_order(path: str) -> list[object]:
    return [natural_key(part) for part in PurePosixPath(path).parts]


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that took its place is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _say(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

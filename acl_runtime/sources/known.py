"""Which files of a watched folder were judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

Version = str  # "SIZE MTIME_NS", in bytes and nanoseconds: another version is another picture
REMEMBERED = 100_000  # files that are no longer there; about 20 MB


class Known:
    """Files by folder and name, each with the version that was judged last; memory stays flat over years.

    Paths are relative to the watched folder, with "/"; a folder's ends with it, and that of the watched folder itself
    is "". Files that are gone are remembered too, the newest `REMEMBERED` of them, because files come back: moved
    away and returned, restored from a copy, or on a disk that was not mounted for a while.
    """

    def __init__(
        self,
        folders: Mapping[str, dict[str, Version]] | None = None,
        gone: Mapping[str, Version] | None = None,
    ) -> None:
        """Begin with what was known before.

        Args:
            folders: Versions by name, by folder.
            gone: Versions by path of files that are gone, oldest first.
        """
        self.folders: dict[str, dict[str, Version]] = dict(folders or {})
        self.gone: dict[str, Version] = dict(gone or {})

    def __len__(self) -> int:
        return len(self.gone) + sum(map(len, self.folders.values()))

    def names(self, folder: str) -> Mapping[str, Version]:
        """The versions of the files in a folder by name, without those that are gone."""
        return self.folders.get(folder, {})

    def version(self, path: str) -> Version | None:
        """The version that was judged last; None where none was."""
        folder, name = split(path)
        return self.names(folder).get(name) or self.gone.get(path)

    def add(self, path: str, version: Version) -> None:
        """Take note that a file is there, and was judged."""
        folder, name = split(path)
        self.gone.pop(path, None)
        self.folders.setdefault(folder, {})[name] = version

    def lose(self, folder: str, names: Iterable[str]) -> None:
        """Take note that files are gone."""
        inside = self.folders[folder]
        for name in names:
            self.gone[folder + name] = inside.pop(name)
        if not inside:
            del self.folders[folder]
        for path in list(islice(self.gone, max(0, len(self.gone) - REMEMBERED))):
            del self.gone[path]

    def lose_folders(self, visited: Collection[str], away: tuple[str, ...]) -> None:
        """Take note that all folders but the visited are gone, and those below `away`, which cannot be seen."""
        for folder in self.folders.keys() - set(visited):
            if not folder.startswith(away):
                self.lose(folder, list(self.folders[folder]))

    def paths(self) -> Iterator[str]:
        """The files that are there; the iterator survives that files come and go."""
        for folder in list(self.folders):
            for name in list(self.names(folder)):
                yield folder + name


def split(path: str) -> tuple[str, str]:
    """Folder and name of a path below the watched folder."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name

"""The pictures that folders, lists and patterns name, one after the other, in an order that stays."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from acl_runtime.archive.parquet import iter_paths
from acl_runtime.archive.urls import Storage, scheme_of
from acl_runtime.files.clutter import count_words, is_clutter, unread_ending
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import IMAGES
from acl_runtime.sources.folders import VIDEOS
from acl_runtime.text.names import natural_key

LOG = logging.getLogger("acl")
PARQUET = (".parquet", ".pq")
MOST_LINE = 1 << 16  # bytes of a line of a list; no path or address is as long
Entries = Callable[[str], list[tuple[str, bool]]]
"""Names of what lies in a folder, and whether each is a folder too."""


def iter_pictures(manifests: Sequence[str]) -> Iterator[str]:
    """Absolute paths, or addresses, of the pictures that manifests name, in the order of the manifests.

    A manifest is a folder, whose pictures come in natural order; a pattern such as `parts/*/cam1_*.png`; a picture; or
    a file that lists pictures, a text with a path on each line or Parquet with a column `path`, in its order. What a
    list names relatively lies beside it or below, never outside. Pictures that are not there are found out when they
    are read. Folders and lists are never in memory as a whole; what a pattern stands for is.

    Raises:
        InputError: A manifest is none of these, or a line of a list is not allowed.
        OSError: A folder or a list cannot be read.
    """
    for manifest in manifests:
        if not manifest:  # such as a shell's variable that is not set; never the current folder
            raise InputError("a folder, list or pattern has an empty name; name what to judge")
        yield from _in_storage(manifest) if scheme_of(manifest) else _on_disk(manifest)


def _on_disk(manifest: str) -> Iterator[str]:
    whole = os.path.abspath(manifest)
    if os.path.isdir(whole):
        yield from _noted(manifest, partial(_below, whole, _scan))
    elif not os.path.exists(whole):
        if not glob.has_magic(manifest):
            raise FileNotFoundError(f"{manifest}: no such file or folder; check the name")
        yield from _matching(manifest, glob.glob(whole_pattern(manifest), recursive=True))
    elif whole.lower().endswith(IMAGES):
        yield whole
    else:
        with open(whole, "rb") as file:
            yield from _listed(manifest, file, os.path.dirname(whole))


def _in_storage(manifest: str) -> Iterator[str]:
    storage, whole = Storage(manifest), manifest.rstrip("/")
    if not storage.exists(whole):
        if not glob.has_magic(whole):
            raise FileNotFoundError(f"{manifest}: no such file or folder; check the name")
        yield from _matching(whole, storage.glob(whole))
    elif not storage.is_file(whole):
        yield from _noted(whole, partial(_below, whole, storage.entries))
    elif whole.lower().endswith(IMAGES):
        yield whole
    else:
        with storage.open(whole) as file:
            yield from _listed(whole, file, whole.rpartition("/")[0])


def whole_pattern(manifest: str) -> str:
    """A pattern as an absolute one; the current folder's own name is none, whatever it holds."""
    return os.path.normpath(os.path.join(glob.escape(os.getcwd()), manifest))


def _noted(folder: str, below: Callable[[Counter[str]], Iterator[str]]) -> Iterator[str]:
    """The pictures below a folder; which other files people may take for pictures is noted at its end."""
    others: Counter[str] = Counter()
    yield from below(others)
    if others:
        LOG.info(
            "%s: files that are not read are passed over: %s; save pictures as PNG or JPEG, and judge videos with "
            "acl run",
            folder,
            count_words(others),
        )


def _below(folder: str, entries: Entries, others: Counter[str]) -> Iterator[str]:
    """The pictures below a folder, one folder's names in memory at a time; none is refused by whoever counts them."""
    for name, is_folder in sorted(entries(folder), key=lambda entry: natural_key(entry[0])):
        if is_clutter(name):
            continue
        path = f"{folder.rstrip('/')}/{name}" if scheme_of(folder) else os.path.join(folder, name)
        if is_folder:
            yield from _below(path, entries, others)
        elif name.lower().endswith(IMAGES):
            yield path
        elif ending := unread_ending(name):
            others[ending] += 1


def _scan(folder: str) -> list[tuple[str, bool]]:
    """As `Entries`; links to folders are passed over, as everywhere."""
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in found]
    return [(name, is_folder) for name, is_folder, is_link in entries if not (is_folder and is_link)]


def _matching(pattern: str, found: list[str]) -> Iterator[str]:
    pictures = [path for path in found if path.lower().endswith(IMAGES)]
    if not pictures:
        raise InputError(f"{pattern}: no picture has such a name ({' '.join(IMAGES)}); check the pattern")
    yield from sorted(pictures, key=_natural_order)


def _natural_order(path: str) -> list[object]:
    return [natural_key(part) for part in PurePosixPath(path).parts]


def _listed(name: str, file: IO[bytes], folder: str) -> Iterator[str]:
    """What a list names; see `iter_pictures`."""
    lower = name.lower()
    if lower.endswith(VIDEOS):
        raise InputError(f"{name}: is a video; judge it with acl run")
    lines = iter_paths(file, name) if lower.endswith(PARQUET) else _lines(file, name)
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise _no_list(name, f"line {number} is no text")
        if line:
            yield _resolve(line, folder, f"{name}, line {number}")


def _lines(file: IO[bytes], name: str) -> Iterator[str]:
    """The lines of a text; of what has no line ends, such as a model, no more than twice `MOST_LINE` is in memory."""
    rest, number = file.read(3).removeprefix(b"\xef\xbb\xbf"), 1
    while block := file.read(MOST_LINE):
        *lines, rest = (rest + block).split(b"\n")
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines)
        number += len(lines)
        if len(rest) > MOST_LINE:
            raise _no_list(name, f"line {number} is longer than {MOST_LINE} bytes")
    yield from (os.fsdecode(line.rstrip(b"\r")) for line in rest.split(b"\n"))


def _no_list(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: is no list of pictures ({problem}); name a text with a path on each line, or Parquet"
    )


def _resolve(line: str, folder: str, where: str) -> str:
    """A line of a list as an absolute path or an address."""
    try:
        is_address = bool(scheme_of(line))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if is_address or os.path.isabs(line):
        return line if is_address or ".." in line else os.path.normpath(line)
    inner = os.path.normpath(line)
    if inner == os.pardir or inner.startswith(os.pardir + os.sep):
        raise InputError(
            f"{where}: {line} leads out of the list's folder; write the whole path if that is meant"
        )
    return f"{folder}/{inner}" if scheme_of(folder) else os.path.join(folder, inner)

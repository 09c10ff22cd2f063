"""The images below a folder, and what is passed over beside them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from acl_runtime.files.errors import InputError
from acl_runtime.files.listing import is_passed_over
from acl_runtime.images.decode import IMAGES
from acl_runtime.text.names import natural_key

VIDEOS = (
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".asf",
    ),
    *(".flv", ".3gp", ".ogv", ".mjpeg", ".mjpg", ".h264", ".264", ".h265", ".265", ".hevc"),
)
_OTHER_PICTURES = (  # not read: rare, or of cameras' own; a folder of parts may hold them all the same
    *(
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jxr",
        ".tga",
        ".dds",
        ".exr",
        ".hdr",
        ".pfm",
        ".pcx",
        ".psd",
        ".ico",
    ),
    *(
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".raf",
        ".rw2",
        ".raw",
        ".dcm",
        ".fits",
        ".svg",
        ".eps",
    ),
    *(".apng", ".dib", ".jpx", ".jpf", ".j2c", ".jpc", ".sgi", ".ras", ".xbm", ".xpm", ".qoi"),
)
LOG = logging.getLogger("acl")


@dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    images: list[str]  # paths, in natural order
    problems: dict[str, str]  # path of a folder inside that cannot be listed -> why


def list_folder(folder: str) -> Listing:
    """The images below a folder; what is passed over beside them is noted.

    Hidden files and folders, folders that a system keeps for itself and linked folders are passed over.

    Raises:
        InputError: The folder holds no images.
        OSError: The folder itself cannot be listed.
    """
    images: list[str] = []
    others: list[str] = []
    problems: dict[str, str] = {}

    def note_problem(error: OSError) -> None:
        if os.fspath(error.filename) == folder:
            raise error
        problems[os.fspath(error.filename)] = (error.strerror or str(error)).lower()

    for parent, folders, files in os.walk(folder, onerror=note_problem):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        visible = [name for name in files if not is_passed_over(name)]
        images += [os.path.join(parent, name) for name in visible if name.lower().endswith(IMAGES)]
        others += [name for name in visible if not name.lower().endswith(IMAGES)]
    if words := passed_over_words(others):
        LOG.info("%s: %s", folder, words)
    if not images and not problems:
        raise InputError(f"{folder}: holds no images ({' '.join(IMAGES)}); name a folder of images")
    return Listing(sorted(images, key=_natural_order), problems)


def passed_over_words(names: Iterable[str]) -> str:
    """What to say of files that are no images to us and might be to a user; empty where there are none.

    Args:
        names: File names that do not end as `IMAGES`.
    """
    suffixes = [PurePath(name).suffix.lower() for name in names]
    pictures = Counter(suffix for suffix in suffixes if suffix in _OTHER_PICTURES)
    videos = Counter(suffix for suffix in suffixes if suffix in VIDEOS)
    words = []
    if pictures:
        words.append(f"{_counts(pictures)} are not read, save them as PNG or JPEG")
    if videos:
        words.append(f"{_counts(videos)} in a folder are passed over, name videos one by one")
    return "; ".join(words)


def _counts(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))


def _natural_order(path: str) -> list[object]:
    return [natural_key(part) for part in PurePath(path).parts]

"""The images below a folder, and what is passed over beside them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import PurePath

from acl_runtime.files.clutter import count_passed_over, is_clutter
from acl_runtime.files.errors import InputError
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
LOG = logging.getLogger("acl")


@dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    images: list[str]  # paths, in natural order
    problems: dict[str, str]  # path of a folder inside that cannot be listed -> why


def list_folder(folder: str) -> Listing:
    """The images below a folder; what is passed over beside them is noted.

    Hidden files and folders, folders that a system keeps for itself, linked folders and overlays are passed over.

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
        folders[:] = [name for name in folders if not is_clutter(name)]
        visible = [name for name in files if not is_clutter(name)]
        images += [os.path.join(parent, name) for name in visible if name.lower().endswith(IMAGES)]
        others += [name for name in visible if not name.lower().endswith(IMAGES)]
    if counts := count_passed_over(others):
        LOG.info(
            "%s: files that are not read are passed over: %s; save pictures as PNG or JPEG, and name videos one by one",
            folder,
            counts,
        )
    if not images and not problems:
        raise InputError(f"{folder}: holds no images ({' '.join(IMAGES)}); name a folder of images")
    return Listing(sorted(images, key=_natural_order), problems)


def _natural_order(path: str) -> list[object]:
    return [natural_key(part) for part in PurePath(path).parts]

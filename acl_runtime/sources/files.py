"""Frames from images, folders, videos and cameras."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.decode import ReadSettings, load_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.folders import VIDEOS, list_folder
from acl_runtime.sources.videos import read_camera, read_video

_LAST_CAMERA = 2**31 - 1  # OpenCV takes a C int


@dataclass(frozen=True)
class Source:
    """An image file, a video file or a camera; or a folder that cannot be listed."""

    path: str  # as the user named it, or below the folder that the user named; a number for a camera
    name: PurePath  # what to call its results, below the folder of all the sources; without suffix if unique
    reading: ReadSettings = field(default_factory=ReadSettings)
    problem: str = ""  # why it is known beforehand to give no frames

    @property
    def is_camera(self) -> bool:
        """Whether the path is a camera's number."""
        return _is_number(self.path) and not os.path.exists(self.path)

    @property
    def is_video(self) -> bool:
        """Whether frames come from a video file or a camera."""
        return self.is_camera or Path(self.path).suffix.lower() in VIDEOS


def list_sources(paths: Sequence[Path | str], reading: ReadSettings | None = None) -> list[Source]:
    """What there is to look at: a folder becomes the images below it, in natural order (2 before 10).

    What a folder does not give is said by `list_folder`; a folder inside that cannot be listed becomes a source
    that gives a BadFrame. Results are named after the file, relative to the deepest folder that holds all of
    `paths`; files that differ in their suffix only keep it.

    Args:
        paths: Image files, video files, folders, and camera numbers such as "0".
        reading: How to read image files and videos.

    Raises:
        FileNotFoundError: One of the paths does not exist.
        InputError: A folder holds no images, or there is no camera of such a number.
    """
    reading = reading or ReadSettings()
    roots = [os.path.abspath(path if os.path.isdir(path) else Path(path).parent) for path in paths]
    common = os.path.commonpath(roots) if roots else ""
    problems: dict[str, str] = {}
    files = [file for path in paths for file in _expand(str(path), problems)]
    relative = [PurePath(os.path.relpath(os.path.abspath(file), common)) for file in files]
    uses = Counter(name.with_suffix("") for name in set(relative))
    stems = [name.with_suffix("") for name in relative]
    named = zip(files, relative, stems, strict=True)
    return [
        Source(file, stem if uses[stem] == 1 else full, reading, problems.get(file, ""))
        for file, full, stem in named
    ]


def iter_frames(sources: Iterable[Source]) -> Iterator[Frame | BadFrame]:
    """The frames of all sources, in order; what cannot be read comes as a BadFrame in its place."""
    for source in sources:
        if source.problem:
            yield BadFrame(source.path, 0, source.problem)
        elif source.is_camera:
            yield from read_camera(source.path, source.name)
        elif source.is_video:
            yield from read_video(source.path, source.name, source.reading)
        else:
            yield _read_image(source)


def read_as(sources: Iterable[Source], reading: ReadSettings) -> list[Source]:
    """The same sources, read with other settings."""
    return [replace(source, reading=reading) for source in sources]


def _read_image(source: Source) -> Frame | BadFrame:
    try:
        return Frame(source.path, 0, source.name, load_frame(source.path, source.reading))
    except (FrameError, OSError) as error:
        return BadFrame(source.path, 0, str(error))


def _expand(path: str, problems: dict[str, str]) -> list[str]:
    """The files to read for one argument; folders that cannot be listed are among them and in `problems`."""
    if os.path.isdir(path):
        listing = list_folder(path)
        for folder, why in listing.problems.items():
            problems[folder] = f"{folder}: the folder cannot be listed ({why}); allow it, or move it away"
        return [*listing.images, *listing.problems]
    if not os.path.exists(path) and not _is_number(path):
        raise FileNotFoundError(f"{path}: no such file or folder; check the name")
    if not os.path.exists(path) and int(path) > _LAST_CAMERA:
        raise InputError(f"{path}: no such file, and no camera has that number; check the name")
    return [path]


def _is_number(path: str) -> bool:
    return path.isascii() and path.isdecimal()

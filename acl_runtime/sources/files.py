"""Frames from images, folders, videos and cameras."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.decode import ReadSettings, load_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.folders import VIDEOS, list_folder
from acl_runtime.sources.frames import read_frames
from acl_runtime.sources.lines import is_source
from acl_runtime.sources.opencv import LAST_CAMERA
from acl_runtime.sources.videos import read_video
from acl_runtime.text.names import slug


@dataclass(frozen=True)
class Source:
    """An image file, a video file or a camera; or a folder that cannot be listed."""

    path: str  # as the user named it, or below the folder that the user named
    name: PurePath  # what to call its results, below the folder of all the sources; without suffix if unique
    reading: ReadSettings = field(default_factory=ReadSettings)
    problem: str = ""  # why it is known beforehand to give no frames

    @property
    def is_camera(self) -> bool:
        """Whether the path is a camera's number, or its text as of `open_line_source`."""
        return _is_camera(self.path)

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
        paths: Image files, video files, folders, camera numbers such as "0", and cameras as `open_line_source` takes
            them, such as "aravis:PART01".
        reading: How to read image files and videos.

    Raises:
        FileNotFoundError: One of the paths does not exist.
        InputError: A folder holds no images, or there is no camera of such a number.
    """
    reading = reading or ReadSettings()
    roots = [_root(str(path)) for path in paths]
    common = os.path.commonpath(roots) if roots else ""
    problems: dict[str, str] = {}
    files = [file for path in paths for file in _expand(str(path), problems)]
    relative = [PurePath(os.path.relpath(_place(file), common)) for file in files]
    uses = Counter(name.with_suffix("") for name in set(relative))
    stems = [name.with_suffix("") for name in relative]
    named = zip(files, relative, stems, strict=True)
    return [
        Source(file, stem if uses[stem] == 1 else full, reading, problems.get(file, ""))
        for file, full, stem in named
    ]


def iter_frames(
    sources: Iterable[Source], stopped: Callable[[], bool] = lambda: False
) -> Iterator[Frame | BadFrame]:
    """The frames of all sources, in order; what cannot be read comes as a BadFrame in its place.

    Args:
        sources: From `list_sources`.
        stopped: Asked between frames, and while a camera gives none, whether to end.
    """
    for source in sources:
        for frame in _frames_of(source, stopped):
            yield frame
            if stopped():
                return


def spread(sources: Sequence[Source], most: int) -> list[Source]:
    """Some of the sources, at most `most`, spread evenly from the first to the last."""
    numbers = np.linspace(0, len(sources) - 1, min(most, len(sources))).astype(int)
    return [sources[number] for number in numbers]


def read_as(sources: Iterable[Source], reading: ReadSettings) -> list[Source]:
    """The same sources, read with other settings."""
    return [replace(source, reading=reading) for source in sources]


def _frames_of(source: Source, stopped: Callable[[], bool]) -> Iterator[Frame | BadFrame]:
    if source.problem:
        yield BadFrame(source.path, 0, source.problem)
    elif source.is_camera:
        yield from read_frames(source.path, source.name, stopped=stopped)
    elif source.is_video:
        yield from read_video(source.path, source.name, source.reading)
    else:
        yield _read_image(source)


def _read_image(source: Source) -> Frame | BadFrame:
    try:
        return Frame(source.path, 0, source.name, load_frame(source.path, source.reading))
    except (FrameError, OSError) as error:
        return BadFrame(source.path, 0, str(error))


def _expand(path: str, problems: dict[str, str]) -> list[str]:
    """The files to read for one argument; folders that cannot be listed are among them and in `problems`."""
    if is_source(path):
        return [path]
    if os.path.isdir(path):
        listing = list_folder(path)
        for folder, why in listing.problems.items():
            problems[folder] = f"{folder}: the folder cannot be listed ({why}); allow it, or move it away"
        return [*listing.images, *listing.problems]
    if not os.path.exists(path) and not _is_number(path):
        raise FileNotFoundError(f"{path}: no such file or folder; check the name")
    if not os.path.exists(path) and int(path) > LAST_CAMERA:
        raise InputError(f"{path}: no such file, and no camera has that number; check the name")
    return [path]


def _root(path: str) -> str:
    """The folder that a path is in, or that it is."""
    return os.path.abspath(path) if os.path.isdir(path) else os.path.dirname(_place(path))


def _place(path: str) -> str:
    """A path from the root on; a camera's results lie as if it were a file in the current folder."""
    return os.path.abspath(slug(hide_password(path)).replace(".", "-") if is_source(path) else path)


def _is_camera(path: str) -> bool:
    return is_source(path) or (_is_number(path) and not os.path.exists(path))


def _is_number(path: str) -> bool:
    return path.isascii() and path.isdecimal()

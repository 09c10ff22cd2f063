"""Frames from images, folders, videos and cameras."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2

from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import IMAGES, load_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.text.names import natural_key

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Source:
    """An image file, a video file or a camera."""

    path: str  # as the user named it, or below the folder that the user named; a number for a camera
    name: PurePath  # what to call its results, below the folder of all the sources; without suffix if unique

    @property
    def is_camera(self) -> bool:
        """Whether the path is a camera's number."""
        return self.path.isdecimal() and not Path(self.path).exists()

    @property
    def is_video(self) -> bool:
        """Whether frames come from a video file or a camera."""
        return self.is_camera or Path(self.path).suffix.lower() in VIDEOS


def list_sources(paths: Sequence[Path | str]) -> list[Source]:
    """What there is to look at: a folder becomes the images below it, in natural order (2 before 10).

    Hidden files and folders and linked folders inside a folder are passed over. Results are named after the file,
    relative to the deepest folder that holds all of `paths`; files that differ in their suffix only keep it.

    Args:
        paths: Image files, video files, folders, and camera numbers such as "0".

    Raises:
        FileNotFoundError: One of the paths does not exist.
        ValueError: A folder holds no images.
    """
    roots = [os.path.abspath(path if os.path.isdir(path) else Path(path).parent) for path in paths]
    common = os.path.commonpath(roots) if roots else ""
    files = [file for path in paths for file in _expand(str(path))]
    relative = [PurePath(os.path.relpath(os.path.abspath(file), common)) for file in files]
    uses = Counter(name.with_suffix("") for name in set(relative))
    stems = [name.with_suffix("") for name in relative]
    named = zip(files, relative, stems, strict=True)
    return [Source(file, stem if uses[stem] == 1 else full) for file, full, stem in named]


def iter_frames(sources: Iterable[Source]) -> Iterator[Frame | BadFrame]:
    """The frames of all sources, in order; what cannot be read comes as a BadFrame in its place."""
    for source in sources:
        if source.is_video:
            yield from _stream(source)
            continue
        try:
            yield Frame(source.path, 0, source.name, load_frame(source.path))
        except (ValueError, OSError) as error:
            yield BadFrame(source.path, 0, str(error))


def _expand(path: str) -> list[str]:
    """The files to read for one argument."""
    if os.path.isdir(path):
        return _list_images(path)
    if not os.path.exists(path) and not path.isdecimal():
        raise FileNotFoundError(f"{path}: no such file or folder; check the name")
    return [path]


def _list_images(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (file for file in files if file.lower().endswith(IMAGES) and not file.startswith("."))
        found += [os.path.join(parent, file) for file in images]
    if not found:
        raise InputError(f"{folder}: holds no images ({' '.join(IMAGES)}); name a folder of images")
    return sorted(found, key=lambda path: [natural_key(part) for part in PurePath(path).parts])


def _stream(source: Source) -> Iterator[Frame | BadFrame]:
    """Frames of a video until its end, or of a camera until it stops."""
    capture = cv2.VideoCapture(int(source.path) if source.is_camera else source.path)
    index = 0
    try:
        while capture.isOpened():
            ok, frame = capture.read()
            if not ok:
                break
            prefix = f"camera{source.path}" if source.is_camera else source.name.name
            yield Frame(source.path, index, source.name.with_name(f"{prefix}_{index:06d}"), frame)
            index += 1
    finally:
        capture.release()
    if source.is_camera:
        yield BadFrame(
            source.path, index, f"camera {source.path}: gives no frame; check that it is connected"
        )
    elif index == 0:
        yield BadFrame(source.path, 0, f"{source.path}: no frame can be decoded; save the video again")


def _raise(error: OSError) -> None:
    raise error

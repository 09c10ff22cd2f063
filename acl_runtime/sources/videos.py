"""Frames of a video that OpenCV reads; what of it cannot be decoded is said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePath

import cv2

from acl_runtime.files.errors import FrameError
from acl_runtime.images.decode import ReadSettings, check_pixels, check_regular
from acl_runtime.images.frame import BadFrame, Frame

_GIVE_UP = 250  # frames in a row that cannot be decoded: nothing comes after them
_COUNTED = (
    ".mp4",
    ".m4v",
    ".mov",
    ".3gp",
    ".avi",
)  # their headers count the frames; those of others tell the time
_ESTIMATE = 0.05, 2  # a count from the time, sound included, may be too high by this share, and so many


def read_video(path: str, name: PurePath, reading: ReadSettings) -> Iterator[Frame | BadFrame]:
    """The frames of a video file, in order; one that cannot be decoded, or is missing at the end, is a BadFrame."""
    try:
        check_regular(path)
    except (FrameError, FileNotFoundError) as error:
        yield BadFrame(path, 0, str(error))
        return
    capture = cv2.VideoCapture(path)
    try:
        yield from _frames(capture, path, name, reading)
    finally:
        capture.release()


def _frames(
    capture: cv2.VideoCapture, path: str, name: PurePath, reading: ReadSettings
) -> Iterator[Frame | BadFrame]:
    try:
        width, height = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_pixels(path, int(width), int(height), reading.max_megapixels)
    except FrameError as error:
        yield BadFrame(path, 0, str(error))
        return
    _set_orientation(capture, path, reading)
    index = decoded = failed = 0
    while capture.isOpened() and failed < _GIVE_UP:
        ok, frame = capture.read()
        if not ok:
            failed += 1
            continue
        for _ in range(failed):  # not the end of the video: it goes on
            yield BadFrame(path, index, f"{path}: frame {index} cannot be decoded; save the video again")
            index += 1
        failed = 0
        yield Frame(path, index, name.with_name(f"{name.name}_{index:06d}"), frame)
        index, decoded = index + 1, decoded + 1
    if not decoded:
        yield BadFrame(path, 0, f"{path}: no frame can be decoded; save the video again")
    elif missing := _missing(capture.get(cv2.CAP_PROP_FRAME_COUNT), index, path):
        yield BadFrame(
            path,
            index,
            f"{path}: {missing} frames at its end are missing or cannot be decoded; save the video again",
        )


def _set_orientation(capture: cv2.VideoCapture, path: str, reading: ReadSettings) -> None:
    """Pixels come as they are stored, or turned as the video says, like those of images."""
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(reading.exif))
    if capture.get(cv2.CAP_PROP_ORIENTATION_META):
        reading.note_orientation(path)


def _missing(count: float, seen: int, path: str) -> int:
    """How many frames the header promises beyond those seen; 0 where it does not know."""
    if not math.isfinite(count) or count <= 0:
        return 0
    missing = round(count) - seen
    share, few = (0.0, 0) if path.lower().endswith(_COUNTED) else _ESTIMATE
    return missing if missing > share * count + few else 0

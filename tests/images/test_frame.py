"""A frame is checked once, where it is made."""

from __future__ import annotations

from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest

from acl_runtime.files.errors import FrameError
from acl_runtime.images.frame import Frame, bad_frame


def framed(array: object) -> Frame:
    return Frame("a.png", 0, PurePath("a"), array)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (None, "got None, which is what cv2.imread returns for a file that it cannot read"),
        ("part.png", "got the name 'part.png'; read the file first"),
        (Path("part.png"), "got the name 'part.png'; read the file first"),
        ([[1, 2]], "got list"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32"),
        (np.zeros((4, 4, 1), np.uint8), r"got \(4, 4, 1\) uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"got \(4, 4, 2\) uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"got \(2, 4, 4, 3\) uint8"),
        (np.zeros(4, np.uint8), r"got \(4,\) uint8"),
        (np.zeros((4, 4, 3), bool), r"got \(4, 4, 3\) bool"),
        (np.zeros((0, 4, 3), np.uint8), r"at least one pixel, got \(0, 4, 3\)"),
    ],
)
def test_what_is_no_frame_is_refused(frame: object, got: str) -> None:
    with pytest.raises(FrameError, match=f"frame must .*{got}"):
        framed(frame)


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_cameras_give_is_a_frame(shape: tuple[int, ...], dtype: type) -> None:
    assert framed(np.zeros(shape, dtype)).size == shape[:2]


def test_a_bad_frame_says_where_it_is_from_once() -> None:
    frame = framed(np.zeros((4, 5), np.uint8))
    problems = [
        bad_frame(frame, error).problem
        for error in (
            MemoryError(),
            cv2.error("(-215) two\nlines"),
            FrameError("is odd"),
            FrameError("a.png: is odd"),
        )
    ]
    assert problems == [
        "a.png: takes more memory than there is (5×4 pixels); give smaller frames",
        "a.png: OpenCV cannot work on 5×4 pixels ((-215) two lines)",
        "a.png: is odd",
        "a.png: is odd",
    ]

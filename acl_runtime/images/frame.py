"""A picture on its way to a verdict, or what stands in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np

from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.errors import FrameError

CHANNELS = (3, 4)  # BGR, BGRA
FRAME_FAULTS = (FrameError, MemoryError, cv2.error)
"""What a frame itself may cause where it is prepared, judged or drawn: the frame is bad, those after it are not."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture and where it is from; made once, where the picture enters, and checked there.

    Raises:
        FrameError: The picture is none, see `check_frame`.
    """

    source: str
    index: int  # position in its video or camera stream; 0 for an image
    name: PurePath  # what to call its results, without suffix
    frame: np.ndarray  # (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey; uint8 or uint16

    def __post_init__(self) -> None:
        """Refuse what is no picture."""
        check_frame(self.frame)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self.frame.shape[:2]
        return height, width

    @property
    def given(self) -> Any:
        """What the caller gave: the picture, or what holds it on the GPU."""
        return self.frame


@dataclass(frozen=True)
class BadFrame:
    """A file that is no picture, a frame that cannot be judged, or a stream that broke; those after it are not lost."""

    source: str
    index: int
    problem: str


def check_frame(frame: object) -> None:
    """Raise FrameError unless it is something that a camera gives.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16, with a pixel at least.
    """
    wanted = "frame must be a (H, W), (H, W, 3) or (H, W, 4) array of uint8 or uint16"
    if frame is None:
        raise FrameError(
            f"{wanted}, got None, which is what cv2.imread returns for a file that it cannot read"
        )
    if isinstance(frame, (str, PurePath)):
        raise FrameError(
            f"{wanted}, got the name {str(frame)!r}; read the file first, such as with cv2.imread"
        )
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"{wanted}, got {type(frame).__name__}")
    is_grey, is_color = frame.ndim == 2, frame.ndim == 3 and frame.shape[2] in CHANNELS
    if not (is_grey or is_color) or frame.dtype not in (np.uint8, np.uint16):
        raise FrameError(f"{wanted}, got {frame.shape} {frame.dtype}")
    if 0 in frame.shape:
        raise FrameError(f"frame must have at least one pixel, got {frame.shape}")


def check_size(frame: Frame, manifest: Manifest) -> None:
    """Raise FrameError if the graph resizes, and takes frames of another size than this."""
    if manifest.frame_size not in (None, frame.size):
        wanted, got = ("×".join(map(str, size)) for size in (manifest.frame_size, frame.size))
        raise FrameError(
            f"frame must be {wanted} pixels (height × width), for which the bundle was exported, got {got}; export one "
            "without --frame-size for frames of any size"
        )


def bad_frame(frame: Frame, error: BaseException) -> BadFrame:
    """What stands in the place of a frame that one of `FRAME_FAULTS` was raised for; the problem names its source."""
    height, width = frame.size
    if isinstance(error, MemoryError):
        problem = f"takes more memory than there is ({width}×{height} pixels); give smaller frames"
    elif isinstance(error, cv2.error):
        problem = f"OpenCV cannot work on {width}×{height} pixels ({' '.join(str(error).split())})"
    else:
        problem = str(error)
    already_named = not frame.source or problem.startswith(f"{frame.source}:")
    return BadFrame(frame.source, frame.index, problem if already_named else f"{frame.source}: {problem}")

"""A picture on its way to a verdict, or what stands in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A picture and where it is from."""

    source: str
    index: int  # position in its video or camera stream; 0 for an image
    name: PurePath  # what to call its results, without suffix
    frame: np.ndarray  # (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey; uint8 or uint16


@dataclass(frozen=True)
class BadFrame:
    """A file that is no picture, or a stream that broke; the frames after it are not lost."""

    source: str
    index: int
    problem: str

"""What a frame looks like, whatever it shows: how bright and how sharp it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.preprocess import to_uint8

WINDOW = 96  # pixels: side of the samples, at the frame's own resolution, where blur shows
PER_SIDE = 5  # samples along each side: the cost is the same for every size of frame


@dataclass(frozen=True)
class Appearance:
    """Two numbers that change when the lamp, the exposure, the lens or the distance does."""

    brightness: float  # mean grey level, 0 black to 1 white
    sharpness: float  # mean absolute second difference over mean grey level; halves when contrast does


def measure_appearance(frame: np.ndarray) -> Appearance:
    """Measure a frame on a lattice of small windows, in about a millisecond.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16: as `Frame` checks.
    """
    windows = [_grey(window) for window in _windows(to_uint8(frame))]
    brightness = float(np.mean([window.mean() for window in windows]))
    detail = float(np.mean([np.abs(cv2.Laplacian(window, cv2.CV_16S)).mean() for window in windows]))
    return Appearance(brightness / 255, detail / max(brightness, 1.0))


def _windows(frame: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Windows at evenly spread places; they overlap, and a small frame is one window."""
    tops, lefts = (_starts(side) for side in frame.shape[:2])
    return [frame[top : top + WINDOW, left : left + WINDOW] for top in tops for left in lefts]


def _starts(side: int) -> list[int]:
    room = max(0, side - WINDOW)
    return sorted(set(np.linspace(0, room, PER_SIDE).astype(int).tolist()))


def _grey(window: npt.NDArray[np.uint8]) -> np.ndarray:
    if window.ndim == 2:
        return np.ascontiguousarray(window)
    return cv2.cvtColor(np.ascontiguousarray(window[:, :, :3]), cv2.COLOR_BGR2GRAY)

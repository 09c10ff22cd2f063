"""Defects drawn on what the network is shown: something to find where nobody has a defective part yet.

A piece of the image somewhere else (CutPaste, arXiv 2104.04015), a blot, and a scratch, each a few patches large. They
choose among kinds of memory and nothing else: a promise does not rest on them, and they are no measure of real defects.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator

SMALLEST, LARGEST = 1.5, 4.0  # patches: side of a piece, diameter of a blot
FAINT, STRONG = 0.25, 0.8  # opacity of a blot
SCRATCH = 0.35  # patches: width of a scratch


def draw_defects(image: Pixels, grid: int, rng: Rng) -> list[tuple[Pixels, npt.NDArray[np.float32]]]:
    """Draw each kind of defect on an image, each on a copy of its own.

    Args:
        image: (H, W, 3) uint8, as the graph takes it.
        grid: Patches per side, G.
        rng: Where, how large and how strong.

    Returns:
        Images, and the share of each patch that is under the defect, (G·G,) in [0, 1].
    """
    made = []
    for draw in DEFECTS:
        damaged, mask = draw(image, rng, min(image.shape[:2]) / grid)
        cover = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
        made.append((damaged, np.asarray(cover, np.float32).ravel()))
    return made


def _paste(image: Pixels, rng: Rng, patch: float) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    height, width = (round(side * patch) for side in rng.uniform(SMALLEST, LARGEST, 2))
    rows, columns = (rng.integers(0, image.shape[axis] - side, 2) for axis, side in ((0, height), (1, width)))
    damaged, mask = image.copy(), np.zeros(image.shape[:2], np.bool_)
    there = slice(rows[0], rows[0] + height), slice(columns[0], columns[0] + width)
    damaged[there] = image[rows[1] : rows[1] + height, columns[1] : columns[1] + width]
    mask[there] = True
    return damaged, mask


def _blot(image: Pixels, rng: Rng, patch: float) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    y, x = (rng.uniform(0, side) for side in image.shape[:2])
    radius = rng.uniform(SMALLEST, LARGEST) * patch / 2
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(rows - y, (columns - x) * rng.uniform(0.6, 1.6)) / radius
    opacity = rng.uniform(FAINT, STRONG) * np.clip(3 * (1 - distance), 0, 1)[..., None]
    color = rng.uniform(0, 255, 3) * rng.integers(0, 2)  # of some colour, or black
    damaged = np.rint(image * (1 - opacity) + color * opacity).astype(np.uint8)
    return damaged, distance < 1


def _scratch(image: Pixels, rng: Rng, patch: float) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    height, width = image.shape[:2]
    start = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 2 * LARGEST) * patch
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    mask = np.zeros((height, width), np.uint8)
    ends = [(int(x), int(y)) for x, y in (start, end)]
    cv2.line(mask, ends[0], ends[1], 1, max(1, round(SCRATCH * patch)))
    damaged = image.copy()
    damaged[mask > 0] = np.clip(damaged[mask > 0] + rng.choice([-1, 1]) * rng.uniform(40, 120), 0, 255)
    return damaged, mask > 0


DEFECTS: tuple[Callable[[Pixels, Rng, float], tuple[Pixels, npt.NDArray[np.bool_]]], ...] = (
    _paste,
    _blot,
    _scratch,
)

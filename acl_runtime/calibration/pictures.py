"""What good images show, as far as a calibration must know: black, white, or one part taken many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.preprocess import to_uint8

SIDE = 32  # pixels of a thumbnail: sensor noise averages out, a part in another place does not
NEAR = (
    0.05  # distance of near copies; of 296 photographs of different solar cells, the nearest two have 0.057
)
LEAST_CONTRAST = (
    16.0  # grey levels: paler pictures are near copies if they differ by less than 0.8 levels (rms)
)
BLACK, WHITE = 5, 250  # grey levels of 255 that count as black, at most, and as white, at least
BLACK_SHARE, WHITE_SHARE = 0.99, 0.95  # of the pixels
MOST_PIXELS = 1 << 20  # that are looked at for black and white


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is kept of a frame to compare it with others."""

    thumbnail: npt.NDArray[
        np.float32
    ]  # (SIDE * SIDE,) grey, mean 0 and length 1, or less where contrast is low
    is_black: bool
    is_white: bool


def look_at(frame: np.ndarray) -> Picture:
    """Make a thumbnail of a frame, and tell whether it is black or white all over.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16.
    """
    pixels = to_uint8(frame)
    grey = (
        pixels
        if pixels.ndim == 2
        else cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2GRAY)
    )
    step = 1 + int((grey.size / MOST_PIXELS) ** 0.5)
    sample = grey[::step, ::step]
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return Picture(
        thumbnail=small / max(float(np.linalg.norm(small)), LEAST_CONTRAST * SIDE),
        is_black=float((sample <= BLACK).mean()) >= BLACK_SHARE,
        is_white=float((sample >= WHITE).mean()) >= WHITE_SHARE,
    )


def find_near_copies(pictures: Sequence[Picture]) -> dict[int, int]:
    """Find pictures that look nearly like an earlier one: their row, and that of the first of their kind.

    The distance of two thumbnails is 0 for equal ones and 1.4 for unrelated ones. Two shots of one part that lies
    still differ by the noise of the sensor; how far two parts differ is up to the product.

    Args:
        pictures: In order; the first of several that look alike is no copy.
    """
    firsts: list[int] = []
    seen = np.empty((len(pictures), SIDE * SIDE), np.float32)  # of which the first len(firsts) are filled
    lengths = np.array([np.square(picture.thumbnail).sum() for picture in pictures])  # squared
    copies: dict[int, int] = {}
    for row, picture in enumerate(pictures):
        if firsts:
            products = seen[: len(firsts)] @ picture.thumbnail
            squares = lengths[firsts] + lengths[row] - 2 * products
            if squares.min() < NEAR**2:
                copies[row] = firsts[int(squares.argmin())]
                continue
        seen[len(firsts)] = picture.thumbnail
        firsts.append(row)
    return copies

"""From a camera's frame to the network's input, with Pillow's antialiased bicubic, as CLIP was trained."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

CHANNELS = (3, 4)  # BGR, BGRA


def preprocess(frames: Sequence[np.ndarray], *, image_size: int) -> npt.NDArray[np.uint8]:
    """Squash every frame to a square, whatever its aspect, as the published code does.

    Another resizer is another result: OpenCV's cubic, which does not antialias, moves the map by 0.3.

    Args:
        frames: Each (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16. BGRA is resized with
            premultiplied alpha, then alpha is dropped. Of uint16 the upper 8 bits of the full range are used:
            a 10- or 12-bit camera must shift its pixels to the top first, which is not guessed here.
        image_size: Side S of the network input, in pixels.

    Returns:
        (B, S, S, 3) uint8 RGB.
    """
    images = np.empty((len(frames), image_size, image_size, 3), np.uint8)
    for image, frame in zip(images, frames, strict=True):
        image[:] = _resize(to_uint8(frame), image_size)
    return images


def check_frame(frame: np.ndarray) -> None:
    """Raise ValueError unless `frame` is something a camera gives: see `preprocess`."""
    wanted = "frame must be a (H, W), (H, W, 3) or (H, W, 4) array of uint8 or uint16"
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"{wanted}, got {type(frame).__name__}")
    is_grey, is_color = frame.ndim == 2, frame.ndim == 3 and frame.shape[2] in CHANNELS
    if not (is_grey or is_color) or frame.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{wanted}, got {frame.shape} {frame.dtype}")
    if 0 in frame.shape:
        raise ValueError(f"frame must have at least one pixel, got {frame.shape}")


def to_uint8(frame: np.ndarray) -> npt.NDArray[np.uint8]:
    """A checked frame, same shape, with the upper 8 bits of 16."""
    check_frame(frame)
    upper: npt.NDArray[np.uint8] = frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
    return upper


def to_bgr(frame: np.ndarray) -> npt.NDArray[np.uint8]:
    """Any frame as (H, W, 3) uint8 BGR to draw on, always a copy; alpha is dropped."""
    pixels = to_uint8(frame)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.array(pixels[:, :, :3], np.uint8)


def _resize(frame: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """(H, W[, 3|4]) to (S, S, 3) RGB. Channels are resized alike, so BGR goes as RGB and is turned after."""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if picture.mode == "RGBA":
        picture = picture.convert("RGBa")  # premultiplied, as Pillow resizes it
    for size in (_first_pass(picture, image_size), (image_size, image_size)):
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    return np.asarray(picture.convert("RGB"))[:, :, ::-1]


def _first_pass(picture: Image.Image, image_size: int) -> tuple[int, int]:
    """Width and height after the first of the two passes, which round to whole grey levels in between.

    The order is Pillow 13's, which begins with the rows where the height shrinks by far the most; older ones
    (JetPack 6 has Python 3.10 and so Pillow 12) always begin with the columns, and would give tall frames
    another score. Asked for one axis at a time, every version gives the same pixels.
    """
    less_width, less_height = picture.width - image_size, picture.height - image_size
    if less_height > max(0, 2 * less_width):
        return picture.width, image_size
    return image_size, picture.height

"""From a camera's frame to the graph's input, with Pillow's antialiased bicubic, as CLIP was trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.errors import InputError

LARGE_PIXELS, STRIPS = 1 << 19, 4  # a frame of so many pixels is resized in so many strips at a time

Resize = Callable[[npt.NDArray[np.uint8], tuple[int, int]], npt.NDArray[np.uint8]]
"""From (H, W[, C]) uint8 pixels and a width and height, of which at most one is new, to pixels of that size."""


def resize_by_pillow(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize along one axis, by Pillow's antialiased bicubic.

    Args:
        pixels: (H, W), (H, W, 3) or (H, W, 4) uint8; the channels are resized alike, whatever they mean.
        size: The new width and height, of which one is as before.

    Returns:
        (height, width[, 3|4]) uint8.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    picture = _as_picture(pixels, {1: "L", 3: "RGB", 4: "CMYK"}[channels])  # four alike, and none is alpha
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def choose_resize(manifest: Manifest, *, fast: bool) -> Resize:
    """Pillow's, or the fast one, which is nearly the same: see `fast_resize.py`.

    Raises:
        ValueError: A fast one is asked for, but the graph resizes.
        RuntimeError: The fast one's library is missing.
    """
    if not fast:
        return resize_by_pillow
    if manifest.frame_size is not None:
        raise InputError(
            "the bundle was exported with --frame-size, so that its graph resizes; leave --fast-resize out"
        )
    from acl_runtime.images.fast_resize import resize_fast

    return resize_fast


def to_input(
    frames: Sequence[np.ndarray], manifest: Manifest, resize: Resize = resize_by_pillow
) -> npt.NDArray[np.uint8]:
    """What a bundle's graph takes, of frames that are checked.

    Args:
        frames: See `preprocess`; of the bundle's size where the graph resizes, see `check_size`.
        manifest: Says whether the graph resizes.
        resize: See `preprocess`; unused where the graph does it.

    Returns:
        (B, S, S, 3) uint8 RGB; where the graph resizes (B, H, W, 3) uint8 BGR, alpha dropped.
    """
    return stack([to_image(frame, manifest, resize) for frame in frames])


def to_image(frame: np.ndarray, manifest: Manifest, resize: Resize) -> npt.NDArray[np.uint8]:
    """One row of `to_input`, without the leading axis; the frame's own memory where it can be."""
    if manifest.frame_size is None:
        return _squash(to_uint8(frame), manifest.image_size, resize)
    return _as_bgr(frame)


def stack(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Images of one shape as a batch, contiguous; one that is contiguous is not copied."""
    return np.ascontiguousarray(images[0])[None] if len(images) == 1 else np.stack(images)


def preprocess(
    frames: Sequence[np.ndarray], *, image_size: int, resize: Resize = resize_by_pillow
) -> npt.NDArray[np.uint8]:
    """Squash every frame to a square, whatever its aspect, as the published code does.

    Another resizer is another result: OpenCV's cubic, which does not antialias, moves the map by 0.3.

    Args:
        frames: Each (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16: as `Frame` checks. BGRA is resized
            with premultiplied alpha, then alpha is dropped. Of uint16 the upper 8 bits of the full range are used:
            a 10- or 12-bit camera must shift its pixels to the top first, which is not guessed here.
        image_size: Side S of the network input, in pixels.
        resize: What resizes an axis of a BGR or grey frame, see `choose_resize`; BGRA is always Pillow's.

    Returns:
        (B, S, S, 3) uint8 RGB.
    """
    images = np.empty((len(frames), image_size, image_size, 3), np.uint8)
    for image, frame in zip(images, frames, strict=True):
        image[:] = _squash(to_uint8(frame), image_size, resize)
    return images


def to_uint8(frame: np.ndarray) -> npt.NDArray[np.uint8]:
    """A frame, which was checked where it entered, in its shape, with the upper 8 bits of 16."""
    upper: npt.NDArray[np.uint8] = frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
    return upper


def to_bgr(frame: np.ndarray) -> npt.NDArray[np.uint8]:
    """Any frame as (H, W, 3) uint8 BGR to draw on, always a copy; alpha is dropped."""
    return np.array(_as_bgr(frame))


def _as_bgr(frame: np.ndarray) -> npt.NDArray[np.uint8]:
    """The same, the frame's own memory where it can be."""
    pixels = to_uint8(frame)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    return pixels[:, :, :3]


def pass_order(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Which axis is resized first; each pass rounds to whole grey levels.

    The order is Pillow 13's, which begins with the rows where the height shrinks by far the most; older ones
    (JetPack 6 has Python 3.10 and so Pillow 12) always begin with the columns, and would give tall frames
    another score. Asked for one axis at a time, every version gives the same pixels.
    """
    return (0, 1) if height - image_size > max(0, 2 * (width - image_size)) else (1, 0)


def _squash(frame: npt.NDArray[np.uint8], image_size: int, resize: Resize) -> npt.NDArray[np.uint8]:
    """(H, W[, 3|4]) to (S, S, 3) RGB. Channels are resized alike, so BGR goes as RGB and is turned after."""
    pixels = frame
    has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    if has_alpha:
        straight = Image.fromarray(np.ascontiguousarray(pixels))
        pixels = np.asarray(straight.convert("RGBa"))  # premultiplied, as Pillow resizes it
        # the fast one will not do: where alpha is small, a grey level becomes many when the product is undone
        resize = resize_by_pillow
    height, width = pixels.shape[:2]
    for axis in pass_order(height, width, image_size):
        pixels = _resize_axis(pixels, axis, image_size, resize)
    if has_alpha:
        pixels = np.asarray(_as_picture(pixels, "RGBa").convert("RGBA"))
    turn = {2: cv2.COLOR_GRAY2RGB}.get(pixels.ndim, cv2.COLOR_BGRA2RGB if has_alpha else cv2.COLOR_BGR2RGB)
    return np.asarray(
        cv2.cvtColor(pixels, turn), np.uint8
    )  # a copy: many times as fast as one backwards by numpy


def _resize_axis(
    pixels: npt.NDArray[np.uint8], axis: int, size: int, resize: Resize
) -> npt.NDArray[np.uint8]:
    """Resize one axis. What lies along the other is independent, so a large picture is cut into strips for threads."""
    if pixels.shape[axis] == size:
        return pixels  # as Pillow gives it too
    pixels = np.ascontiguousarray(pixels)
    other = 1 - axis
    is_large = pixels.shape[0] * pixels.shape[1] >= LARGE_PIXELS
    count = min(STRIPS, pixels.shape[other]) if is_large else 1
    cuts = [pixels.shape[other] * number // count for number in range(count + 1)]
    shape = list(pixels.shape)
    shape[axis] = size
    resized = np.empty(shape, np.uint8)

    def resize_strip(number: int) -> None:
        place: list[slice] = [slice(None), slice(None)]
        place[other] = slice(cuts[number], cuts[number + 1])
        strip = pixels[tuple(place)]
        target = (strip.shape[1], size) if axis == 0 else (size, strip.shape[0])
        resized[tuple(place)] = resize(strip, target)

    if count == 1:
        resize_strip(0)
    else:
        strips = _threads(os.getpid()).map(resize_strip, range(count))
        list(strips)  # both libraries let go of the interpreter meanwhile
    return resized


def _as_picture(pixels: npt.NDArray[np.uint8], mode: str) -> Image.Image:
    height, width = pixels.shape[:2]
    return Image.frombytes(mode, (width, height), pixels.tobytes())


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of this process: after a fork those of the parent are not there."""
    return ThreadPoolExecutor(max(STRIPS, os.cpu_count() or 1), thread_name_prefix="resize")

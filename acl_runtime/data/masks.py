"""Ground-truth masks: read, cut as their picture is, and resized as the published code resizes them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.Image import Image as Picture

from acl_runtime.data.samples import Sample
from acl_runtime.files.errors import InputError

DECODING = (  # what Pillow's decoders raise on damaged files, beside the documented OSError
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def load_mask(sample: Sample, *, height: int, width: int, above: int = 0) -> npt.NDArray[np.bool_]:
    """Ground truth at another size; at the network's, to the pixel as the published code makes it.

    Args:
        sample: Its mask may be grey, colour, palette or 1-bit.
        height: Of the result, in pixels; the network's input is square.
        width: Of the result, in pixels.
        above: Grey level, 0 to 254, above which a pixel of the mask is a defect. Masks hold 0/1, class indices
            or 0/255, so 0 is right; those kept as JPEG hold noise too, and 127 leaves the clear pixels.

    Returns:
        (height, width) bool, True on the defect; all False for a good part.

    Raises:
        ValueError: A defective part has no mask, its size is not its image's, or it cannot be read.
    """
    if not 0 <= above <= 254:
        raise InputError(f"above must be a grey level from 0 to 254, got {above}")
    if sample.label == 0:
        return np.zeros((height, width), np.bool_)
    if sample.mask is None:
        raise InputError(f"{sample.path}: is defective and has no mask; learn from a data set with masks")
    check_mask_size(sample)
    marked = read_grey(sample.mask) > above  # (H, W)
    if sample.rows is not None:
        marked = marked[slice(*sample.rows)]
    grey = Image.fromarray(marked.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR)) > 127  # antialiased


def check_mask_size(sample: Sample) -> None:
    """Compare a mask's size with its image's, from the headers alone."""
    if sample.mask is None:
        return
    with _open(sample.path) as image, _open(sample.mask) as mask:
        if image.size != mask.size:
            raise InputError(
                f"{sample.mask}: is {mask.width}x{mask.height} and its image {sample.path} is "
                f"{image.width}x{image.height}; use the mask drawn on that image"
            )


def read_grey(path: Path) -> npt.NDArray[np.uint8]:
    """A mask's grey levels, (H, W) uint8.

    Raises:
        ValueError: It is not an image, or is damaged.
    """
    with _open(path) as picture:
        try:
            return np.asarray(picture.convert("L"))
        except DECODING as error:
            raise InputError(f"{path}: is damaged ({error}); replace it") from error


def _open(path: Path) -> Picture:
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is not an image that can be read; replace it") from error
    except DECODING as error:
        raise InputError(f"{path}: cannot be opened ({error}); replace it") from error

"""Read image files as the published code does, where that is sane."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from acl_runtime.files.errors import FrameError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".jp2")
DECODING = (  # what Pillow's decoders raise on damaged files, beside the documented OSError
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def load_frame(path: Path | str) -> np.ndarray:
    """Read an image file as the published code does, where that is sane.

    The EXIF orientation is ignored, because ground-truth masks are drawn on the file's own pixels. Palette
    and 1-bit images are expanded first; the published code resizes them by nearest neighbour. 16-bit grey
    stays 16 bits; the published code clips it to white. Of several pictures in a file, the first counts.

    Returns:
        (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8; (H, W) uint16 for 16-bit grey.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not a picture, or is cut short.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; check the name")
    data = Path(path).read_bytes()
    if not data:
        raise FrameError(f"{path}: is empty; save the image again")
    try:
        pixels = _decode(data)
    except UnidentifiedImageError as error:
        raise FrameError(f"{path}: is not an image; remove it, or save it as PNG or JPEG") from error
    except DECODING as error:
        raise FrameError(f"{path}: cannot be decoded ({_one_line(error)}); save the image again") from error
    if pixels.ndim == 2:
        return pixels
    return np.ascontiguousarray(pixels[:, :, (2, 1, 0, 3)[: pixels.shape[2]]])


def _decode(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata and large pictures; damaged pixels raise
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG":
                _check_sums(data)
            image.load()
            return _expand_mode(image)


def _check_sums(data: bytes) -> None:
    """Raise SyntaxError for a PNG whose checksums are wrong: decoding passes over those of the pixels."""
    with Image.open(io.BytesIO(data)) as image:
        image.verify()


def _expand_mode(image: Image.Image) -> np.ndarray:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, or uint16 for 16-bit grey."""
    mode = image.mode
    if mode.startswith("I;16") or (
        mode == "I" and image.format == "PNG"
    ):  # older Pillow calls PNG's 16 bits "I"
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        raise FrameError(f"32-bit pixels, mode {mode}, have no known range: 8 or 16 bits are needed")
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode == "P" and "transparency" in image.info)
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

"""Read image files as the published code does, where that is sane."""

from __future__ import annotations

import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from acl_runtime.files.errors import FrameError, UserError

IMAGES = (  # the endings of image files, in lower case; for the whole product
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k"),
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")  # whatever a file is called
MAX_MEGAPIXELS = 200.0  # of a picture; decoding takes up to 16 bytes a pixel, so some 3 GB
DECODING = (  # what Pillow's decoders raise on damaged files, beside the documented OSError
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
_OTHERS = (  # (position, bytes, name) of files that people take for images, and that are not read
    *(
        (4, b"ftyp" + brand, "a HEIC picture")
        for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
    ),
    *((4, b"ftyp" + brand, "an AVIF picture") for brand in (b"avif", b"avis")),
    *((0, b"DDS ", "a DDS texture"), (0, b"BLP", "a BLP texture"), (0, b"8BPS", "a Photoshop file")),
    *(
        (0, b"%!PS", "a PostScript file"),
        (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
        (0, b"%PDF", "a PDF file"),
    ),
    *((0, b"\xff\x0a", "a JPEG XL picture"), (4, b"JXL \r\n\x87\n", "a JPEG XL picture")),
    *(
        (0, b"\x00\x00\x01\x00", "a Windows icon"),
        (0, b"SIMPLE  =", "a FITS file"),
        (0, b"version https://git-lfs", "a Git LFS pointer"),
    ),
)
_HEADERS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8", b"\xff\x4f\xff\x51")
_REMEDY = "cut it into several, or allow more with --max-megapixels where the memory suffices"
_PILLOWS_LIMIT = threading.Lock()


@contextmanager
def open_image(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[ImageFile.ImageFile]:
    """Open an image file, by its header alone; what fails while its pixels are used inside names the file.

    Only regular files of `FORMATS` are opened, whatever they are called, and none of too many pixels. Keep to
    decoding inside the block: an error there is taken for damage of the file, unless it is a `UserError`.

    Raises:
        FileNotFoundError: No such file.
        FrameError: It is no picture that is read, is larger than `max_megapixels`, or is damaged.
    """
    with _open_file(path, max_megapixels) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata and large pictures; damaged pixels raise
        try:
            with _open_format(file) as image:
                _check_pixels(path, image, max_megapixels)
                yield image
        except UserError:
            raise
        except UnidentifiedImageError as error:
            raise FrameError(f"{path}: {_what_it_is(file)}") from error
        except MemoryError as error:
            raise FrameError(f"{path}: takes more memory than there is; save it with fewer pixels") from error
        except DECODING as error:
            raise FrameError(
                f"{path}: cannot be decoded ({_one_line(error)}); save the image again"
            ) from error


def load_frame(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read an image file as the published code does, where that is sane.

    The EXIF orientation is ignored, because ground-truth masks are drawn on the file's own pixels. Palette
    and 1-bit images are expanded first; the published code resizes them by nearest neighbour. 16-bit grey
    stays 16 bits; the published code clips it to white. Of several pictures in a file, the first counts.

    Returns:
        (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8; (H, W) uint16 for 16-bit grey.

    Raises:
        FileNotFoundError: No such file.
        FrameError: The file is not a picture, is too large, or is damaged.
    """
    with open_image(path, max_megapixels=max_megapixels) as image:
        if image.format == "PNG":
            _check_sums(image)
        image.load()
        pixels = _expand_mode(image, path)
        if pixels.ndim == 2:
            return pixels
        return np.ascontiguousarray(pixels[:, :, (2, 1, 0, 3)[: pixels.shape[2]]])


@contextmanager
def _open_file(path: Path | str, max_megapixels: float) -> Iterator[IO[bytes]]:
    """Open a regular file; a pipe would be waited for, for ever, and a device may never end."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; check the name")
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise FrameError(f"{path}: is no regular file; name an image file")
    if not found.st_size:
        raise FrameError(f"{path}: is empty; save the image again")
    if found.st_size > 8e6 * max_megapixels + (64 << 20):  # 16-bit RGBA without compression, and metadata
        raise FrameError(f"{path}: is larger than any picture of {max_megapixels:g} megapixels; {_REMEDY}")
    with open(path, "rb") as file:
        yield file


def _open_format(file: IO[bytes]) -> ImageFile.ImageFile:
    """Read the header. Pillow's own limit of pixels belongs to the process, so it is lifted for just so long."""
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path: Path | str, image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise FrameError(
            f"{path}: has {image.width}×{image.height} pixels, {megapixels:.0f} megapixels where at most "
            f"{max_megapixels:g} are decoded; {_REMEDY}"
        )


def _what_it_is(file: IO[bytes]) -> str:
    """Why a file whose format is not recognised cannot be read, and the remedy."""
    file.seek(0)
    head = file.read(32)
    for position, mark, name in _OTHERS:
        if head[position:].startswith(mark):
            remedy = "run git lfs pull" if name == "a Git LFS pointer" else "save it as PNG or JPEG"
            return f"is {name}, which is not read; {remedy}"
    if head.startswith(_HEADERS):
        return "cannot be decoded (its header is damaged, or of an unknown kind); save the image again"
    return "is not an image; remove it, or save it as PNG or JPEG"


def _check_sums(opened: ImageFile.ImageFile) -> None:
    """Raise SyntaxError for a PNG whose checksums are wrong: decoding passes over those of the pixels."""
    assert opened.fp is not None
    position = opened.fp.tell()
    with _open_format(opened.fp) as image:
        image.verify()
    opened.fp.seek(position)


def _expand_mode(image: Image.Image, path: Path | str) -> np.ndarray:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, or uint16 for 16-bit grey."""
    mode = image.mode
    if mode.startswith("I;16") or (
        mode == "I" and image.format == "PNG"
    ):  # older Pillow calls PNG's 16 bits "I"
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        raise FrameError(f"{path}: 32-bit pixels, mode {mode}, have no known range: 8 or 16 bits are needed")
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode == "P" and "transparency" in image.info)
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

"""Open and read image files: an explicit list of formats, pixels as they are stored."""

from __future__ import annotations

import logging
import os
import stat
import struct
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from acl_runtime.files.errors import FrameError, InputError, UserError
from acl_runtime.images import damage
from acl_runtime.images.pixels import (
    NEARLY_BLACK,
    declared_bits,
    expand,
    is_16_bit,
    is_at_the_top,
    orientation_of,
    refuse_planar_colour,
    to_full_scale,
    turn,
    turn_back,
    widen,
)

IMAGES = (  # the endings of image files, in lower case; for the whole product
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k"),
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")  # whatever a file is called
MAX_MEGAPIXELS = 200.0  # of a picture; see the help of --max-megapixels for the memory that it takes
DECODING = (  # what Pillow's decoders raise on damaged files, beside the documented OSError
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
LOG = logging.getLogger("acl")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_OTHERS = (  # (position, bytes, name) of files that people take for images, and that are not read
    *((4, b"ftyp" + brand, "a HEIC picture") for brand in _HEIC),
    *((4, b"ftyp" + brand, "an AVIF picture") for brand in (b"avif", b"avis")),
    *((0, b"DDS ", "a DDS texture"), (0, b"BLP", "a BLP texture"), (0, b"8BPS", "a Photoshop file")),
    *(
        (0, b"%!PS", "a PostScript file"),
        (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
        (0, b"%PDF", "a PDF file"),
    ),
    *((0, b"\xff\x0a", "a JPEG XL picture"), (4, b"JXL \r\n\x87\n", "a JPEG XL picture")),
    *((0, b"\x00\x00\x01\x00", "a Windows icon"), (0, b"SIMPLE  =", "a FITS file")),
)
_LFS = b"version https://git-lfs"
_HEADERS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8", b"\xff\x4f\xff\x51")
_REMEDY = "cut it into several, or allow more with --max-megapixels where the memory suffices"
_PILLOWS_LIMIT = threading.Lock()


@dataclass(frozen=True)
class ReadSettings:
    """How image files become frames; what is met on the way is noted once.

    Attributes:
        bits: Significant bits, 8 to 16, of pixels that are stored in 16, where the file does not say; None for
            16, and a note where the pixels say otherwise.
        exif: Whether to turn pictures as their orientation tag says, as viewers do; else pixels are as stored.
        max_megapixels: Most pixels of a picture, in millions.
    """

    bits: int | None = None
    exif: bool = False
    max_megapixels: float = MAX_MEGAPIXELS
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise InputError(f"bits must be 8 to 16, got {self.bits}")
        if not self.max_megapixels > 0:
            raise InputError(f"max_megapixels must be greater than 0, got {self.max_megapixels:g}")

    def note(self, kind: str, message: str) -> None:
        """Say something about the first file of a kind."""
        if kind not in self._said:
            self._said.add(kind)
            LOG.info("%s", message)

    def note_orientation(self, path: Path | str) -> None:
        """Say how the first picture that has an orientation tag is turned, and so all of them."""
        how = (
            "turned as it says"
            if self.exif
            else "judged as their pixels are stored; --exif turns them as viewers do"
        )
        self.note("orientation", f"{path}: has an orientation tag; such pictures are {how}")

    def note_depth(self, path: Path | str, pixels: np.ndarray) -> None:
        """Say that the first picture of 16 bits is nearly black, as those of 10 or 12 bits are."""
        if self.bits is None and "depth" not in self._said:
            full = 65535 if pixels.dtype == np.uint16 else 255
            highest = int(pixels.max())
            if highest * 65535 >= NEARLY_BLACK * full:
                self._said.add("depth")
                return
            self.note(
                "depth",
                f"{path}: its 16-bit pixels stay below {NEARLY_BLACK} of 65535 and are judged as nearly black; if the "
                "camera gives 12 bits or fewer, say how many with --bits",
            )


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
                check_pixels(path, image.width, image.height, max_megapixels)
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


def load_frame(path: Path | str, reading: ReadSettings | None = None) -> np.ndarray:
    """Read an image file as the published code does, where that is sane.

    Pixels come as they are stored, whatever the orientation tag says, because the masks of data sets are drawn
    on them. Palette and 1-bit images are expanded first; the published code resizes them by nearest neighbour.
    16-bit grey stays 16 bits; the published code clips it to white. Fewer bits in 16 are shifted to the top where
    the file says so, or `reading` does. Of several pictures in a file, the first counts.

    Args:
        path: A regular file of `FORMATS`, whatever it is called.
        reading: How to read it, and what was noted before.

    Returns:
        (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8; uint16, the full range of it, for 16-bit grey, and
        for 16-bit colour where `reading` gives its bits.

    Raises:
        FileNotFoundError: No such file.
        FrameError: The file is not a picture, is too large, or is damaged.
    """
    reading = reading or ReadSettings()
    with open_image(path, max_megapixels=reading.max_megapixels) as image:
        file = image.fp  # Pillow forgets it when the pixels are there
        assert file is not None
        damage.check_before(image, file, _open_format, path)
        refuse_planar_colour(image, path)
        is_wide, declared = is_16_bit(image), declared_bits(image)
        orientation = _orientation(image, reading)
        image.load()
        damage.check_after(image, file, _open_format)
        pixels = expand(image, path)
        if image.format == "TIFF" and orientation != 1 and orientation_of(image) == 1:  # Pillow turned it
            pixels = turn_back(pixels, orientation)
        if is_wide:
            pixels = _scale(path, file, pixels, declared, reading)
        _note(path, image, orientation, reading)
    return np.ascontiguousarray(turn(pixels, orientation) if reading.exif else pixels)


def decode_frame(data: bytes, reading: ReadSettings | None = None) -> np.ndarray:
    """Read an image file that is in memory, as `load_frame` reads one; what is wrong is said of "the picture".

    Args:
        data: The file's bytes, of one of `FORMATS`.
        reading: How to read it, and what was noted before.
    """
    with tempfile.NamedTemporaryFile(prefix="picture-") as file:  # decoders want one to seek in
        file.write(data)
        file.flush()
        try:
            return load_frame(file.name, reading)
        except FrameError as error:
            raise FrameError(str(error).replace(file.name, "the picture")) from error


def _orientation(image: Image.Image, reading: ReadSettings) -> int:
    """The orientation tag; where the metadata are damaged and nothing is to be turned, 1."""
    try:
        return orientation_of(image)
    except DECODING:
        if reading.exif:
            raise
        return 1


def _scale(
    path: Path | str, file: IO[bytes], pixels: np.ndarray, declared: int | None, reading: ReadSettings
) -> np.ndarray:
    """Give pixels that are stored in 16 bits the full range."""
    bits = declared or reading.bits
    if bits is None:
        reading.note_depth(path, pixels)
    if bits is None or bits == 16:
        return pixels
    if pixels.dtype == np.uint8:
        file.seek(0)
        pixels = widen(pixels, file.read(), path)
    if declared and is_at_the_top(pixels, declared):
        return pixels
    return to_full_scale(pixels, bits, path)


def _note(path: Path | str, image: ImageFile.ImageFile, orientation: int, reading: ReadSettings) -> None:
    """Say what the frame does not show."""
    if orientation != 1:
        reading.note_orientation(path)
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a photograph and its previews
        reading.note(
            "pages",
            f"{path}: holds several pictures; of such files the first is judged, save each as a file of its own",
        )


@contextmanager
def _open_file(path: Path | str, max_megapixels: float) -> Iterator[IO[bytes]]:
    size = check_regular(path)
    if not size:
        raise FrameError(f"{path}: is empty; save the image again")
    if size > 8e6 * max_megapixels + (64 << 20):  # 16-bit RGBA without compression, and metadata
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


def check_regular(path: Path | str) -> int:
    """The size in bytes of a regular file; a pipe would be waited for, for ever, and a device may never end."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; check the name")
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise FrameError(f"{path}: is no regular file; copy it to one")
    return found.st_size


def check_pixels(path: Path | str, width: int, height: int, max_megapixels: float) -> None:
    """Raise FrameError for a picture that is too large to decode."""
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise FrameError(
            f"{path}: has {width}×{height} pixels, {megapixels:.0f} megapixels where at most "
            f"{max_megapixels:g} are decoded; {_REMEDY}"
        )


def _what_it_is(file: IO[bytes]) -> str:
    """Why a file whose format is not recognised cannot be read, and the remedy."""
    file.seek(0)
    head = file.read(32)
    for position, mark, name in _OTHERS:
        if head[position:].startswith(mark):
            return f"is {name}, which is not read; save it as PNG or JPEG"
    if head.startswith(_LFS):
        return "is a Git LFS pointer, not the image itself; run git lfs pull"
    if head.startswith(_HEADERS):
        return "cannot be decoded (its header is damaged, or of an unknown kind); save the image again"
    return "is not an image; remove it, or save it as PNG or JPEG"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

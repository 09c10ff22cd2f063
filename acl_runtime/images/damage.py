"""Damage that Pillow decodes without a word: rows that are missing come as black, white or grey ones."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ImageFile

from acl_runtime.files.errors import FrameError

Opener = Callable[[IO[bytes]], ImageFile.ImageFile]
_FAX = ("tiff_ccitt", "group3", "group4", "tiff_raw_16")  # by Pillow's names
_BYTE_COUNTS = {273: 279, 324: 325}  # TIFF: offsets of strips or tiles -> their bytes
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG: by the kind of colour


def check_before(image: ImageFile.ImageFile, file: IO[bytes], reopen: Opener, path: Path | str) -> None:
    """Raise where an opened file is damaged though it would decode.

    Args:
        image: Not yet decoded.
        file: That it was opened from.
        reopen: Opens an image from a file.
        path: For the error.
    """
    if image.format == "PNG":
        position = file.tell()
        with reopen(file) as other:  # decoding passes over the checksums of the pixels
            other.verify()
        file.seek(position)
    if image.format == "TIFF":
        if image.info.get("compression") in _FAX:
            raise FrameError(
                f"{path}: is compressed as a fax, where lines that were lost look like white ones; save it as PNG"
            )
        _check_strips(image)


def check_after(image: ImageFile.ImageFile, file: IO[bytes], reopen: Opener) -> None:
    """Raise OSError where the last rows of a decoded image are what decoders make of missing data, and it is.

    Args:
        image: Decoded.
        file: That it was opened from.
        reopen: Opens an image from a file.
    """
    if image.format == "PNG":
        file.seek(0)
        header = file.read(29)
        if header[28] or image.crop((0, image.height - 1, *image.size)).getbbox() is None:
            _check_png_rows(file, header)
    elif image.format in ("JPEG", "MPO"):
        corner = np.asarray(image.crop((max(0, image.width - 8), max(0, image.height - 8), *image.size)))
        if (corner == 128).all():
            _check_jpeg_end(image, file, reopen)


def _check_strips(image: ImageFile.ImageFile) -> None:
    """Raise OSError if strips or tiles of an uncompressed TIFF are missing or too short."""
    if not image.tile or image.tile[0][0] != "raw":
        return  # the others are libtiff's, which says so itself
    tags = image.tag_v2  # type: ignore[attr-defined]
    planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    extents = [tile[1] or (0, 0, 0, 0) for tile in image.tile]
    pixels = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in extents]
    if sum(pixels) < tags[256] * tags[257] * planes:
        raise OSError("strips are missing")
    offsets = next(tag for tag in _BYTE_COUNTS if tag in tags)
    counts = tags.get(_BYTE_COUNTS[offsets], ())
    bits = sum(tags.get(258, (1,))[: tags.get(277, 1)]) // planes
    short = [
        0 < count < area * bits // 8 for count, area in zip(counts[-len(pixels) :], pixels, strict=False)
    ]
    if any(short) or 0 in tags[offsets]:
        raise OSError("strips are too short")


def _check_png_rows(file: IO[bytes], header: bytes) -> None:
    """Raise OSError if the compressed data of a PNG end before its last row."""
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    bits = header[24] * _CHANNELS[header[25]]
    passes = _ADAM7 if header[28] else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    missing = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    inflate = zlib.decompressobj()
    file.seek(8)
    while (head := file.read(8))[4:] != b"IEND" and head:
        data = file.read(int.from_bytes(head[:4], "big"))
        file.seek(4, 1)
        while head[4:] == b"IDAT" and data and not inflate.eof and missing > 0:
            missing -= len(inflate.decompress(data, 1 << 20))
            data = inflate.unconsumed_tail
    if missing > 0:
        raise OSError("rows are missing")


def _check_jpeg_end(image: ImageFile.ImageFile, file: IO[bytes], reopen: Opener) -> None:
    """Raise OSError if a JPEG ends before its last pixels, for which the decoder then puts grey.

    Bytes put before the end mark are passed over where all pixels were there, and become pixels where not.
    """
    file.seek(0)
    data = file.read()
    end = data.rfind(b"\xff\xd9")
    more = bytes(range(1, 255, 37)) * 512
    with reopen(io.BytesIO(data[:end] + more + data[end:])) as other:
        if not np.array_equal(np.asarray(other), np.asarray(image)):
            raise OSError("pixels are missing")

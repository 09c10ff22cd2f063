"""Rows that are missing from a file are never judged as black, white or grey ones."""

from __future__ import annotations

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiffs import make_tiff

from acl_runtime.files.errors import FrameError
from acl_runtime.images.decode import load_frame

ROWS = [bytes([100 + row] * 16) for row in range(20)]
STRIPS = [b"".join(ROWS[start : start + 5]) for start in range(0, 20, 5)]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def png(pixels: bytes, *, width: int = 16, height: int = 20, interlace: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))


def test_a_whole_tiff_is_read_and_one_that_lacks_strips_is_not(tmp_path: Path) -> None:
    tiff = partial(make_tiff, width=16, height=20, rows_per_strip=5)
    whole = load_frame(write(tmp_path / "a.tif", tiff(STRIPS)))
    assert whole.tobytes() == b"".join(ROWS)
    with pytest.raises(FrameError, match="strips are missing"):
        load_frame(write(tmp_path / "a.tif", tiff(STRIPS[:2])))
    with pytest.raises(FrameError, match="strips are too short"):
        load_frame(write(tmp_path / "a.tif", tiff([*STRIPS[:2], STRIPS[2][:40], STRIPS[3]])))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_a_fax_is_refused_since_lost_lines_are_white(tmp_path: Path, compression: str) -> None:
    noise().convert("1").save(tmp_path / "a.tif", compression=compression)
    with pytest.raises(
        FrameError, match="is compressed as a fax, where lines that were lost look like white"
    ):
        load_frame(tmp_path / "a.tif")


def test_a_png_that_ends_before_its_last_row_is_refused(tmp_path: Path) -> None:
    rows = [b"\0" + row for row in ROWS]
    black = [b"\0" + bytes(16)] * 3
    assert load_frame(write(tmp_path / "a.png", png(b"".join(rows)))).tobytes() == b"".join(ROWS)
    assert load_frame(write(tmp_path / "a.png", png(b"".join([*rows[:-3], *black])))).shape == (20, 16)
    with pytest.raises(FrameError, match="rows are missing"):
        load_frame(write(tmp_path / "a.png", png(b"".join(rows[:10]))))


def test_so_is_an_interlaced_one(tmp_path: Path) -> None:
    passes = ((2, 3), (2, 3), (4, 2), (4, 5), (8, 5), (8, 10), (16, 10))  # columns and rows, of 16x20
    data = b"".join((b"\0" + b"\7" * columns) * rows for columns, rows in passes)
    assert (load_frame(write(tmp_path / "a.png", png(data, interlace=1))) == 7).all()
    with pytest.raises(FrameError, match="rows are missing"):
        load_frame(write(tmp_path / "a.png", png(data[:-17], interlace=1)))


def test_a_jpeg_that_ends_early_with_an_end_mark_is_refused(tmp_path: Path) -> None:
    data = jpeg(noise())
    with pytest.raises(FrameError, match="pixels are missing"):
        load_frame(write(tmp_path / "a.jpg", data[: len(data) // 2] + b"\xff\xd9"))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("after", [b"", b"trailing bytes"])
def test_a_jpeg_that_is_grey_below_is_read(tmp_path: Path, mode: str, after: bytes) -> None:
    image = noise()
    image.paste(128, (0, 32, 64, 64))
    frame = load_frame(write(tmp_path / "a.jpg", jpeg(image.convert(mode)) + after))
    assert (frame[-8:, -8:] == 128).all()  # what the decoder puts for missing pixels too


def test_a_bmp_cut_short_is_refused(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.bmp")
    data = (tmp_path / "a.bmp").read_bytes()
    for length in (len(data) // 2, len(data) - 64, len(data) - 1):
        with pytest.raises(FrameError, match="image file is truncated"):
            load_frame(write(tmp_path / "a.bmp", data[:length]))

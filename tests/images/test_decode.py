"""Which files are opened, how bits and orientation are read, and what is said of it."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from tiffs import make_tiff

from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images import decode
from acl_runtime.images.decode import ReadSettings, load_frame, open_image
from acl_runtime.images.pixels import frame_size

TWELVE = np.random.default_rng(0).integers(0, 4096, (30, 40), dtype=np.uint16)
ORIENTATIONS = {  # what a viewer does with each
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def colour() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def as_bgr(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))[:, :, ::-1]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def significant(path: Path, bits: int) -> Path:
    """Put sBIT into a grey PNG."""
    data, chunk = path.read_bytes(), b"sBIT" + bytes([bits])
    whole = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return write(path, data[:33] + whole + data[33:])


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript file"),
        (b"DDS " + bytes(200), "is a DDS texture"),
        (b"BLP2" + bytes(200), "is a BLP texture"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "is a HEIC picture"),
        (b"\0\0\0\x18ftypavif" + bytes(200), "is an AVIF picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "its header is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer, not the image itself"),
    ],
)
def test_only_listed_formats_are_opened_and_others_are_called_by_name(
    tmp_path: Path, head: bytes, reason: str
) -> None:
    with pytest.raises(FrameError, match=rf"part\.png: .*{reason}"):
        load_frame(write(tmp_path / "part.png", head))


def test_no_other_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "started"
    program = write(tmp_path / "gs", f"#!/bin/sh\ntouch {mark}\n".encode())
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(FrameError):
        load_frame(
            write(tmp_path / "part.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
        )
    assert not mark.exists()


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.png")
    for path in (tmp_path / "part.png", Path("/dev/zero")):
        with pytest.raises(FrameError, match="is no regular file"):
            load_frame(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    colour().save(tmp_path / "a.png")
    message = r"a\.png: has 40×30 pixels, .* where at most 0\.001 are decoded; .*--max-megapixels"
    with pytest.raises(FrameError, match=message):
        load_frame(tmp_path / "a.png", ReadSettings(max_megapixels=0.001))
    assert load_frame(tmp_path / "a.png", ReadSettings(max_megapixels=0.0012)).shape == (30, 40, 3)


def test_a_picture_of_a_line_camera_is_read_and_pillows_own_limit_stays(tmp_path: Path) -> None:
    limit, wide = Image.MAX_IMAGE_PIXELS, (95_000_000, 2)  # 190 megapixels
    write(tmp_path / "a.pbm", b"P4 %d %d\n" % wide + bytes(2 * -(-wide[0] // 8)))
    with open_image(tmp_path / "a.pbm") as image:
        assert image.size == wide
    assert limit == Image.MAX_IMAGE_PIXELS
    with (
        pytest.raises(FrameError, match="190 megapixels where at most 100 are decoded"),
        open_image(tmp_path / "a.pbm", max_megapixels=100),
    ):
        pass


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(FrameError, match="is larger than any picture of 200 megapixels"):
        load_frame(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error", [RuntimeError("decoder"), MemoryError(), KeyError("x"), ZeroDivisionError("y")]
)
def test_whatever_fails_in_decoding_names_the_file(tmp_path: Path, error: Exception) -> None:
    colour().save(tmp_path / "a.png")
    with (
        pytest.raises(FrameError, match=r"a\.png: (cannot be decoded|takes more memory)"),
        open_image(tmp_path / "a.png"),
    ):
        raise error


def test_what_a_user_can_mend_keeps_its_words(tmp_path: Path) -> None:
    colour().save(tmp_path / "a.png")
    with pytest.raises(InputError, match="^other$"), open_image(tmp_path / "a.png"):
        raise InputError("other")


def test_twelve_bits_are_shifted_to_the_top(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), TWELVE)
    np.testing.assert_array_equal(load_frame(tmp_path / "a.png", ReadSettings(bits=12)), TWELVE << 4)
    np.testing.assert_array_equal(load_frame(tmp_path / "a.png", ReadSettings(bits=16)), TWELVE)
    with pytest.raises(FrameError, match=r"holds \d+, which takes 12 bits, not 10; give --bits 12 or more"):
        load_frame(tmp_path / "a.png", ReadSettings(bits=10))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_twelve_bits_of_colour_too(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (30, 40, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    np.testing.assert_array_equal(load_frame(tmp_path / f"a{suffix}", ReadSettings(bits=12)), pixels << 4)
    np.testing.assert_array_equal(load_frame(tmp_path / f"a{suffix}"), pixels >> 8)


def test_eight_bits_stay_as_they_are_whatever_is_said_of_sixteen(tmp_path: Path) -> None:
    colour().save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_frame(tmp_path / "a.png", ReadSettings(bits=12)), as_bgr(colour()))


def test_a_tiff_of_twelve_bits_is_read_as_such(tmp_path: Path) -> None:
    pairs = TWELVE.reshape(-1, 2).astype(np.uint32)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = make_tiff([packed.astype(np.uint8).tobytes()], width=40, height=30, rows_per_strip=30, bits=(12,))
    np.testing.assert_array_equal(load_frame(write(tmp_path / "a.tif", data)), TWELVE << 4)


def test_a_png_that_tells_its_significant_bits_is_read_as_such(tmp_path: Path) -> None:
    low, top = tmp_path / "low.png", tmp_path / "top.png"
    for path, pixels in ((low, TWELVE), (top, TWELVE << 4)):  # as cameras write them, and as PNG wants them
        cv2.imwrite(str(path), pixels)
        np.testing.assert_array_equal(load_frame(significant(path, 12)), TWELVE << 4)


def test_pgm_of_sixteen_bits_is_read(tmp_path: Path) -> None:
    wide = (TWELVE << 4).astype(">u2").tobytes()
    np.testing.assert_array_equal(
        load_frame(write(tmp_path / "a.pgm", b"P5 40 30 65535\n" + wide)), TWELVE << 4
    )
    narrow = load_frame(write(tmp_path / "b.pgm", b"P5 40 30 4095\n" + TWELVE.astype(">u2").tobytes()))
    assert narrow.dtype == np.uint16
    np.testing.assert_array_equal(narrow >> 8, TWELVE >> 4)


def test_signed_pixels_and_planes_of_colour_are_refused_by_a_true_sentence(tmp_path: Path) -> None:
    signed = make_tiff([bytes(2400)], width=40, height=30, rows_per_strip=30, bits=(16,), tags=[(339, 2)])
    with pytest.raises(FrameError, match=r"a\.tif: signed 16-bit pixels have no known range"):
        load_frame(write(tmp_path / "a.tif", signed))
    planes = make_tiff(
        [bytes(2400)] * 3, width=40, height=30, rows_per_strip=30, bits=(16, 16, 16), tags=[(284, 2)]
    )
    with pytest.raises(FrameError, match=r"b\.tif: stores each of its 16-bit colours as a plane"):
        load_frame(write(tmp_path / "b.tif", planes))


@pytest.mark.skipif(
    (TiffImagePlugin.II, 1, (1,), 1, (8, 8), (1,)) not in TiffImagePlugin.OPEN_INFO,
    reason="this Pillow refuses it, as one of an unknown kind",
)
def test_grey_with_premultiplied_alpha_is_read(tmp_path: Path) -> None:
    pixels = np.stack([np.full((30, 40), 60), np.full((30, 40), 120)], 2).astype(np.uint8)
    data = make_tiff(
        [pixels.tobytes()], width=40, height=30, rows_per_strip=30, bits=(8, 8), tags=[(262, 1), (338, 1)]
    )
    frame = load_frame(write(tmp_path / "a.tif", data))
    assert frame.shape == (30, 40, 4)
    assert tuple(frame[0, 0]) == (127, 127, 127, 120)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_are_as_stored_or_turned_as_viewers_do(
    tmp_path: Path, suffix: str, orientation: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, exif = tmp_path / f"a{suffix}", Image.Exif()
    exif[0x0112] = orientation
    colour().save(tmp_path / f"plain{suffix}")
    colour().save(path, exif=exif)
    plain = load_frame(tmp_path / f"plain{suffix}")
    with caplog.at_level(logging.INFO, "acl"):
        np.testing.assert_array_equal(load_frame(path), plain)
        turned = Image.fromarray(plain).transpose(ORIENTATIONS[orientation])
        np.testing.assert_array_equal(load_frame(path, ReadSettings(exif=True)), np.asarray(turned))
    stored, applied = caplog.messages
    assert stored.startswith(
        f"{path}: has an orientation tag; such pictures are judged as their pixels are stored"
    )
    assert applied == f"{path}: has an orientation tag; such pictures are turned as it says"
    for exif_given, size in ((False, (40, 30)), (True, turned.size)):
        with open_image(path) as image:
            assert frame_size(image, exif=exif_given) == size


def test_opencv_reads_the_stored_pixels_as_the_readme_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    colour().save(tmp_path / "a.png", exif=exif)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), flags), load_frame(tmp_path / "a.png"))


@pytest.mark.parametrize("file_format", ["TIFF", "GIF", "WEBP", "PNG"])
def test_several_pictures_in_a_file_are_noted_once(
    tmp_path: Path, file_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading = ReadSettings()
    for name in ("a", "b"):
        colour().save(
            tmp_path / name, file_format, save_all=True, append_images=[colour().transpose(ORIENTATIONS[3])]
        )
        with caplog.at_level(logging.INFO, "acl"):
            load_frame(tmp_path / name, reading)
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / 'a'}: holds several pictures; of such files the first is judged")


def test_dark_pictures_of_sixteen_bits_are_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), TWELVE)
    cv2.imwrite(str(tmp_path / "colour.png"), np.dstack([TWELVE] * 3))
    cv2.imwrite(str(tmp_path / "full.png"), TWELVE << 4)
    with caplog.at_level(logging.INFO, "acl"):
        for names in (("dark", "dark"), ("colour",), ("full", "dark")):
            reading = ReadSettings()
            for name in names:
                load_frame(tmp_path / f"{name}.png", reading)
        load_frame(tmp_path / "dark.png", ReadSettings(bits=12))
    assert len(caplog.messages) == 2
    assert all("16-bit pixels stay below 4096 of 65535" in message for message in caplog.messages)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="bits must be 8 to 16, got 7"):
        ReadSettings(bits=7)
    with pytest.raises(InputError, match="max_megapixels must be greater than 0, got 0"):
        ReadSettings(max_megapixels=0)


def test_damaged_metadata_do_not_hide_a_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    colour().save(buffer, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load_frame(write(tmp_path / "a.webp", buffer.getvalue())).shape == (30, 40, 3)


def test_every_listed_format_is_one_that_pillow_has() -> None:
    Image.init()
    assert set(decode.FORMATS) <= set(Image.OPEN)

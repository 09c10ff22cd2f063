"""Frames come from images of any kind, folders and videos; what cannot be read says why."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from PIL import Image

from acl_runtime.images.decode import load_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.files import iter_frames, list_sources

MODES = Path(__file__).parents[1] / "golden" / "fixtures" / "modes"
FORMATS = ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]


def picture(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path)
    return path


def write_video(path: Path, *, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), i * 40, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_colour_comes_as_bgr(tmp_path: Path, mode: str) -> None:
    image = picture(mode)
    image.save(tmp_path / "a.tif")
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    np.testing.assert_array_equal(load_frame(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_comes_as_bgra(mode: str) -> None:
    with Image.open(MODES / f"{mode}.png") as image:
        expected = np.asarray(image.convert("RGBA"))[:, :, [2, 1, 0, 3]]
    np.testing.assert_array_equal(load_frame(MODES / f"{mode}.png"), expected)


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    with Image.open(MODES / "P.png") as image:
        np.testing.assert_array_equal(
            load_frame(MODES / "P.png"), np.asarray(image.convert("RGB"))[:, :, ::-1]
        )
    picture("P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert load_frame(tmp_path / "a.png").shape == (30, 40, 4)


def test_grey_and_one_bit_come_as_grey() -> None:
    assert load_frame(MODES / "L.png").shape == (90, 120)
    bilevel = load_frame(MODES / "bilevel.png")
    assert bilevel.dtype == np.uint8
    assert set(np.unique(bilevel)) == {0, 255}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    frame = load_frame(tmp_path / f"a{suffix}")
    assert frame.dtype == np.uint16
    np.testing.assert_array_equal(frame, pixels)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, dtype: str) -> None:
    Image.fromarray(np.zeros((4, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="have no known range: 8 or 16 bits are needed"):
        load_frame(tmp_path / "a.tif")


def test_the_orientation_tag_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture().save(tmp_path / "a.png", exif=exif)
    assert load_frame(tmp_path / "a.png").shape == (30, 40, 3)


def test_a_file_that_is_no_picture_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such file; check the name"):
        load_frame(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: is empty; save the image again"):
        load_frame(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("a shopping list")
    with pytest.raises(ValueError, match=r"a\.png: is not an image; remove it"):
        load_frame(tmp_path / "a.png")


@pytest.mark.parametrize("file_format", FORMATS)
def test_damage_is_an_error_of_one_line_or_a_picture_never_a_crash(tmp_path: Path, file_format: str) -> None:
    buffer = io.BytesIO()
    picture().save(buffer, file_format)
    random, path = np.random.default_rng(0), tmp_path / "a.bin"
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for position in random.integers(0, min(len(data), 300), 3):
            data[position] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.5 else data)
        (result,) = iter_frames(list_sources([path]))  # any error but ValueError would get through
        if isinstance(result, BadFrame):
            assert "\n" not in result.problem
            assert str(path) in result.problem


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, file_format: str) -> None:
    buffer = io.BytesIO()
    picture().save(buffer, file_format)
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[: buffer.tell() * 2 // 3])
    with pytest.raises(ValueError, match=r"a\.png: cannot be decoded \(.*\); save the image again"):
        load_frame(tmp_path / "a.png")


def test_a_folder_is_the_images_below_it_in_natural_order(tmp_path: Path) -> None:
    names = ["a/b/1.PNG", "a/2.png", "a/10.jpg", "b1.bmp", "b2.webp", "b12.tif"]
    for name in reversed(names):
        save(tmp_path / name)
    save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("text")
    sources = list_sources([tmp_path])
    assert [os.path.relpath(source.path, tmp_path) for source in sources] == names
    assert [str(source.name) for source in sources] == ["a/b/1", "a/2", "a/10", "b1", "b2", "b12"]


def test_results_are_named_so_that_none_is_lost(tmp_path: Path) -> None:
    for name in ("good/0.png", "bad/0.png", "bad/0.jpg"):
        save(tmp_path / name)
    one = list_sources([tmp_path / "good" / "0.png"])
    assert [source.name for source in one] == [PurePath("0")]
    folders = list_sources([tmp_path / "good", tmp_path / "bad"])
    assert [str(source.name) for source in folders] == ["good/0", "bad/0.jpg", "bad/0.png"]
    twice = list_sources([tmp_path / "good", tmp_path / "good" / "0.png"])
    assert [str(source.name) for source in twice] == ["0", "0"]


def test_a_path_is_reported_as_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "parts" / "0.png")
    monkeypatch.chdir(tmp_path)
    assert [source.path for source in list_sources(["parts"])] == [os.path.join("parts", "0.png")]


def test_a_path_that_is_not_there_stops_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.png: no such file or folder; check the name"):
        list_sources([save(tmp_path / "a.png"), tmp_path / "nothing.png"])


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images \(\.png .*\); name a folder of images"):
        list_sources([tmp_path])


def test_a_number_is_a_camera_unless_there_is_such_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list_sources(["0"])[0].is_camera
    picture().save(tmp_path / "0", "PNG")
    assert not list_sources(["0"])[0].is_camera


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        save(tmp_path / name)
    (tmp_path / "2.png").write_text("text")
    first, second, third = iter_frames(list_sources([tmp_path]))
    assert isinstance(first, Frame)
    assert isinstance(third, Frame)
    assert isinstance(second, BadFrame)
    assert (second.source, second.index) == (str(tmp_path / "2.png"), 0)
    assert "is not an image" in second.problem


def test_a_video_gives_its_frames_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "belt.avi", frames=4)
    frames = [frame for frame in iter_frames(list_sources([path])) if isinstance(frame, Frame)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [str(frame.name) for frame in frames] == [f"belt_00000{i}" for i in range(4)]
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.frame, np.full((48, 64, 3), i * 40), atol=2)


def test_a_video_without_frames_is_reported(tmp_path: Path) -> None:
    (tmp_path / "belt.mp4").write_text("no video")
    assert list(iter_frames(list_sources([tmp_path / "belt.mp4"]))) == [
        BadFrame(
            str(tmp_path / "belt.mp4"),
            0,
            f"{tmp_path / 'belt.mp4'}: no frame can be decoded; save the video again",
        )
    ]


def test_a_png_whose_pixels_were_lost_is_not_read(tmp_path: Path) -> None:
    """Pillow decodes it without a word: a copy that is still under way, or a disk that lost its cache."""
    data = bytearray(save(tmp_path / "a.png").read_bytes())
    data[len(data) // 2 : -12] = bytes(len(data) - 12 - len(data) // 2)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be decoded"):
        load_frame(tmp_path / "a.png")


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", ".partial/c.png", "d/e.png"):
        save(tmp_path / name)
    assert [source.path for source in list_sources([tmp_path])] == [
        str(tmp_path / name) for name in ("a.png", "d/e.png")
    ]

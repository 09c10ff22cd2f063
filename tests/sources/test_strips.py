"""Strips of a folder, an image or a video are one web, however they are cut into blocks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import Clock, blocks_of

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.address import parse_address
from acl_runtime.sources.lines import open_line_source
from acl_runtime.sources.strips import StripSource

HEIGHTS = (5, 64, 1, 33)


def write_strips(folder: Path, dtype: type = np.uint8, *, shape: tuple[int, ...] = (40,)) -> np.ndarray:
    """Strips `1.png` to `10.png`; returns the web."""
    rng = np.random.default_rng(0)
    most = int(np.iinfo(dtype).max)
    names = [1, 2, 3, 10]
    strips = [rng.integers(0, most, (height, *shape), dtype, endpoint=True) for height in HEIGHTS]
    for name, strip in zip(names, strips, strict=True):
        cv2.imwrite(str(folder / f"{name}.png"), strip)
    return np.concatenate(strips)


def read_all(text: str) -> list[np.ndarray]:
    return [block.lines for block in blocks_of(open_line_source(text))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("height", [1, 16, 50, 4096])
def test_the_strips_of_a_folder_are_one_web_in_name_order(tmp_path: Path, dtype: type, height: int) -> None:
    web = write_strips(tmp_path, dtype)
    blocks = read_all(f"{tmp_path}?height={height}")
    assert [len(block) for block in blocks[:-1]] == [height] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), web)


def test_colour_strips_and_one_image_alone(tmp_path: Path) -> None:
    web = write_strips(tmp_path, shape=(40, 3))
    np.testing.assert_array_equal(np.concatenate(read_all(f"strips:{tmp_path}?height=20")), web)
    np.testing.assert_array_equal(np.concatenate(read_all(str(tmp_path / "2.png"))), web[5:69])


def test_a_video_is_a_web(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "web.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(6):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    lines = np.concatenate(read_all(f"{tmp_path}/web.avi?height=100"))
    assert lines.shape == (6 * 48, 64, 3)
    np.testing.assert_allclose(lines[::48, 0, 0], 40 * np.arange(6), atol=3)


def test_lines_that_were_lost_are_passed_over_and_those_behind_keep_their_place(tmp_path: Path) -> None:
    web = write_strips(tmp_path)
    blocks = blocks_of(open_line_source(f"{tmp_path}?height=2&loss=0.5&seed=1"))
    complete = [block for block in blocks if block.complete]
    assert 10 < len(complete) < 40
    for block in complete:
        assert block.number is not None
        first = 2 * (block.number - 1)
        np.testing.assert_array_equal(block.lines, web[first : first + 2])


def test_strips_are_replayed_at_a_rate_and_a_slow_reader_loses_lines(tmp_path: Path) -> None:
    web, clock = write_strips(tmp_path), Clock()
    address = parse_address(f"strips:{tmp_path}?height=4&rate=100&buffers=2")
    source = StripSource(address, clock=clock, sleep=clock.sleep)
    numbers = []
    for block in blocks_of(source):
        assert block.number is not None
        np.testing.assert_array_equal(block.lines, web[4 * block.number - 4 :][:4])
        numbers.append(block.number)
        if block.number == 5:
            clock.sleep(0.3)  # thirty lines: seven blocks, of which two wait
    assert numbers == [1, 2, 3, 4, 5, 6, 7, *range(13, 27)]


def test_strips_of_several_widths_or_damaged_ones_are_refused_by_name(tmp_path: Path) -> None:
    write_strips(tmp_path)
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((9, 41), np.uint8))
    with pytest.raises(
        SourceError, match="2.png: lines are 41 uint8, and 40 uint8 before; give strips of one"
    ):
        read_all(str(tmp_path))
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="2.png: .*; what lies behind it has no place on the web"):
        read_all(str(tmp_path))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((9, 41, 4), np.uint8))
    with pytest.raises(SourceError, match="1.png: lines must be"):
        open_line_source(str(tmp_path))


def test_a_folder_without_strips_or_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        open_line_source(str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match="no such file or folder, and no source is called so; there are"
    ):
        open_line_source(str(tmp_path / "web"))
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        open_line_source(f"strips:{tmp_path / 'web'}")

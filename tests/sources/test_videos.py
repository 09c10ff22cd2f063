"""Every frame of a video is judged or named as bad; none is missing without a word."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from acl_runtime.images.decode import ReadSettings
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.files import iter_frames, list_sources

FRAMES = 12


def pictures() -> list[np.ndarray]:
    return [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(FRAMES)]


def write_video(path: Path, code: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (64, 48))
    for picture in pictures():
        writer.write(picture)
    writer.release()
    return path


def read(path: Path, reading: ReadSettings | None = None) -> list[Frame | BadFrame]:
    return list(iter_frames(list_sources([path], reading)))


def damage_frames(path: Path, numbers: set[int]) -> None:
    """Fill frames of an AVI of JPEGs with zeros."""
    data = bytearray(path.read_bytes())
    position = data.index(b"movi") + 4
    for number in range(FRAMES):
        position = data.index(b"00dc", position)
        size = struct.unpack("<I", data[position + 4 : position + 8])[0]
        if number in numbers:
            data[position + 8 : position + 8 + size] = bytes(size)
        position += 8 + size
    path.write_bytes(data)


def test_frames_after_a_bad_one_are_judged_and_the_bad_one_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "belt.avi", "MJPG")
    damage_frames(path, {3, 4, 7})
    items = read(path)
    assert [item.index for item in items] == list(range(FRAMES))
    bad = [item for item in items if isinstance(item, BadFrame)]
    assert [item.index for item in bad] == [3, 4, 7]
    assert bad[0].problem == f"{path}: frame 3 cannot be decoded; save the video again"
    for item in items:
        if isinstance(item, Frame):
            np.testing.assert_allclose(item.frame, pictures()[item.index], atol=2)


def test_a_video_whose_end_is_missing_says_how_many_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "belt.avi", "MJPG")
    damage_frames(path, set(range(8, FRAMES)))
    *frames, last = read(path)
    assert len(frames) == 8
    assert isinstance(last, BadFrame)
    assert last.index == 8
    assert "4 frames at its end are missing or cannot be decoded" in last.problem


@pytest.mark.parametrize(
    ("suffix", "code"), [(".mp4", "mp4v"), (".mov", "mp4v"), (".mkv", "mp4v"), (".avi", "MJPG")]
)
def test_a_whole_video_has_no_bad_frame(tmp_path: Path, suffix: str, code: str) -> None:
    items = read(write_video(tmp_path / f"belt{suffix}", code))
    assert len(items) == FRAMES
    assert all(isinstance(item, Frame) for item in items)


@pytest.mark.parametrize("suffix", [".mjpeg", ".mjpg"])
def test_a_stream_of_jpegs_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"belt{suffix}"
    path.write_bytes(b"".join(cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures()))
    assert [item.index for item in read(path) if isinstance(item, Frame)] == list(range(FRAMES))


@pytest.mark.parametrize("suffix", [".ts", ".mts", ".wmv", ".flv", ".3gp", ".h264"])
def test_rarer_endings_are_videos(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / "belt.avi", "MJPG").rename(
        tmp_path / f"belt{suffix}"
    )  # told by its content
    assert len(read(path)) == FRAMES


def turned_video(path: Path) -> Path:
    """An MP4 whose track is to be turned by 90 degrees, by the matrix of its header."""
    data = bytearray(write_video(path, "mp4v").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_a_turned_video_comes_as_stored_or_as_players_show_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = turned_video(tmp_path / "belt.mp4")
    with caplog.at_level(logging.INFO, "acl"):
        stored, applied = (read(path, ReadSettings(exif=exif))[0] for exif in (False, True))
    assert isinstance(stored, Frame)
    assert isinstance(applied, Frame)
    assert (stored.frame.shape, applied.frame.shape) == ((48, 64, 3), (64, 48, 3))
    assert [message.partition("; ")[2] for message in caplog.messages] == [
        "such pictures are judged as their pixels are stored; --exif turns them as viewers do",
        "such pictures are turned as it says",
    ]


def test_a_video_too_large_or_no_regular_file_is_one_bad_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "belt.avi", "MJPG")
    (large,) = read(path, ReadSettings(max_megapixels=0.001))
    assert isinstance(large, BadFrame)
    assert "has 64×48 pixels" in large.problem
    os.mkfifo(tmp_path / "pipe.mp4")
    (pipe,) = read(tmp_path / "pipe.mp4")
    assert isinstance(pipe, BadFrame)
    assert "is no regular file" in pipe.problem

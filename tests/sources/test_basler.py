"""pypylon's own camera without hardware: own pictures, failed buffers, and both ways to take blocks."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.block import Block, LineSource
from acl_runtime.sources.lines import open_line_source

os.environ["PYLON_CAMEMU"] = "1"  # one such camera; it is read when pylon is loaded
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its generated wrappers, by Python version
    pytest.importorskip("pypylon.pylon", reason="pypylon is not installed: the extra basler")
CAMERA = "basler:0815-0000"
WIDTH, HEIGHT = 128, 32
Open = Callable[..., LineSource]


@pytest.fixture
def settings(tmp_path: Path) -> list[tuple[str, str]]:
    """The camera shows four pictures in turn, at 200 Hz."""
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index))
    shown = [("ImageFilename", str(tmp_path)), ("ImageFileMode", "On"), ("TestImageSelector", "Off")]
    size = [("PixelFormat", "Mono8"), ("Width", str(WIDTH)), ("Height", str(HEIGHT))]
    return [*shown, *size, ("AcquisitionFrameRateEnable", "true"), ("AcquisitionFrameRateAbs", "200")]


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH), np.uint8)


def take(source: LineSource, count: int) -> list[Block]:
    blocks: list[Block] = []
    while len(blocks) < count:
        block = source.read(2.0)
        assert block is not None
        blocks.append(Block(**{**vars(block), "lines": block.lines.copy()}))
    return blocks


def test_blocks_hold_the_camera_s_pictures_and_count_up(settings: list[tuple[str, str]]) -> None:
    with closing(open_line_source(CAMERA, settings)) as source:
        assert (source.width, source.height, source.numbers) == (WIDTH, HEIGHT, None)
        blocks = take(source, 8)
    assert [block.number for block in blocks] == list(range(8))
    assert all(block.complete for block in blocks)
    for block in blocks:
        np.testing.assert_array_equal(block.lines, picture(block.number % 4))  # type: ignore[operator]
    source.close()
    with pytest.raises(SourceError, match="is closed; open it again"):
        source.read(0.1)


def test_failed_buffers_keep_their_number_and_are_not_looked_at(settings: list[tuple[str, str]]) -> None:
    fail = [("ForceFailedBufferCount", "3"), ("ForceFailedBuffer", "1")]
    with closing(open_line_source(CAMERA, [*settings, *fail])) as source:
        blocks = take(source, 8)
    assert [block.number for block in blocks] == list(range(8))
    assert [block.complete for block in blocks] == [False] * 3 + [True] * 5
    assert all(not block.lines.any() for block in blocks[:3])


def test_a_slow_reader_gets_every_block_or_the_newest(settings: list[tuple[str, str]]) -> None:
    numbers = {}
    for way in ("every", "newest"):
        with closing(open_line_source(f"{CAMERA}?take={way}&buffers=4", settings)) as source:
            seen = []
            for _ in range(4):
                time.sleep(0.05)  # ten blocks
                seen.append(take(source, 1)[0].number)
        numbers[way] = seen
    assert numbers["every"] == [0, 1, 2, 3]
    assert (np.diff(numbers["newest"]) > 1).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "dtype", "shape"),
    [
        ("Mono12", np.uint16, (HEIGHT, WIDTH)),
        ("Mono16", np.uint16, (HEIGHT, WIDTH)),
        ("RGB8Packed", np.uint8, (HEIGHT, WIDTH, 3)),
        ("BGR8Packed", np.uint8, (HEIGHT, WIDTH, 3)),
        ("BayerRG8", np.uint8, (HEIGHT, WIDTH, 3)),
    ],
)
def test_pixels_come_in_their_kind(pixels: str, dtype: type, shape: tuple[int, ...]) -> None:
    text = f"{CAMERA}?Width={WIDTH}&Height={HEIGHT}&PixelFormat={pixels}"
    with closing(open_line_source(text)) as source:
        (block,) = take(source, 1)
    assert block.lines.shape == shape
    assert block.lines.dtype == dtype
    if dtype == np.uint16:
        assert block.lines[0, :3].tolist() == [256, 512, 768], "twelve bits lie at the top, as sixteen do"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("basler:0815-0007", r"no such camera \(did you mean 0815-0000\?\); there are: 0815-0000"),
        ("basler:", "no such camera; there are: 0815-0000"),
        (f"{CAMERA}?Widht=8", "the camera has no setting Widht; write it as the camera's manual does"),
        (f"{CAMERA}?Width=99999", "Width=99999 was refused .*smaller than Max = 4096.; see which values"),
        (f"{CAMERA}?PixelFormat=Mono7", "PixelFormat=Mono7 was refused"),
        (
            f"{CAMERA}?PixelFormat=BayerRG12",
            "PixelFormat BayerRG12 cannot be read; set PixelFormat to one of Mono8,",
        ),
        (
            f"{CAMERA}?encoder=ChunkEncoderValue",
            "sends no ChunkEncoderValue; switch it on with ChunkModeActive=true",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, problem: str) -> None:
    want = f"^{text.replace('?', '[?]')}: {problem}"
    with pytest.raises(SourceError, match=want), closing(open_line_source(text)) as source:
        take(source, 1)


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="take must be every or newest, got all"):
        open_line_source(f"{CAMERA}?take=all")


def test_it_is_listed() -> None:
    from acl_runtime.sources.cameras import _list_basler

    (camera,) = _list_basler()
    assert (camera.source, camera.model, camera.link) == (CAMERA, "Basler Emulation", "BaslerCamEmu")

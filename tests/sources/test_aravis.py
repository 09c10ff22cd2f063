"""Real GigE Vision packets: every line is seen once or known to be lost, and no old line passes for a new one."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_gige import ADDRESS, FakeCamera, loopback_only, numbered_lines, numbers_of

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources import aravis_library
from acl_runtime.sources.aravis import AravisSource, list_aravis
from acl_runtime.sources.block import Block
from acl_runtime.sources.lines import open_line_source

WIDTH, HEIGHT = 1024, 64
SETTINGS = [("Width", str(WIDTH)), ("Height", str(HEIGHT)), ("ExposureTimeAbs", "10")]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def _network() -> Iterator[None]:
    with loopback_only():
        yield


@pytest.fixture(scope="module")
def _library() -> None:
    try:
        aravis_library.load_aravis()
    except SourceError as error:
        pytest.skip(str(error))


def open_camera(name: str = ADDRESS, *, rate: int = 200, buffers: int = 16) -> AravisSource:
    source = open_line_source(
        f"aravis:{name}?packet=3000&buffers={buffers}", [*SETTINGS, ("AcquisitionFrameRate", str(rate))]
    )
    assert isinstance(source, AravisSource)
    return source


def take(source: AravisSource, count: int, *, pause_after: int = 0) -> list[Block]:
    """Blocks with lines of their own; after so many of them the reader pauses for half a second."""
    blocks: list[Block] = []
    while len(blocks) < count:
        block = source.read(0.5)
        if block is None:  # a slow machine, or a camera that is gone, which is an error after a while
            continue
        blocks.append(replace(block, lines=block.lines.copy()))
        if len(blocks) == pause_after:
            time.sleep(0.5)
    return blocks


def account(blocks: list[Block], fake: FakeCamera) -> tuple[int, int]:
    """Lines seen and lost between the first and the last known number; asserts what the file promises.

    Numbers alone place the blocks: those that are missing were lost, whether they came incomplete or never.
    """
    known = [block for block in blocks if block.number is not None]
    numbers = np.unwrap([block.number for block in known], period=65535).astype(int)  # type: ignore[misc]
    assert (np.diff(numbers) > 0).all()
    complete = [(number, block) for number, block in zip(numbers, known, strict=True) if block.complete]
    origin = int(numbers_of(complete[0][1].lines)[0]) - HEIGHT * complete[0][0]
    for number, block in complete:
        truth = np.empty((HEIGHT, WIDTH), np.uint8)
        numbered_lines(fake.web, origin + HEIGHT * number, truth)
        np.testing.assert_array_equal(block.lines, truth)  # in its place, and every pixel of it new
    exposed = HEIGHT * (numbers[-1] - numbers[0] + 1)
    assert fake.line >= exposed
    return HEIGHT * len(complete), exposed - HEIGHT * len(complete)


@pytest.mark.usefixtures("_network")
@pytest.mark.parametrize(
    ("lost", "least", "most"), [(0.0, 0.0, 0.05), (0.005, 0.02, 0.4), (0.1, 0.7, 1.0), (0.3, 0.9, 1.0)]
)
def test_every_line_is_seen_once_or_lost_whatever_packets_are(lost: float, least: float, most: float) -> None:
    fake = FakeCamera("WEB01", WIDTH, HEIGHT, lost=lost)
    source = open_camera(buffers=64)
    assert (source.width, source.height, source.numbers) == (WIDTH, HEIGHT, range(1, 65536))
    blocks = take(source, 170)
    source.close()
    fake.close()
    if lost < 0.3:  # at 30 % no block of 26 packets is whole
        seen, missing = account(blocks, fake)
        assert least <= missing / (seen + missing) <= most
    numbers = [block.number for block in blocks if block.number is not None]
    assert numbers[-1] < numbers[0], "they went from 65535 to 1 meanwhile"
    without = [block for block in blocks if block.number is None]
    assert not any(block.complete for block in without)
    assert without or lost < 0.1


@pytest.mark.usefixtures("_network")
def test_a_reader_that_pauses_gets_the_oldest_blocks_and_knows_what_it_missed() -> None:
    fake = FakeCamera("WEB02", WIDTH, HEIGHT)
    source = open_camera(buffers=4)
    blocks = take(source, 60, pause_after=20)
    source.close()
    fake.close()
    seen, lost = account(blocks, fake)
    numbers = np.array([block.number for block in blocks])
    (gaps,) = np.nonzero(np.diff(numbers) != 1)
    assert seen == 60 * HEIGHT
    assert lost > 20 * HEIGHT  # of a hundred in half a second
    assert gaps[0] in range(22, 25), "those that were waiting came first"


@pytest.mark.usefixtures("_network")
def test_a_first_block_without_leader_has_no_number() -> None:
    for attempt in range(6):
        fake = FakeCamera(f"WEB{attempt}", WIDTH, HEIGHT, lost=0.9)
        source = open_camera()
        (first,) = take(source, 1)
        fake.lose(0.0)
        blocks = [first, *take(source, 20)]
        source.close()
        fake.close()
        if first.number is None:
            break
    assert first.number is None
    assert not first.complete
    assert first.exposed_ns is None
    seen, lost = account(blocks, fake)
    assert seen >= 15 * HEIGHT
    assert lost <= 5 * HEIGHT


@pytest.mark.usefixtures("_network")
def test_a_camera_that_dies_is_noticed_and_taken_up_again_when_it_is_back() -> None:
    program = [sys.executable, "tests/fake_gige.py", "WEB03", str(WIDTH), str(HEIGHT), "0"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    source = open_camera()
    take(source, 5)
    process.kill()
    process.communicate()
    began = time.monotonic()
    with pytest.raises(SourceError, match="the camera does not answer any more; check its cable and power"):
        take(source, 100_000)
    assert time.monotonic() - began < 15
    closing = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - closing < 3
    with pytest.raises(SourceError, match="cannot be opened .*there are: none; check cable"):
        open_camera("Aravis-Fake-WEB03")
    fake = FakeCamera("WEB03", WIDTH, HEIGHT)
    source = open_camera("Aravis-Fake-WEB03")
    blocks = take(source, 5)
    fake.close()
    closing = time.monotonic()
    source.close()  # before the loss was noticed
    assert time.monotonic() - closing < 3
    assert numbers_of(blocks[0].lines)[0] == 0  # another camera's web
    with pytest.raises(SourceError, match="is closed; open it again"):
        source.read(1.0)


@pytest.mark.usefixtures("_network")
def test_cameras_are_listed_and_opened_by_any_of_their_names() -> None:
    fake = FakeCamera("WEB04", WIDTH, HEIGHT)
    (camera,) = list_aravis()
    assert (camera.source, camera.model) == ("aravis:Aravis-Fake-WEB04", "Aravis Fake")
    assert (camera.serial, camera.address, camera.link) == ("WEB04", ADDRESS, "GigEVision")
    open_camera("WEB04").close()
    with pytest.raises(
        SourceError, match=r"no such camera \(did you mean Aravis-Fake-WEB04\?\); there are: Ara"
    ):
        open_camera("Aravis-Fake-WEB05")
    fake.close()


@pytest.mark.usefixtures("_network")
def test_no_thread_and_no_open_file_is_left() -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    fake = FakeCamera("WEB05", WIDTH, HEIGHT)
    open_camera().close()
    threads, files = left()
    for _ in range(6):
        source = open_camera()
        take(source, 2)
        source.close()
    threads_after, files_after = left()
    fake.close()
    assert threads_after < threads + 4, (
        "a thread of GLib's own may come and go, one for each opening may not stay"
    )
    assert files_after < files + 4


@pytest.mark.usefixtures("_network")
def test_a_camera_that_nobody_closed_stops_with_its_last_reference() -> None:
    fake = FakeCamera("WEB06", WIDTH, HEIGHT)
    source = open_camera()
    take(source, 1)
    del source
    gc.collect()
    line = fake.line
    time.sleep(0.1)
    fake.close()
    assert fake.line == line


def read_one(settings: list[tuple[str, str]], options: str = "") -> Block:
    """A block of Aravis's camera without a network."""
    source = open_line_source(f"aravis:Fake_1{options}", settings)
    try:
        block = source.read(5.0)
        assert block is not None
        return replace(block, lines=block.lines.copy())
    finally:
        source.close()


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(
    ("pixels", "shape", "dtype"),
    [("Mono8", (9, 256), np.uint8), ("Mono16", (9, 256), np.uint16), ("RGB8", (9, 256, 3), np.uint8)],
)
def test_pixels_come_in_their_kind(pixels: str, shape: tuple[int, ...], dtype: type) -> None:
    block = read_one([("PixelFormat", pixels), ("Width", "256")], "?Height=9")
    assert block.lines.shape == shape
    assert block.lines.dtype == dtype
    assert block.complete
    assert block.exposed_ns is not None
    assert block.received_ns <= time.monotonic_ns()


@pytest.mark.usefixtures("_library")
def test_red_and_blue_change_places() -> None:
    block = read_one([("PixelFormat", "RGB8"), ("Width", "256"), ("Height", "9"), ("ExposureTimeAbs", "100")])
    assert not np.array_equal(block.lines[..., 0], block.lines[..., 2])
    grey = read_one([("PixelFormat", "BayerRG8"), ("Width", "256"), ("Height", "10")])
    assert grey.lines.shape == (10, 256, 3)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([("Widht", "256")], "the camera has no setting Widht; write it as the camera's manual does"),
        ([("Width", "abc")], "Width=abc was refused .*abc.*; see which values the camera takes"),
        ([("PixelFormat", "Mono12")], "PixelFormat=Mono12 was refused"),
        (
            [("ExposureTimeAbs", "10.4")],
            "ExposureTimeAbs=10.4 did not take: the camera has 10; set what it can do",
        ),
    ],
)
def test_a_setting_that_does_not_take_is_an_error(settings: list[tuple[str, str]], problem: str) -> None:
    with pytest.raises(SourceError, match=f"^aravis:Fake_1: {problem}"):
        read_one(settings)


@pytest.mark.usefixtures("_library")
def test_settings_are_written_in_order_and_the_text_s_own_come_last() -> None:
    assert read_one([("Width", "256"), ("Width", "128"), ("Height", "5")], "?Height=6").lines.shape == (
        6,
        128,
    )


def test_options_are_told_apart_from_settings() -> None:
    with pytest.raises(InputError, match=r"has no option buffer \(did you mean buffers\?\)"):
        open_line_source("aravis:Fake_1?buffer=3")
    with pytest.raises(InputError, match="buffers must be 2 to 10000, got 1"):
        open_line_source("aravis:Fake_1?buffers=1")


def test_without_the_library_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    aravis_library._load.cache_clear()
    with pytest.raises(
        SourceError, match="libnone.so, which cannot be loaded .*apt-get install .*libaravis-0.8-0"
    ):
        aravis_library._load("libnone.so")

"""What a camera of a station makes of frames that come, come late, come in pieces or never."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from stations import PushedCamera, TakenParts, wait_until

from acl_runtime.inspection.station.camera import Exposure, StationCamera
from acl_runtime.inspection.station.camera_clock import CameraClock
from acl_runtime.inspection.station.station_file import CameraSection
from acl_runtime.sources.block import Block

SECTION = CameraSection(source="drawn:1", name="top")


@pytest.fixture
def pushed() -> PushedCamera:
    return PushedCamera()


@pytest.fixture
def line() -> TakenParts:
    return TakenParts()


@pytest.fixture
def camera(pushed: PushedCamera, line: TakenParts) -> Iterator[StationCamera]:
    camera = StationCamera(SECTION, line, open_source=pushed.open)
    camera.start()
    yield camera
    camera.stop()
    camera.join()
    assert camera.failure is None


def problems(line: TakenParts) -> list[str]:
    return [cast("Exposure", exposure).problem for exposure in line.exposures]


def test_every_frame_is_a_part_and_so_is_every_one_that_never_came_or_came_in_pieces(
    pushed: PushedCamera, line: TakenParts, camera: StationCamera
) -> None:
    pushed.push(encoder=100)
    pushed.push(complete=False)
    pushed.push(skip=2, encoder=130)
    wait_until(lambda: len(line.exposures) >= 5, "five parts")
    assert problems(line) == [
        "",
        "the frame came incomplete",
        "the frame never came",
        "the frame never came",
        "",
    ]
    assert line.counts == [100, 130]
    frames = [cast("Exposure", exposure).frame for exposure in line.exposures]
    assert [frame is None for frame in frames] == [False, True, True, True, False]


def test_a_camera_that_went_away_is_opened_again_and_says_so_meanwhile(
    pushed: PushedCamera, line: TakenParts, camera: StationCamera
) -> None:
    wait_until(lambda: camera.is_there, "the camera")
    pushed.break_down()
    wait_until(lambda: not camera.is_there, "its loss")
    assert line.lost_places == 1
    wait_until(lambda: "is not connected" in camera.problem, "a try to open it")
    assert camera.is_known
    pushed.is_away = False
    wait_until(lambda: camera.is_there, "its return")
    pushed.push(skip=1000)  # it counts otherwise now: how many parts passed nobody knows
    wait_until(lambda: line.exposures, "a part")
    assert (problems(line), pushed.opened) == ([""], 2)


def test_with_an_interval_a_part_is_due_each_time_whether_a_frame_comes_or_the_camera_is_away() -> None:
    pushed, line = PushedCamera(), TakenParts()
    section = replace(SECTION, interval_ms=40.0)
    camera = StationCamera(section, line, open_source=pushed.open)
    started_ns = time.monotonic_ns()
    camera.start()
    wait_until(lambda: camera.is_there, "the camera")
    for _ in range(3):
        pushed.push()
    wait_until(lambda: len(line.exposures) >= 3, "parts without frames")
    pushed.break_down()
    wait_until(lambda: "the camera is away" in problems(line), "a part while it is away")
    camera.stop()
    camera.join()
    elapsed_ns = time.monotonic_ns() - started_ns
    assert problems(line)[0] == ""  # of three frames at once only the first is a part
    assert problems(line).count("") == 1
    assert "no frame came" in problems(line)
    assert len(line.exposures) <= elapsed_ns / 40e6 + 1
    times = [cast("Exposure", exposure).exposed_ns for exposure in line.exposures[1:]]
    assert {late - early for early, late in pairwise(times)} == {40_000_000}


def test_a_recording_waits_until_there_is_room() -> None:
    pushed, line = PushedCamera(is_live=False), TakenParts(has_room=False)
    camera = StationCamera(SECTION, line, open_source=pushed.open)
    pushed.push()
    camera.start()
    wait_until(lambda: camera.is_there, "the camera")
    assert not line.exposures
    line.has_room = True
    wait_until(lambda: line.exposures, "its frame")
    camera.stop()
    camera.join()


def test_a_frame_that_was_held_up_on_its_way_is_as_old_as_the_cameras_clock_says() -> None:
    clock = CameraClock()

    def exposed(camera_ns: int, received_ns: int) -> int:
        lines = np.zeros((1, 1), np.uint8)
        block = Block(lines=lines, number=1, complete=True, exposed_ns=camera_ns, received_ns=received_ns)
        return clock.exposed_ns(block)

    assert exposed(1000, 501_000) == 501_000
    assert exposed(2000, 999_000) == 502_000  # half a millisecond late
    assert (
        exposed(3000, 502_900) == 502_900
    )  # came faster than the first: the difference is smaller than thought
    assert exposed(4000, 504_500) == 503_900

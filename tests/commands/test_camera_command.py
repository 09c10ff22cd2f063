"""`acl camera`, and cameras as sources of `acl run`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import blocks_of
from console import acl, assert_one_line
from fake_gige import ADDRESS, FakeCamera, loopback_only, numbers_of
from graphs import write_tiny_bundle

from acl_runtime.files.errors import SourceError
from acl_runtime.sources import cameras
from acl_runtime.sources.found import FoundCamera
from acl_runtime.sources.lines import open_line_source

WEB = "drawn:5?width=64&height=10&lines=1000&defects_per_m=0"


def found() -> list[FoundCamera]:
    facts = {"source": "aravis:Maker-L4-77", "model": "Maker L4", "serial": "77", "address": "10.0.0.7"}
    return [FoundCamera(**facts, link="GigEVision")]


def missing() -> list[FoundCamera]:
    raise SourceError("a library is not installed; install it")


def pictures_of(folder: Path) -> list[np.ndarray]:
    """The pictures of a folder, as they are stored, by name."""
    return [np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in sorted(folder.iterdir())]


def test_list_tells_what_is_there_and_what_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "LISTS", (missing, found))
    result = acl("camera", "list")
    assert result.exit_code == 0
    assert result.stdout == "aravis:Maker-L4-77  Maker L4, serial 77, 10.0.0.7, GigEVision\n"
    assert result.stderr == "note: a library is not installed; install it\n"
    monkeypatch.setattr(cameras, "LISTS", ())
    none = acl("camera", "list")
    assert none.exit_code == 1
    assert none.stdout.startswith("no camera answers; check cable and power")


def test_a_usb_camera_is_listed_once(tmp_path: Path) -> None:
    for number, name, index in ((10, "Desk", 0), (2, "Belt", 0), (3, "Belt", 1)):
        folder = tmp_path / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text(f"{index}\n")
    listed = [(each.source, each.model, each.address) for each in cameras.list_video_devices(tmp_path)]
    assert listed == [("opencv:2", "Belt", "/dev/video2"), ("opencv:10", "Desk", "/dev/video10")]


def test_grab_takes_blocks_or_strips_of_so_many_lines(tmp_path: Path) -> None:
    web = np.concatenate([block.lines for block in blocks_of(open_line_source(WEB))])
    assert acl("camera", "grab", WEB, "-o", tmp_path / "blocks", "-n", 3).exit_code == 0
    for index, picture in enumerate(pictures_of(tmp_path / "blocks")):
        np.testing.assert_array_equal(picture, web[10 * index : 10 * index + 10])
    result = acl("camera", "grab", WEB, "-o", tmp_path / "strips", "--lines", 33)
    assert result.stdout.splitlines()[-1] == f"{tmp_path}/strips/000009.png  64×33"
    strips = pictures_of(tmp_path / "strips")
    np.testing.assert_array_equal(np.concatenate(strips), web[:330])
    assert_one_line(
        acl("camera", "grab", WEB, "-o", tmp_path / "strips"), "000000.png: is there already; name another"
    )


def test_a_strip_has_no_lost_line_inside(tmp_path: Path) -> None:
    web = np.concatenate([block.lines for block in blocks_of(open_line_source(WEB))])
    result = acl("camera", "grab", f"{WEB}&loss=0.2", "-o", tmp_path, "--lines", 25, "-n", 100)
    assert "note: lines were lost on the way; pictures begin anew behind the gap" in result.stderr
    assert "of 100 pictures" in result.stderr
    pictures = pictures_of(tmp_path)
    assert len(pictures) > 5
    windows = {web[first : first + 25].tobytes() for first in range(len(web) - 24)}
    assert all(picture.tobytes() in windows for picture in pictures)


def test_a_camera_that_is_not_there_or_refuses_a_setting_is_one_line(tmp_path: Path) -> None:
    assert_one_line(
        acl("camera", "grab", "opencv:77", "-o", tmp_path), "opencv:77: gives no frame; check that it is"
    )
    result = acl("camera", "grab", WEB, "-o", tmp_path, "--set", "Height=64")
    assert_one_line(result, "has no GenICam settings (Height); leave them out")
    assert acl("camera", "grab", WEB, "-o", tmp_path, "--set", "Height").exit_code == 2


def test_references_are_taken_and_checked_together(tmp_path: Path) -> None:
    levels = {"dark": 4, "bright": 180}
    for light, level in levels.items():
        strip = np.full((50, 64), level, np.uint8)
        cv2.imwrite(str(tmp_path / f"{light}.png"), strip)
    dark = acl("camera", "reference", tmp_path / "dark.png", "dark", "-o", tmp_path / "flat", "--lines", 40)
    assert dark.exit_code == 0
    assert dark.stdout == f"{tmp_path}/flat/dark.json: 50 lines, pixels at 1.6 to 1.6 %\n"
    bright = acl("camera", "reference", tmp_path / "bright.png", "bright", "-o", tmp_path / "flat")
    assert bright.stdout.splitlines()[1].endswith("every pixel can be corrected")
    facts = json.loads((tmp_path / "flat" / "bright.json").read_text())
    assert (facts["kind"], facts["lines"], facts["source"]) == ("bright", 50, str(tmp_path / "bright.png"))
    result = acl("camera", "reference", tmp_path / "dark.png", "bright", "-o", tmp_path / "flat")
    assert_one_line(result, "half the pixels are below 4 of 255; switch the lamp on")


def test_run_judges_the_frames_of_a_camera_and_says_which_were_lost(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    result = acl("run", bundle, "drawn:5?width=64&height=48&lines=960&loss=0.3", "--json", "-")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert {line["source"] for line in lines} == {"drawn:5?width=64&height=48&lines=960&loss=0.3"}
    errors = [line["error"] for line in lines if "error" in line]
    assert any("came incomplete" in error for error in errors)
    assert any("never came" in error for error in errors)
    assert len(lines) - len(errors) > 5


def test_pictures_of_a_gige_camera_are_grabbed_as_a_user_types_it(tmp_path: Path) -> None:
    with loopback_only():
        fake = FakeCamera("GRAB1", 256, 32)
        settings = [
            part for pair in ("Width=256", "Height=32", "ExposureTimeAbs=10") for part in ("--set", pair)
        ]
        result = acl("camera", "grab", f"aravis:{ADDRESS}", "-o", tmp_path, *settings, "-n", 2, "--lines", 50)
        fake.close()
    assert result.exit_code == 0, result.stderr
    strips = pictures_of(tmp_path)
    assert [strip.shape for strip in strips] == [(50, 256)] * 2
    numbers = numbers_of(np.concatenate(strips))
    np.testing.assert_array_equal(np.diff(numbers), 1)

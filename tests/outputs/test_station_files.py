"""A station's JSON lines and pictures on a disk that may be full, and that is never filled."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from station_events import Control, defect, part, status, wait_until

from acl_runtime.data.samples import list_images
from acl_runtime.files.errors import InputError
from acl_runtime.outputs import station_folder, station_lines
from acl_runtime.outputs.delivery import Delivery
from acl_runtime.outputs.json_lines import json_line
from acl_runtime.outputs.line_file import LineFile


def write_lines(folder: Path, **given: Any) -> Delivery:
    return station_lines.open_output(station_lines.Options(folder=folder, **given), Control(), "lines")


def keep_pictures(folder: Path, **given: Any) -> Delivery:
    given = {"least_free_mb": 0.0, **given}
    return station_folder.open_output(station_folder.Options(folder=folder, **given), Control(), "pictures")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_line_has_the_keys_of_acl_run_behind_those_of_the_station(tmp_path: Path) -> None:
    output = write_lines(tmp_path)
    output(status())
    output(part(7, "ng", part_id="A"))
    wait_until(lambda: not output.waiting and output._status is None)
    output(status(judged=9))  # says nothing new but counts
    output(part(8, "not judged"))
    output(defect(9))
    output.close(5)
    (file,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["status", "part", "part", "web"]
    judged = lines[1]
    assert list(judged)[:9] == [
        *("schema", "event", "number", "part_id", "verdict", "reason", "camera", "exposed_at", "total_ms")
    ]
    of_run = part(7, "ng").result
    assert of_run is not None
    assert {key: judged[key] for key in json.loads(json_line(of_run))} == json.loads(json_line(of_run))
    assert (lines[2]["verdict"], lines[2]["reason"], "score" in lines[2]) == ("not judged", "late", False)
    assert lines[3]["record"]["y_mm"] == 123.4


def test_a_day_has_its_file_the_oldest_go_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("2026-01-01.jsonl", "2026-01-02.jsonl", "notes.jsonl"):
        (tmp_path / name).write_text('{"event": "old"}\n')
    clock = SimpleNamespace(time=lambda: 1.8e9)
    monkeypatch.setattr(station_lines, "time", clock)
    output = write_lines(tmp_path, keep_days=2)
    output(part(1))
    wait_until(lambda: not output.waiting)
    assert names(tmp_path) == ["2026-01-02.jsonl", "2027-01-15.jsonl", "notes.jsonl"]
    clock.time = lambda: 1.8e9 + 86_400
    output(part(2))
    output.close(5)
    assert names(tmp_path) == ["2027-01-15.jsonl", "2027-01-16.jsonl", "notes.jsonl"]
    assert json.loads((tmp_path / "2027-01-16.jsonl").read_text())["number"] == 2


def test_a_full_disk_is_the_problem_until_there_is_room_and_no_line_is_lost_or_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_full = LineFile.write, threading.Event()

    def write_or_fail(self: LineFile, text: str) -> None:
        if is_full.is_set():
            raise OSError(28, "No space left on device", str(tmp_path))
        write(self, text)

    monkeypatch.setattr(LineFile, "write", write_or_fail)
    output = write_lines(tmp_path)
    output(part(1))
    wait_until(lambda: not output.waiting and not output.problem)
    is_full.set()
    output(part(2))
    wait_until(lambda: "No space left on device" in output.problem)
    output(part(3))
    is_full.clear()
    output.close(5)
    (file,) = tmp_path.iterdir()
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_two_stations_do_not_write_one_file(tmp_path: Path) -> None:
    first = write_lines(tmp_path)
    wait_until(lambda: not first.problem)
    second = write_lines(tmp_path)
    wait_until(lambda: "is in use by" in second.problem)
    first.close(1)
    wait_until(lambda: not second.problem)
    second.close(1)


def test_pictures_lie_by_day_and_verdict_as_they_were_with_overlays_apart(tmp_path: Path) -> None:
    output = keep_pictures(tmp_path, keep="all")
    output(part(1))
    output(part(2, "ng"))
    output(part(3, "not judged"))  # has no picture
    output(defect(4))
    output.close(5)
    day = "2027-01-15"
    (defects,) = [name for name in names(tmp_path) if name.endswith("0000000004_web.png")]
    assert [name for name in names(tmp_path) if name != defects] == [
        f"overlays/{day}/0000000001_top.overlay.png",
        f"overlays/{day}/0000000002_top.overlay.png",
        f"pictures/{day}/bad/0000000002_top.png",
        f"pictures/{day}/good/0000000001_top.png",
    ]
    picture = cv2.imread(str(tmp_path / "pictures" / day / "bad" / "0000000002_top.png"))
    assert picture is not None
    assert np.array_equal(picture, np.full((8, 8, 3), 2))
    assert len(list_images(tmp_path / "pictures" / day / "bad")) == 1  # as acl calibrate --bad reads it
    assert output.dropped == 0


def test_good_pictures_stay_on_the_box_only_if_that_was_asked_for(tmp_path: Path) -> None:
    output = keep_pictures(tmp_path, overlays=False)
    output(part(1))
    output(part(2, "ng"))
    output.close(5)
    assert names(tmp_path) == ["pictures/2027-01-15/bad/0000000002_top.png"]


@pytest.mark.parametrize("restart", [False, True])
def test_the_oldest_go_for_the_quota_and_nobody_elses_files_ever(tmp_path: Path, restart: bool) -> None:
    mine = tmp_path / "pictures" / "2020-01-01" / "bad" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"not yours")
    output = keep_pictures(tmp_path, overlays=False, quota_mb=0.0005)  # 500 bytes: some pictures
    for number in range(1, 31):
        output(part(number, "ng"))
        if restart and number == 15:
            output.close(5)
            output = keep_pictures(tmp_path, overlays=False, quota_mb=0.0005)
        wait_until(lambda output=output: not output.waiting)  # type: ignore[misc]
    output.close(5)
    assert output.dropped == 0
    kept = sorted(path for path in tmp_path.rglob("0*.png"))
    assert 1 < sum(path.stat().st_size for path in kept) <= 500
    assert kept[-1].name == "0000000030_top.png"
    assert [path.name for path in kept] == [f"{number:010d}_top.png" for number in range(31 - len(kept), 31)]
    assert mine.read_bytes() == b"not yours"


def test_a_disk_without_room_is_the_problem_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=10_000_000)
    monkeypatch.setattr(
        "acl_runtime.outputs.station_folder.shutil", SimpleNamespace(disk_usage=lambda _: free)
    )
    output = keep_pictures(tmp_path, least_free_mb=1.0)
    output(part(1, "ng"))
    wait_until(lambda: len(names(tmp_path)) == 2)
    free.free = 500_000
    output(part(2, "ng"))
    wait_until(lambda: "less than 1 MB (least_free_mb) are free" in output.problem)
    assert names(tmp_path) == []
    free.free = 10_000_000
    output.close(5)
    assert [Path(name).name for name in names(tmp_path)] == [
        "0000000002_top.overlay.png",
        "0000000002_top.png",
    ]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: station_lines.Options(folder=Path("x"), keep_days=0), "keep_days must be 1"),
        (lambda: station_folder.Options(folder=Path("x"), quota_mb=0.0), "quota_mb must be above 0"),
        (lambda: station_folder.Options(folder=Path("x"), most_waiting=0), "most_waiting must be 1"),
    ],
)
def test_options_that_cannot_be_are_refused(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        make()

"""What is written of a web: whole lines, judged ones told together, and pictures of each defect."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from webs import Brightness, as_items, defects_of, draw_web, inspect, make_defect, make_plan, settings

from acl_runtime.files.errors import InputError
from acl_runtime.inspection.web_files import (
    COLUMNS,
    TOGETHER,
    Roll,
    WebCsv,
    WebJsonLines,
    save_pictures,
    text_line,
)
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import DefectBegun, Event, Judged, Scale, StateChange, Tally
from acl_runtime.web.rules import Alarm
from acl_runtime.web.summary import summarise

ROLL = Roll(
    name="7",
    source="array:",
    bundle="b",
    checksum="0",
    started="2026-11-27T10:00:00+00:00",
    width=100,
    mm_per_pixel=1.0,
    mm_per_line=0.5,
    tile=48,
    step=36,
    score_threshold=0.9,
    peak_threshold=None,
    region_threshold=0.5,
    promise="none",
)


def judged(first: int, stop: int, *, peak: float = 0.1, left: int = 3) -> Judged:
    return Judged(first=first, stop=stop, row_stop=stop + 5, score=peak / 2, peak=peak, left=left, right=90)


def test_judged_lines_are_told_together_and_in_their_place(tmp_path: Path) -> None:
    lines = WebJsonLines(tmp_path / "a.jsonl", ROLL)
    for first in range(0, 3 * TOGETHER, 100):
        lines(judged(first, first + 100, peak=0.8 if first == 500 else 0.1, left=first % 7))
    lines(Lost(first=3 * TOGETHER, stop=3 * TOGETHER + 9, reason="blocks"))
    lines(judged(3 * TOGETHER + 9, 3 * TOGETHER + 50))
    lines.end({"judged": 1})
    lines.close()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == [
        "roll",
        "judged",
        "judged",
        "judged",
        "gap",
        "judged",
        "summary",
    ]
    assert [(row["first_line"], row["last_line"]) for row in rows[1:4]] == [
        (turn * TOGETHER, (turn + 1) * TOGETHER - 1) for turn in range(3)
    ]
    assert [row["peak"] for row in rows[1:4]] == [0.8, 0.1, 0.1]
    assert rows[1]["left_px"] == 0
    assert (rows[0]["schema"], rows[0]["name"]) == (1, "7")


def test_the_words_of_the_records_are_these(tmp_path: Path) -> None:
    """What others read: see docs/line.md."""
    lines, table = WebJsonLines(tmp_path / "a.jsonl", ROLL), WebCsv(tmp_path / "a.csv")
    events: list[Event | Alarm] = [
        judged(0, 100, peak=0.5),
        StateChange(line=100, state="running"),
        Judged(first=100, stop=101, row_stop=110, score=0.25, peak=0.5, left=0, right=0),
        DefectBegun(number=7, first=100, left=20, right=30, x_mm=17.0, y_mm=50.0, peak=0.75),
        make_defect(
            7, first=100, stop=110, x_mm=17.0, y_mm=50.0, width_mm=10.0, length_mm=5.0, lanes=("A", "B")
        ),
        Lost(first=110, stop=130, reason="packets"),
        Alarm(rule="larger than 3 mm", numbers=(7,), y_mm=50.0),
    ]
    for event in events:
        lines(event)
        table(event)
    tally = Tally(judged=101, defects=1)
    tally.lose("packets", 20)
    tally.lose("no web", 9)
    scale = Scale(mm_per_line=0.5, mm_per_pixel=1.0)
    lines.end(summarise(tally, scale, pending=0, kept_up=1.0, seconds=2.0).as_dict())
    lines.close()
    table.close()
    _, *written = (tmp_path / "a.jsonl").read_text().splitlines()
    assert written == [
        '{"event": "judged", "first_line": 0, "last_line": 99, "left_px": 3, "right_px": 89, "score": 0.25, '
        '"peak": 0.5}',
        '{"event": "state", "what": "running", "since_line": 100}',
        '{"event": "judged", "first_line": 100, "last_line": 100, "left_px": null, "right_px": null, '
        '"score": 0.25, "peak": 0.5}',
        '{"event": "defect-begun", "number": 7, "first_line": 100, "left_px": 20, "right_px": 29, "x_mm": 17.0, '
        '"y_mm": 50.0, "peak": 0.75}',
        '{"event": "defect", "number": 7, "first_line": 100, "last_line": 109, "left_px": 20, "right_px": 29, '
        '"x_mm": 17.0, "y_mm": 50.0, "width_mm": 10.0, "length_mm": 5.0, "area_mm2": 1.5, "peak": 0.9, '
        '"lanes": ["A", "B"], "continues": false, "part": 1, "joined": [], "peak_line": 105, "peak_px": 25, '
        '"score": 0.8, "decided_by": "peak", "is_flood": false}',
        '{"event": "gap", "first_line": 110, "lines": 20, "reason": "packets", "estimated": false}',
        '{"event": "rule", "rule": "larger than 3 mm", "numbers": [7], "y_mm": 50.0}',
        '{"event": "summary", "lines": {"exposed": 130, "judged": 101, "lost": {"packets": 20}, "outside": 9, '
        '"pending": 0}, "metres": 0.065, "judged_metres": 0.0505, "defects": 1, "kept_up": 1.0, "seconds": 2.0}',
    ]
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "number,first_line,last_line,left_px,right_px,x_mm,y_mm,width_mm,length_mm,area_mm2,peak,lanes,continues,"
        "part,score,decided_by,is_flood",
        "7,100,109,20,29,17.0,50.0,10.0,5.0,1.5,0.9,A B,False,1,0.8,peak,False",
    ]


def test_what_was_judged_before_a_crash_is_written_when_the_file_is_closed(tmp_path: Path) -> None:
    lines = WebJsonLines(tmp_path / "a.jsonl", ROLL)
    lines(judged(0, 100))
    lines.close()
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[-1])["last_line"] == 99


def test_records_of_an_earlier_roll_are_not_written_over(tmp_path: Path) -> None:
    WebCsv(tmp_path / "a.csv").close()
    with pytest.raises(InputError, match="holds the results of an earlier run; name another file, or go on"):
        WebCsv(tmp_path / "a.csv")


def test_the_csv_has_a_line_per_defect(tmp_path: Path) -> None:
    table = WebCsv(tmp_path / "a.csv")
    table(make_defect(1, lanes=("A", "B"), is_flood=True))
    table(judged(0, 100))
    table(make_defect(2, y_mm=1 / 3))
    table.close()
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [tuple(row) for row in rows] == [COLUMNS, COLUMNS]
    assert (rows[0]["lanes"], rows[0]["is_flood"], float(rows[1]["y_mm"])) == ("A B", "True", 1 / 3)


def test_pictures_are_the_cameras_pixels_and_the_same_under_the_map(tmp_path: Path) -> None:
    engine = WebEngine(make_plan(), Brightness(), settings())
    defect = defects_of(inspect(engine, as_items(draw_web(600, seed=2), [], [64])))[0]
    path = save_pictures(defect, tmp_path, map_threshold=0.5)
    assert path == tmp_path / "000001.png"
    assert defect.pictures is not None
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), defect.pictures.pixels)
    drawn = cv2.imread(str(tmp_path / "000001-map.png"))
    assert drawn is not None
    assert drawn.shape == (*defect.pictures.pixels.shape, 3)
    part = save_pictures(replace(defect, part=3), tmp_path, map_threshold=0.5)
    assert part == tmp_path / "000001-3.png"
    assert save_pictures(make_defect(), tmp_path, map_threshold=0.5) is None


def test_a_disk_that_takes_no_picture_is_told_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    engine = WebEngine(make_plan(), Brightness(), settings())
    defect = defects_of(inspect(engine, as_items(draw_web(600, seed=2), [], [64])))[0]
    with pytest.raises(OSError, match=r"No space left on device: '.*000001-map\.png'"):
        save_pictures(defect, tmp_path, map_threshold=0.5)


def test_a_person_reads_one_line_for_each_thing() -> None:
    lines = [
        text_line(event, mm_per_line=0.5)
        for event in (
            judged(0, 9),
            make_defect(3, part=2, continues=True, lanes=("A",)),
            Lost(first=100, stop=300, reason="restart", estimated=True),
            StateChange(line=20, state="no light"),
            Alarm(rule="larger than 3 mm", numbers=(3,), y_mm=12.0),
        )
    ]
    assert lines == [
        None,
        "NG        10.0        4.0       1.0       2.0  0.900  0.800  #3 part 2, goes on lane A",
        "??        50.0  about 200 lines (100.0 mm) not judged: restart",
        "--        10.0  no light",
        "!!        12.0  larger than 3 mm: #3",
    ]

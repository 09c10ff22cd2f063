"""The report on a roll is a function of its records, holds what happened, and stays small however long the roll is."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from webs import Brightness, as_items, draw_web, inspect, make_defect, make_plan, settings

from acl_runtime.files.errors import InputError
from acl_runtime.inspection.web_files import Roll, WebJsonLines
from acl_runtime.inspection.web_resume import read_events, read_roll
from acl_runtime.report.roll import roll_page, write_roll_report
from acl_runtime.report.roll_log import EDGES, MOST_DEFECTS, MOST_INTERVALS, RollLog, kind_of
from acl_runtime.report.roll_map import roll_map
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import Judged, Lane, Pictures, Scale, Tally
from acl_runtime.web.rules import Alarm
from acl_runtime.web.summary import Summary, summarise

SCALE = Scale(mm_per_line=0.5, mm_per_pixel=1.0)
LANES = (Lane("A", 0, 40), Lane("<B>", 40, 100))
ROLL = Roll(
    name="R<1>",
    source="array:",
    bundle="bundle",
    checksum="0123456789abcdef",
    started="2026-11-27T10:00:00+00:00",
    width=100,
    mm_per_pixel=1.0,
    mm_per_line=0.5,
    tile=48,
    step=36,
    score_threshold=0.9,
    peak_threshold=0.5,
    region_threshold=0.5,
    promise="At most 5 % of segments.",
)


def inspected(folder: Path) -> tuple[RollLog, Summary]:
    """A roll with a gap and some defects."""
    engine = WebEngine(make_plan(), Brightness(), settings(scale=SCALE, lanes=LANES))
    log = RollLog(folder, map_threshold=0.5)
    gaps = [Lost(first=400, stop=440, reason="packets")]
    for event in inspect(engine, as_items(draw_web(2000, seed=3, defects=10), gaps, [64])):
        log(event)
    log(Alarm(rule="larger than 1 mm", numbers=(1,), y_mm=300.0))
    return log, summarise(engine.tally, SCALE, pending=0, kept_up=1.0, seconds=2.0)


def shapes(drawn: str, style: str) -> list[ET.Element]:
    """Elements of a class in the panels of a map."""
    panels = re.findall(r'<svg class="roll" role.*?</svg>', drawn, re.S)
    return [each for panel in panels for each in ET.fromstring(panel).iter() if each.get("class") == style]


def test_the_page_shows_what_the_records_say(tmp_path: Path) -> None:
    log, summary = inspected(tmp_path)
    path = write_roll_report(log, ROLL, summary, lanes=LANES)
    page = path.read_text()
    assert page == roll_page(log, ROLL, summary, lanes=LANES)
    assert summary.defects == len(log.defects) == page.count('<article class="card" id="d') > 3
    assert f"{summary.defects} defects on 1.00 m; 2.00 % of the lines were not judged." in page
    assert page.count("data:image/jpeg;base64,") == 2 * summary.defects
    for defect in log.defects:
        assert f"{defect.y_mm / 1000:.4f} m along, {defect.x_mm:.1f} mm across" in page
        assert log.picture(defect).is_file()
        assert (
            f'<td><a href="#d{defect.number}">#{defect.number}</a></td><td>{defect.y_mm / 1000:.4f}</td>'
            in page
        )
    places = [float(place) for place in re.findall(r'">#\d+</a></td><td>([\d.]+)<', page)]
    assert places == sorted(places)
    assert "packets</td><td>0.2000</td><td>20.0</td><td>40</td>" in page
    assert "0.300 m: larger than 1 mm (#1)" in page
    assert "At most 5 % of segments." in page
    assert "R&lt;1&gt;" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it needs no other file"


def test_i12_the_report_is_a_function_of_the_records_and_its_counts_are_those_of_the_account(
    tmp_path: Path,
) -> None:
    """Out of the JSON lines of a roll comes its page again."""
    engine = WebEngine(make_plan(), Brightness(), settings(scale=SCALE, lanes=LANES))
    log, lines = RollLog(tmp_path, map_threshold=0.5), WebJsonLines(tmp_path / "a.jsonl", ROLL)
    web = draw_web(2000, seed=3, defects=10)
    web[900:940] = 0
    alarm = Alarm(rule="larger than 1 mm", numbers=(1,), y_mm=300.0)
    gaps = [Lost(first=400, stop=440, reason="packets")]
    for event in [*inspect(engine, as_items(web, gaps, [64])), alarm]:
        log(event)
        lines(event)
    summary = summarise(engine.tally, SCALE, pending=0, kept_up=1.0, seconds=2.0)
    lines.end(summary.as_dict())
    lines.close()
    again = RollLog(tmp_path, map_threshold=0.5)
    for told in read_events(tmp_path / "a.jsonl"):
        again(told)
    pages = [roll_page(each, read_roll(tmp_path / "a.jsonl"), summary, lanes=LANES) for each in (log, again)]
    outline = r'<path class="web".*?/>'  # of the web has more points while it is inspected
    assert re.sub(outline, "", pages[0]) == re.sub(outline, "", pages[1])
    for each in (log, again):
        lost = {lost.reason: lost.stop - lost.first for lost in each.lost}
        assert lost == summary.not_judged == {"packets": 40, "no light": 40}
        assert each.stop == summary.exposed == summary.judged + sum(lost.values())
        assert len({defect.number for defect in each.defects}) == summary.defects > 3


def test_marks_lie_where_the_defects_do(tmp_path: Path) -> None:
    log = RollLog(tmp_path, map_threshold=0.5)
    log(Judged(first=0, stop=2000, row_stop=2000, score=0, peak=0, left=10, right=90))
    log(make_defect(1, y_mm=500.0, length_mm=2.0, left=49, right=51, width_mm=2.0))
    log(make_defect(2, y_mm=250.0, length_mm=500.0, left=20, right=22, width_mm=2.0))
    log(Lost(first=2000, stop=2000, reason="restart"))
    drawn = roll_map(log, scale=SCALE, width=100, lanes=LANES)
    (spot,) = shapes(drawn, "spot")
    (streak,) = shapes(drawn, "along")
    (frame,) = shapes(drawn, "frame")
    left, width = float(frame.get("x", 0)), float(frame.get("width", 0))
    top, height = float(frame.get("y", 0)), float(frame.get("height", 0))
    assert float(spot.get("cx", 0)) == pytest.approx(left + 0.501 * width, abs=0.1)
    assert float(spot.get("cy", 0)) == pytest.approx(top + 0.5 * height, abs=0.1)
    assert float(streak.get("x", 0)) == pytest.approx(left + 0.25 * width, abs=0.1)
    assert float(streak.get("width", 0)) == pytest.approx(0.5 * width, abs=0.1)
    assert len(shapes(drawn, "gap")) == 1, "a gap of unknown length is seen too"
    assert len(shapes(drawn, "lane")) == 2 * len(LANES)
    assert "&lt;B&gt;" in drawn


def test_a_long_roll_is_cut_into_panels_that_show_each_defect_once(tmp_path: Path) -> None:
    log = RollLog(tmp_path, map_threshold=0.5)
    log(Judged(first=0, stop=2_000_000, row_stop=0, score=0, peak=0, left=0, right=100))
    for number in range(100):
        log(make_defect(number + 1, y_mm=number * 10_000.0 + 5, length_mm=1.0))
    drawn = roll_map(log, scale=SCALE, width=100, lanes=())
    assert drawn.count('<svg class="roll" role="img"') == 10
    assert len(shapes(drawn, "spot")) == 100


def test_a_defect_is_told_by_its_shape() -> None:
    shaped = [(1, 1), (9, 1), (1, 9)]
    kinds = [kind_of(make_defect(length_mm=float(length), width_mm=float(width))) for length, width in shaped]
    assert kinds == ["spot", "along", "across"]
    assert kind_of(make_defect(is_flood=True)) == "flood"
    assert kind_of(make_defect(part=2)) == "along"


def test_what_is_kept_does_not_grow_with_the_roll(tmp_path: Path) -> None:
    log = RollLog(tmp_path, map_threshold=0.5)
    picture = np.zeros((4, 4), np.uint8)
    log(
        make_defect(
            1, pictures=Pictures(first=0, left=0, pixels=picture, anomaly_map=picture.astype(np.float32))
        )
    )
    for index in range(MOST_DEFECTS + 10):
        log(make_defect(index + 2))
        log(Lost(first=10 * index, stop=10 * index + 1, reason="blocks"))
        log(Judged(first=10 * index + 1, stop=10 * index + 10, row_stop=0, score=0, peak=0, left=0, right=1))
    assert (len(log.defects), log.not_kept) == (MOST_DEFECTS, 11)
    assert len(log.lost) == MOST_INTERVALS
    assert len(log.edges) < 2 * EDGES
    assert log.lost[-1].stop == 10 * (MOST_DEFECTS + 9) + 1
    assert all(defect.pictures is None for defect in log.defects)


def test_a_roll_without_anything_has_a_page(tmp_path: Path) -> None:
    log = RollLog(tmp_path, map_threshold=0.5)
    summary = summarise(Tally(), SCALE, pending=0, kept_up=1.0, seconds=0.0)
    page = roll_page(log, ROLL, summary)
    assert "0 defects on 0.00 m; every line was judged." in page
    assert "Not judged" not in page
    assert summary.text().startswith("0.000 m in 0 lines")


def test_a_picture_that_was_spoiled_meanwhile_is_told(tmp_path: Path) -> None:
    log, summary = inspected(tmp_path)
    log.picture(log.defects[0]).write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no picture any more; name an empty folder"):
        roll_page(log, ROLL, summary)

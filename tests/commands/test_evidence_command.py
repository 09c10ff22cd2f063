"""`acl evidence`, and the road of a review: from a reject on the line to thresholds, and back."""

from __future__ import annotations

import csv
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from console import acl, assert_one_line
from graphs import write_tiny_bundle
from station_events import defect, part, status
from stations import PushedCamera, load, wait_until

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.data.datasets import read_dataset
from acl_runtime.inspection.station.service import Station
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.store import EvidenceStore, Options
from acl_runtime.scoring.rule import bundle_rule

PARTS = 60
STATION = """
[[camera]]
name = "top"
source = "drawn:1"
deadline_ms = 5000
[[output]]
kind = "evidence"
folder = "evidence"
sample_every = 1
most_waiting = 100
keep_free_gb = 0.0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of nine parts and a defect of a web, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("data") / "evidence"
    _write(folder)
    return folder


def _write(folder: Path) -> None:
    store = EvidenceStore(Options(folder=folder, sample_every=5, keep_free_gb=0.0))
    store(status(bundle="feed1234"))
    for number in range(1, 10):
        store(part(number, ("ok", "ng", "not judged")[number % 3], part_id=f"=P{number}"))
    store(defect(10))
    store.close(20)
    assert store.dropped == 0


def test_a_list_has_the_newest_first_and_says_how_many_there_are(data: Path) -> None:
    lines = acl("evidence", "list", data, "-n", 4).stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["10", "9", "8", "7"]
    assert "web  NG  score 0.750, peak 0.500  defect on roll R1 at 123.4 mm along, 56.7 mm across" in lines[0]
    assert "2027-01-15 08:00:08  top  NOT JUDGED  late  part =P8" in lines[2]
    assert "10 parts, 4 NG, 3 not judged; 7 of these not reviewed" in lines[4]
    chosen = acl("evidence", "list", data, "--verdict", "not-judged", "--after", 2).stdout.splitlines()
    assert [line.split()[0] for line in chosen[:-1]] == ["5", "8"]
    assert acl("evidence", "list", data, "--part", "=P4").stdout.startswith("4 ")
    assert acl("evidence", "list", data, "--review", "none", "--verdict", "ok", "-n", 1).stdout.startswith(
        "9 "
    )


def test_a_part_is_shown_with_its_pictures_and_regions(data: Path) -> None:
    shown = acl("evidence", "show", data, 4).stdout
    for line in (
        "number         4",
        "verdict        ng",
        "threshold      0.5",
        "region         x 1, y 2, width 3",
    ):
        assert line in shown
    assert str(data / "2027-01-15" / "0000000004.overlay.jpg") in shown
    assert "y_mm         123.4" in acl("evidence", "show", data, 10).stdout
    assert_one_line(
        acl("evidence", "show", data, 77), "has no number 77; acl evidence list shows what is there"
    )


def test_the_table_holds_what_was_chosen_and_no_formula(data: Path, tmp_path: Path) -> None:
    assert "4 parts" in acl("evidence", "export", data, "--csv", tmp_path / "t.csv", "--verdict", "ng").stdout
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "4", "7", "10"]
    assert (rows[1]["part_id"], rows[1]["time"], rows[1]["score"]) == (
        "'=P4",
        "2027-01-15T08:00:04.000Z",
        "0.9",
    )
    assert rows[1]["picture"] == "2027-01-15/0000000004.png"


def test_reviews_are_written_while_no_service_runs_and_refused_while_one_does(tmp_path: Path) -> None:
    _write(tmp_path)
    assert (
        "2 reviewed as defect by Ana"
        in acl("evidence", "review", tmp_path, "defect", 1, 4, "--by", "Ana").stdout
    )
    assert [record.number for record in EvidenceReader(tmp_path).records(review="defect")] == [4, 1]
    assert_one_line(acl("evidence", "review", tmp_path, "good", 44), "number 44 is not in")
    store = EvidenceStore(Options(folder=tmp_path, keep_free_gb=0.0))
    wait_until(lambda: not store.problem, "the folder is held")
    told = acl("evidence", "review", tmp_path, "good", 1)
    assert_one_line(told, "review on the station's page, or stop its service first")
    assert_one_line(acl("evidence", "rebuild", tmp_path), "stop its service first")
    assert acl("evidence", "list", tmp_path).exit_code == 0
    store.close(5)


def test_an_index_is_made_again_and_mistakes_are_one_line(tmp_path: Path) -> None:
    _write(tmp_path / "data")
    (tmp_path / "data" / "2027-01-15" / "mine.txt").write_text("mine")
    told = acl("evidence", "rebuild", tmp_path / "data").stdout
    assert "5 parts from files, 5 from the index before, 1 files moved to aside/" in told
    (tmp_path / "empty").mkdir()
    assert_one_line(acl("evidence", "rebuild", tmp_path / "empty"), "holds no evidence; name the folder")
    assert_one_line(acl("evidence", "list", tmp_path / "empty"), "holds no index.db")
    exported = acl("evidence", "export", tmp_path / "data", "--images", tmp_path / "data")
    assert_one_line(exported, "is not an empty folder; name a new one")


def test_a_missed_defect_asks_for_a_recalibration_and_a_few_wrong_rejects_do_not(tmp_path: Path) -> None:
    _write(tmp_path)
    assert "recalibration" not in acl("evidence", "review", tmp_path, "good", 1, 4, 7).stderr
    due = " ".join(acl("evidence", "review", tmp_path, "defect", 6).stderr.split())
    assert "good parts and 1 reviewed OK parts were defective: a recalibration is due" in due
    assert "acl calibrate BUNDLE --web SOURCE" in due  # the last record is of a web


def test_a_cutting_of_a_web_is_no_frame_and_is_not_exported(tmp_path: Path) -> None:
    _write(tmp_path / "data")
    acl("evidence", "review", tmp_path / "data", "defect", 10, 4, 5)
    told = acl("evidence", "export", tmp_path / "data", "--images", tmp_path / "parts")
    assert f"{tmp_path / 'parts' / 'bad'}: 1 reviewed as defect" in told.stdout
    assert "1 reviewed records of a web are left out" in told.stderr
    assert "1 reviewed parts have no picture" in told.stderr  # 5 was not judged


def test_ten_wrong_rejects_become_thresholds_with_a_promise_that_can_be_taken_back(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    before = bundle_rule(load_bundle(bundle).manifest.calibration)
    camera, stop = PushedCamera(), threading.Event()
    station = Station(load(tmp_path, bundle, STATION), open_source=camera.open)
    thread = threading.Thread(target=station.run, args=(stop.is_set, lambda: False))
    thread.start()
    reader = EvidenceReader(tmp_path / "evidence")
    for _ in range(PARTS):
        camera.push()
    wait_until(
        lambda: sum(vars(station.status())[key] for key in ("judged", "not_judged")) == PARTS, "verdicts"
    )
    stop.set()
    thread.join(20)
    assert reader.counts().total(verdict="ok") + reader.counts().total(verdict="ng") == PARTS

    wrong = [record.number for record in reader.records(verdict="ng", review="", limit=10)]
    told = acl("evidence", "review", reader.folder, "good", *wrong, "--by", "Ana")
    assert (
        "10 of 10 reviewed rejects were good parts: a recalibration is due; acl evidence export"
        in told.stderr
    )

    parts = tmp_path / "parts"
    told = acl("evidence", "export", reader.folder, "--images", parts, "--samples")
    samples = reader.counts().total(verdict="ok")
    assert f"{parts / 'good'}: 10 reviewed as good, {samples} samples" in told.stdout
    assert f"{PARTS - samples - 10} samples were NG and are not reviewed" in told.stderr
    assert {path.name for path in (parts / "good").iterdir()} >= {f"{number:010d}.png" for number in wrong}
    assert len(read_dataset(parts).samples) == samples + 10

    told = acl("calibrate", bundle, parts / "good", "--max-overkill", "20%")
    assert told.exit_code == 0, told.output
    rule = bundle_rule(load_bundle(bundle).manifest.calibration)
    assert rule != before
    assert "at most" in told.stdout
    judged = [reader.record(number) for number in wrong]
    rejected = [each for each in judged if each is not None and rule.decided_by(each.score, each.peak)]  # type: ignore[arg-type]
    assert len(rejected) < 5  # of ten that all were
    assert acl("restore", bundle).exit_code == 0
    assert bundle_rule(load_bundle(bundle).manifest.calibration) == before


def test_another_calibration_begins_to_count_reviews_again(tmp_path: Path) -> None:
    _write(tmp_path)
    acl("evidence", "review", tmp_path, "defect", 6)
    store = EvidenceStore(Options(folder=tmp_path, keep_free_gb=0.0))
    store(status(bundle="beef5678"))
    store(replace(part(11)))
    store.close(20)
    assert EvidenceReader(tmp_path).contradictions().escapes == 0
    assert "recalibration" not in acl("evidence", "list", tmp_path).stderr

"""`acl web` as a user types it, over a line camera that is an array."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from console import acl, assert_one_line
from graphs import SIDE, write_tiny_bundle
from webs import ArraySource, Brightness, draw_web

from acl_runtime.bundle.bundle import Bundle, load_bundle, replace_manifest
from acl_runtime.files.errors import SourceError
from acl_runtime.images.ignore import make_ignore, save_ignore
from acl_runtime.inspection.web_files import COLUMNS, HEADER
from acl_runtime.inspection.web_resume import read_events
from acl_runtime.sources.block import LineSource
from acl_runtime.web.account import Lost
from acl_runtime.web.records import Judged

WIDTH = 3 * SIDE
TILE = ("--tile", SIDE, "--overlap", SIDE // 4, "--mm-per-pixel", 0.5, "--mm-per-line", 0.25)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("web") / "bundle")


Use = Callable[[ArraySource], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Give the command this source, whatever it asks for."""

    def put(source: ArraySource) -> None:
        def open_source(text: str, settings: Sequence[tuple[str, str]]) -> LineSource:
            return source

        monkeypatch.setattr("acl_runtime.commands.web.open_source", open_source)

    return put


def rows_of(path: Path) -> list[dict[str, object]]:
    return read_rows(path.read_text())


def read_rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def account_of(judged: int) -> dict[str, object]:
    """The account of a roll of which every line was judged."""
    return {"exposed": judged, "judged": judged, "lost": {}, "outside": 0, "pending": 0}


def ignore_corner(bundle: Bundle) -> None:
    """Have the bundle's thresholds be those of frames of which a part does not count."""
    mask, name = np.zeros((90, 120), np.bool_), "calibrations/mask.ignore.png"
    mask[:45, :60] = True
    (bundle.path / name).parent.mkdir()
    save_ignore(bundle.path / name, make_ignore(mask, bundle.manifest, "mask"))
    calibration = replace(bundle.manifest.calibration, ignore=name)
    replace_manifest(bundle, replace(bundle.manifest, calibration=calibration), added=[name])


def find_threshold(bundle: Path, use: Use, web: np.ndarray, tmp_path: Path) -> float:
    """A score that some tiles reach and others do not."""
    use(ArraySource(web))
    acl("web", bundle, "x", *TILE, "--json", tmp_path / "first.jsonl")
    scores = [
        float(str(row["score"])) for row in rows_of(tmp_path / "first.jsonl") if row["event"] == "judged"
    ]
    return float(np.quantile(scores, 0.8))


def test_defects_losses_and_the_account_are_printed_and_written(
    bundle: Path, use: Use, tmp_path: Path
) -> None:
    web = draw_web(40 * SIDE, WIDTH, defects=12, seed=3)
    threshold = find_threshold(bundle, use, web, tmp_path)
    use(ArraySource(web, fates={20: "packets", 30: "blocks"}))
    files = {name: tmp_path / "out" / name for name in ("a.jsonl", "a.csv", "report")}
    result = acl(
        *("web", bundle, "array:", *TILE, "--threshold", threshold, "--roll", "R-7"),
        *("--json", files["a.jsonl"], "--csv", files["a.csv"], "--report", files["report"]),
        *(
            "--lane",
            "A=0-10",
            "--lane",
            "B=10-99",
            "--max-size",
            "1@A",
            "--max-per-m2",
            0,
            "--roller",
            "R1=10",
        ),
    )
    assert result.exit_code == 1, result.output  # lines were lost
    lines = result.stdout.splitlines()
    rows = rows_of(files["a.jsonl"])
    summary, roll = rows[-1], rows[0]
    assert lines[0] == HEADER
    assert roll["event"] == "roll"
    assert (roll["name"], roll["source"], roll["mm_per_line"], roll["tile"]) == ("R-7", "array:", 0.25, SIDE)
    defects = [row for row in rows if row["event"] == "defect"]
    assert len(defects) == summary["defects"] == len([line for line in lines if line.startswith("NG")]) > 0
    counts = summary["lines"]
    assert isinstance(counts, dict)
    assert (counts["lost"]["packets"], counts["lost"]["blocks"]) == (32, 32)
    assert counts["exposed"] == len(web) == counts["judged"] + sum(counts["lost"].values())
    assert (counts["outside"], counts["pending"]) == (0, 0)
    assert summary["metres"] == pytest.approx(len(web) * 0.25 / 1000)
    assert "??       160.0  32 lines (8.0 mm) not judged: packets" in lines
    assert [row for row in rows if row["event"] == "rule"]
    with files["a.csv"].open(newline="") as file:
        table = [*csv.DictReader(file)]
    assert tuple(table[0]) == COLUMNS
    assert [float(row["y_mm"]) for row in table] == [row["y_mm"] for row in defects]
    page = (files["report"] / "index.html").read_text()
    assert page.count('class="card" id="d') == len(defects)
    assert "<script" not in page
    assert re.search(r"Roll R-7", page)
    assert (files["report"] / "pictures" / "000001-map.png").is_file()


def test_it_ends_after_so_many_metres(bundle: Path, use: Use, tmp_path: Path) -> None:
    use(ArraySource(draw_web(100 * SIDE, WIDTH)))
    acl("web", bundle, "x", *TILE, "--length", 2 * SIDE * 0.25 / 1000, "--json", tmp_path / "a.jsonl")
    rows = rows_of(tmp_path / "a.jsonl")
    assert rows[-1]["lines"] == account_of(2 * SIDE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_roll_and_everything_is_accounted_for(
    bundle: Path, use: Use, tmp_path: Path, number: signal.Signals
) -> None:
    source = ArraySource(draw_web(400 * SIDE, WIDTH), is_live=True, line_ns=0, pauses_s={40: 30.0})
    use(source)

    def interrupt() -> None:
        while source.pauses_s[40] == 30.0:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = acl("web", bundle, "x", *TILE, "--json", tmp_path / "a.jsonl", "--report", tmp_path / "report")
    thread.join()
    rows = rows_of(tmp_path / "a.jsonl")
    assert rows[-1]["event"] == "summary"
    assert rows[-1]["lines"] == account_of(40 * 32)
    assert (tmp_path / "report" / "index.html").is_file()
    assert "1280 lines" in result.stdout
    assert result.exit_code == (130 if number == signal.SIGINT else 0)


def test_a_camera_that_is_pulled_out_comes_back(
    bundle: Path, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acl_runtime.web.ring.PAUSES_S", (0.01,))
    use(ArraySource(draw_web(60 * SIDE, WIDTH), fates={10: "breaks"}))
    result = acl("web", bundle, "x", *TILE, "--json", tmp_path / "a.jsonl")
    assert "note: array: the cable was pulled out; it is opened again as soon as it is back" in result.stderr
    assert "note: array:: is back" in result.stderr
    (lost,) = [row for row in rows_of(tmp_path / "a.jsonl") if row["event"] == "gap"]
    assert lost["reason"] == "restart"
    assert lost["estimated"] is True


def test_i11_a_roll_goes_on_after_a_crash_and_the_hole_is_a_restart(
    bundle: Path, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies in the middle of writing a line; lines pass for as long as it is away."""
    monkeypatch.setattr("acl_runtime.web.judge.TileJudge", lambda stages: Brightness(SIDE))
    web = draw_web(60 * SIDE, WIDTH, defects=20, seed=3)
    file, table, report = tmp_path / "a.jsonl", tmp_path / "a.csv", tmp_path / "report"
    files = ("--json", file, "--csv", table, "--report", report)
    command = ("web", bundle, "array:", *TILE, "--threshold", 0.8, *files, "--lane", "A=0-10", "--roll", "R")
    use(ArraySource(web[: 30 * SIDE], fates={9: "packets", 30: "dies"}))
    assert isinstance(acl(*command).exception, ZeroDivisionError)
    with file.open("a") as torn:
        torn.write('{"event": "defect", "numb')
    known = read_rows(file.read_text().rpartition("\n")[0])
    last = max(int(str(row.get("last_line", -1))) for row in known)
    started = datetime.fromtimestamp(time.time() - 100, timezone.utc).isoformat(timespec="seconds")
    file.write_text(file.read_text().replace(str(known[0]["started"]), started))
    known[0]["started"] = started
    written = datetime.fromisoformat(started).timestamp() + 10
    os.utime(file, (written, written))
    use(ArraySource(web[30 * SIDE :], is_live=True, line_ns=0))
    began = time.time()
    done = acl(*command, "--resume")
    assert done.exit_code == 1, done.output
    rows = rows_of(file)
    assert rows[: len(known)] == known
    (hole,) = [row for row in rows if row.get("reason") == "restart"]
    assert (hole["first_line"], hole["estimated"]) == (last + 1, True)
    away = (began - written, time.time() - written)
    assert away[0] * (last + 1) / 10 - 1 <= int(str(hole["lines"])) <= away[1] * (last + 1) / 10 + 1
    counts = rows[-1]["lines"]
    assert isinstance(counts, dict)
    assert counts["lost"] == {"packets": 32, "restart": hole["lines"]}
    assert counts["exposed"] == counts["judged"] + sum(counts["lost"].values())
    assert counts["judged"] == last + 1 - 32 + 30 * SIDE
    spans = sorted(
        (event.first, event.stop) for event in read_events(file) if isinstance(event, (Judged, Lost))
    )
    assert [first for first, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    numbers = [row["number"] for row in rows if row["event"] == "defect-begun"]
    assert numbers == list(range(1, len(numbers) + 1))
    defects = [row for row in rows if row["event"] == "defect"]
    assert [row["event"] for row in known].count("defect") in range(1, len(defects))
    with table.open(newline="") as lines:
        assert [row["number"] for row in csv.DictReader(lines)] == [str(row["number"]) for row in defects]
    page = (report / "index.html").read_text()
    assert page.count('class="card" id="d') == rows[-1]["defects"] == len(defects)
    assert page.count("data:image/jpeg") == 2 * len(defects)


def test_i11_a_recording_goes_on_without_a_hole_and_another_roll_not_at_all(
    bundle: Path, use: Use, tmp_path: Path
) -> None:
    web, file = draw_web(20 * SIDE, WIDTH), tmp_path / "a.jsonl"
    use(ArraySource(web))
    acl("web", bundle, "x", *TILE, "--json", file)
    use(ArraySource(web))
    acl("web", bundle, "x", *TILE, "--json", file, "--resume")
    assert rows_of(file)[-1]["lines"] == {**account_of(40 * SIDE), "lost": {}}
    use(ArraySource(web))
    other = acl("web", bundle, "x", *TILE, "--threshold", 0.123, "--json", file, "--resume")
    assert other.stderr.splitlines()[-1].startswith(
        f"error: {file}: the roll was inspected with score_threshold 0.5, now"
    )
    (tmp_path / "b.jsonl").write_text('{"event": "gap"}\n')
    use(ArraySource(web))
    none = acl("web", bundle, "x", *TILE, "--json", tmp_path / "b.jsonl", "--resume")
    assert "does not begin with the record of a roll; name another file" in none.stderr.splitlines()[-1]
    assert acl("web", bundle, "x", *TILE, "--resume").exit_code == 2
    again = acl("web", bundle, "x", *TILE, "--json", file)
    assert (
        "earlier run; name another file, or go on with the roll: acl web --resume"
        in again.stderr.splitlines()[-1]
    )


def test_a_disk_that_is_full_is_one_sentence_and_the_roll_is_judged_and_accounted_for(
    bundle: Path, use: Use, tmp_path: Path
) -> None:
    """No file may grow beyond 900 bytes here, as where there is no room."""
    web = draw_web(40 * SIDE, WIDTH, defects=12, seed=3)
    threshold = find_threshold(bundle, use, web, tmp_path)
    use(ArraySource(web, fates={20: "packets"}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, before[1]))
    try:
        out = tmp_path / "out"
        result = acl("web", bundle, "x", *TILE, "--threshold", threshold, "--json", out / "a.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    notes = [line for line in result.stderr.splitlines() if "File too large" in line]
    assert "a.jsonl: File too large; the inspection goes on without its records" in notes[0]
    assert f"{40 * SIDE} lines" in result.stdout
    assert "not judged: 32 lines (32 packets)" in result.stdout
    assert result.exit_code == 1
    rows = rows_of(tmp_path / "out" / "a.jsonl")  # whole lines, all of them
    assert rows[0]["event"] == "roll"


def test_blocks_that_take_longer_than_the_wait_for_a_standstill_are_told(
    bundle: Path, use: Use, tmp_path: Path
) -> None:
    pauses = dict.fromkeys(range(1, 6), 0.3)
    use(ArraySource(draw_web(6 * 32, WIDTH), is_live=True, line_ns=0, pauses_s=pauses))
    result = acl("web", bundle, "x", *TILE, "--flush-after", 0.05)
    assert "--flush-after 0.05 is shorter than a block takes to come" in " ".join(result.stderr.split())
    use(ArraySource(draw_web(6 * 32, WIDTH), is_live=True, line_ns=0, pauses_s={2: 0.3}))
    assert "--flush-after" not in acl("web", bundle, "x", *TILE, "--flush-after", 0.05).stderr


def test_a_camera_that_is_not_there_is_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(text: str, settings: Sequence[tuple[str, str]]) -> LineSource:
        raise SourceError(f"{text}: no camera answers; check its cable and address")

    monkeypatch.setattr("acl_runtime.commands.web.open_source", away)
    result = acl("web", bundle, "aravis:X", *TILE)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: aravis:X: no camera answers; check its cable and address"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--lane", "A=10-5"), "lane A must go from a smaller to a larger"),
        (("--lane", "A"), "must be NAME=FROM-TO in mm"),
        (("--lane", "A=0-5", "--lane", "A=5-9"), "each name once"),
        (("--background", "dark"), "two grey levels"),
        (("--max-per-m2", "few"), "whole number"),
        (("--max-size", "3@Q"), "there is no lane Q"),
        (("--roller", "470"), "must be NAME=MM"),
        (("--overlap", SIDE // 2 + 1), "overlap must be at most half the tile"),
        (("--mm-per-line", 0), "mm_per_line must be above 0"),
    ],
)
def test_a_slip_of_the_finger_is_told(
    bundle: Path, use: Use, option: tuple[object, ...], message: str
) -> None:
    use(ArraySource(draw_web(4 * SIDE, WIDTH)))
    result = acl("web", bundle, "x", *TILE, *option)
    assert result.exit_code in (1, 2)
    assert message in " ".join(re.sub(r"[│\n]", " ", result.output).split())


def test_a_report_is_not_written_over_another(bundle: Path, use: Use, tmp_path: Path) -> None:
    use(ArraySource(draw_web(4 * SIDE, WIDTH)))
    (tmp_path / "report" / "pictures").mkdir(parents=True)
    result = acl("web", bundle, "x", *TILE, "--report", tmp_path / "report")
    assert_one_line(result, "holds something already; name a new or an empty folder for the report")


def test_bundle_and_source_that_changed_places_are_told(bundle: Path, tmp_path: Path) -> None:
    assert_one_line(acl("web", tmp_path, bundle, *TILE), "is no bundle, but")


def test_good_web_sets_the_thresholds_that_the_inspection_uses(use: Use, tmp_path: Path) -> None:
    own = write_tiny_bundle(tmp_path / "bundle")
    ignore_corner(load_bundle(own))  # of frames; on a web nothing is
    use(ArraySource(draw_web(4 * SIDE, WIDTH)))
    refused = acl("web", own, "array:", *TILE)
    assert refused.exit_code == 1
    assert "measured with --ignore on frames, and a web has none" in refused.stderr.splitlines()[-1]
    pitch = ("--mm-per-pixel", 0.5, "--mm-per-line", 0.25)
    use(ArraySource(draw_web(8000, WIDTH, defects=0)))
    asked = ("--segment", 0.05, "--max-overkill", "5%", "--tile", SIDE, "--overlap", SIDE // 4)
    result = acl("calibrate", own, "--web", "array:", *pitch, *asked)
    assert result.exit_code == 0, result.output
    assert "With 32 good segments of 0.05 m (8 others" in result.stdout
    record = json.loads((own / "calibrations" / "0001.json").read_text())
    assert record["segment_mm"] == 50
    assert load_bundle(own).manifest.calibration.ignore is None
    assert record["good"]["source"][1] == "array: 0.050 to 0.100 m"
    use(ArraySource(draw_web(8000, WIDTH, defects=0, seed=9)))
    acl("web", own, "array:", *pitch, "--json", tmp_path / "a.jsonl")
    rows = rows_of(tmp_path / "a.jsonl")
    assert rows[0]["score_threshold"] == record["score_threshold"]
    assert rows[0]["peak_threshold"] == (
        record["map_threshold"] if record["rule"] == "score or peak" else None
    )
    assert rows[0]["promise"] == record["statement"]
    assert rows[0]["tile"] == SIDE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--web", "x"), "--web needs --mm-per-pixel"),
        ((), "give images of good parts, or --web"),
        (("--web", "x", "--mm-per-pixel", 1, "--memory", 9), "leave them out with --web"),
    ],
)
def test_what_calibrate_needs_of_a_web_is_told(
    bundle: Path, use: Use, given: tuple[object, ...], message: str
) -> None:
    use(ArraySource(draw_web(400, WIDTH)))
    result = acl("calibrate", bundle, *given)
    assert result.exit_code == 2
    assert message in " ".join(re.sub(r"[│\n]", " ", result.output).split())

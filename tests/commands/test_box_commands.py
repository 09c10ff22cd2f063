"""From good parts to a verdict, on the command line: calibrate, run, info, and eval beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from console import acl, assert_one_line
from folders import draw_category
from graphs import drawn_frame, write_tiny_bundle
from parts import draw_parts
from typer.testing import Result

from acl_runtime.bundle.bundle import load_bundle, replace_manifest
from acl_runtime.calibration.record import read_record


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=60, defective=4)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def assert_usage(result: Result, message: str) -> None:
    """A usage error: the message, whatever box is drawn around it."""
    assert result.exit_code == 2
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


def test_calibrated_thresholds_decide_from_then_on(bundle: Path, parts: Path) -> None:
    before = acl("run", bundle, parts / "good")
    assert "the threshold is the default, an arbitrary 0.5" in before.stderr
    done = acl("calibrate", bundle, parts / "good", "--defective", parts / "defective")
    assert done.exit_code == 0
    assert "at 95 % confidence" in done.stdout
    assert "4 defective images are missed" in done.stdout
    after = acl("run", bundle, parts / "good", "--json", "-")
    assert "an arbitrary 0.5" not in after.stderr
    records = [json.loads(line) for line in after.stdout.splitlines()]
    assert sum(record["is_anomalous"] for record in records) <= 1
    assert all((record["margin"] >= 0) is record["is_anomalous"] for record in records)
    assert all(record["peak_threshold"] is not None for record in records)
    described = acl("info", bundle).stdout
    assert "or map peak" in described
    assert "calibrations/0001.json" in described


def test_the_thresholds_before_can_be_put_back(bundle: Path, parts: Path) -> None:
    manifest = (bundle / "manifest.json").read_text()
    assert acl("calibrate", bundle, parts / "good").exit_code == 0
    assert json.loads((bundle / "manifest.json").read_text())["calibration"]["rule"] == "score or peak"
    first = load_bundle(bundle)
    assert acl("calibrate", bundle, parts / "good", "--max-overkill", "20%").exit_code == 0
    back = acl("restore", bundle)
    record = read_record(first)
    assert record is not None
    assert f"again, as calibrated on {record.created[:10]}: {record.statement}" in back.stdout
    assert load_bundle(bundle).manifest.calibration == first.manifest.calibration
    back = acl("restore", bundle)
    assert "anomalous from score 0.500 again, the default, an arbitrary number" in back.stdout
    restored = json.loads((bundle / "manifest.json").read_text())["calibration"]
    assert restored == json.loads(manifest)["calibration"]
    assert "nothing was before them" in acl("restore", bundle).stderr


def test_good_parts_are_remembered_and_forgotten(bundle: Path, parts: Path, tmp_path: Path) -> None:
    refused = acl("calibrate", bundle, parts / "good", "--memory", 4)
    assert refused.exit_code == 1
    assert (
        'has head "map", which gives no patches to remember; export it with --head embeddings'
        in refused.stderr
    )
    other = write_tiny_bundle(tmp_path / "other", head="embeddings")
    before = acl("run", other, parts / "good", "--threshold", 0.5).stdout
    done = acl("calibrate", other, parts / "good", "--memory", 4, "--defective", parts / "defective")
    assert done.exit_code == 0, done.output
    assert (
        "With 45 good images (11 others only put score and peak on one scale, 4 are the memory): at most"
        in done.stdout
    )
    assert "0 of 4 defective images are missed" in done.stdout
    assert "good parts (calibrations/0001.npz), which judge with the text" in acl("info", other).stdout
    assert acl("run", other, parts / "defective", "--fail-on-defect").exit_code == 3
    assert (
        acl("run", other, parts / "good", "--threshold", 0.5).stdout.split("frames")[0]
        != before.split("frames")[0]
    )
    assert acl("restore", other).exit_code == 0
    assert (
        acl("run", other, parts / "good", "--threshold", 0.5).stdout.split("frames")[0]
        == before.split("frames")[0]
    )
    assert "the text judges alone" in acl("info", other).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{parts}/good", "--max-overkill", "much"], "must be a share such as 0.5% or 0.005, got much"),
        (
            ["{parts}/good", "--max-overkill", "100%"],
            "must lie between 0% and 100%, such as 1% or 0.01, got 100%",
        ),
        (["{parts}/good", "--max-overkill", "1"], "such as 1% or 0.01, got 100%; did you mean 1%?"),
        ([], "give images of good parts, or --web"),
        (["{parts}/good", "--tile", "big"], "must be a number of pixels, auto or off, got big"),
        (["{parts}/good", "--overlap", "8"], "--overlap and --min-defect need --tile"),
        (["{parts}/good", "--tile", "64", "--min-defect", "8"], "--min-defect chooses the tile"),
        (["{parts}/good", "--tile", "64", "--overlap", "64"], "overlap must be at least 0 and less than"),
    ],
)
def test_what_makes_no_sense_is_told_before_any_work(
    bundle: Path, parts: Path, arguments: list[str], message: str
) -> None:
    assert_usage(acl("calibrate", bundle, *(each.format(parts=parts) for each in arguments)), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-overkill", "1e-30"], "max_overkill must be at least 1e-06, got 1e-30"),
        (["--hidden-defects", "1000000"], "hidden_defects must lie in 0..1000, got 1000000"),
        (["--json", "{bundle}/record.json"], "lies in the bundle; name another place"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_at_once(
    bundle: Path, parts: Path, arguments: list[str], message: str
) -> None:
    given = [each.format(bundle=bundle) for each in arguments]
    assert_one_line(acl("calibrate", bundle, parts / "good", *given), message)
    assert not (bundle / "calibrations").exists()


def test_the_record_is_written_for_scripts_too(bundle: Path, parts: Path, tmp_path: Path) -> None:
    done = acl("calibrate", bundle, parts / "good", "--json", tmp_path / "record.json")
    assert done.exit_code == 0
    assert (tmp_path / "record.json").read_bytes() == (bundle / "calibrations" / "0001.json").read_bytes()
    findings = json.loads((tmp_path / "record.json").read_text())["findings"]
    assert [finding["kind"] for finding in findings] == ["highest"]
    assert len(findings[0]["images"]) == 5
    assert findings[0]["text"] in done.stdout


def test_edited_thresholds_are_told_by_every_command(bundle: Path, parts: Path) -> None:
    assert acl("calibrate", bundle, parts / "good").exit_code == 0
    loaded = load_bundle(bundle)
    edited = replace(loaded.manifest.calibration, score_threshold=0.99)
    replace_manifest(loaded, replace(loaded.manifest, calibration=edited))
    message = "calibration.score_threshold must be"
    for command in (["run", bundle, parts / "good"], ["info", bundle]):
        assert message in acl(*command).stderr
        assert acl(*command).exit_code == 1
    told = acl("doctor", bundle)
    assert told.exit_code == 1
    assert message in " ".join(told.stdout.split())
    assert acl("restore", bundle).exit_code == 0
    assert acl("info", bundle).exit_code == 0


def test_good_parts_among_others_are_asked_for_alone(bundle: Path, parts: Path) -> None:
    refused = acl("calibrate", bundle, parts)
    assert refused.exit_code == 1
    assert "holds defective beside good parts; name the folder of good parts alone" in refused.stderr


def test_a_bundle_calibrated_on_tiles_runs_on_tiles(bundle: Path, parts: Path) -> None:
    assert acl("calibrate", bundle, parts / "good", "--tile", 64, "--overlap", 16).exit_code == 0
    same = acl("run", bundle, parts / "good")
    assert "cut otherwise" not in same.stderr
    assert same.stderr.count("note: frames of 120×90 are cut into 6 tiles of 64 pixels") == 1
    other = acl("run", bundle, parts / "good", "--tile", "off")
    assert "the thresholds were measured on frames cut otherwise" in other.stderr
    assert other.stdout.split("frames per")[0] != same.stdout.split("frames per")[0]
    assert "cut into tiles of 64 pixels that share 16 pixels" in acl("info", bundle).stdout


def test_frames_unlike_those_of_the_calibration_are_reported(
    bundle: Path, parts: Path, tmp_path: Path
) -> None:
    assert acl("calibrate", bundle, parts / "good").exit_code == 0
    assert "than those of the calibration" not in acl("run", bundle, parts / "good").stderr
    (tmp_path / "dark").mkdir()
    for path in (parts / "good").iterdir():
        frame = cv2.imread(str(path))
        assert frame is not None
        cv2.imwrite(str(tmp_path / "dark" / path.name), (frame * 0.3).astype(np.uint8))
    dark = acl("run", bundle, tmp_path / "dark", "--json", "-")
    assert "note: the last 32 frames are darker than those of the calibration" in dark.stderr
    unusual = [json.loads(line)["unusual"] for line in dark.stdout.splitlines()]
    assert unusual[0] == []
    assert "brightness" in unusual[-1]


def test_an_evaluation_comes_in_every_form(bundle: Path, tmp_path: Path) -> None:
    for category in ("one", "two"):
        draw_category(tmp_path / "data" / category)
    outputs = {name: tmp_path / "out" / f"eval.{name}" for name in ("json", "csv", "markdown")}
    options = [part for name, path in outputs.items() for part in (f"--{name}", path)]
    done = acl("eval", bundle, tmp_path / "data", *options, "--report", tmp_path / "report")
    assert done.exit_code == 0
    rows = json.loads(outputs["json"].read_text())["rows"]
    assert [row["category"] for row in rows] == ["one", "two", "mean"]
    assert list(rows[0]) == [
        *("dataset", "category", "images", "image_auroc", "image_ap", "image_f1max"),
        *("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"),
    ]
    assert len(outputs["csv"].read_text().splitlines()) == 4
    assert "**mean**" in outputs["markdown"].read_text()
    assert "<!doctype html>" in (tmp_path / "report" / "index.html").read_text()
    assert "mean" in done.stdout


def test_exact_and_streaming_evaluations_agree(bundle: Path, tmp_path: Path) -> None:
    draw_category(tmp_path / "data")
    found = []
    for name, options in (("a", []), ("b", ["--exact"])):
        path = tmp_path / f"{name}.json"
        assert acl("eval", bundle, tmp_path / "data", "--json", path, *options).exit_code == 0
        found.append(json.loads(path.read_text())["rows"][0])
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert found[1][key] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)


def test_an_evaluation_of_nothing_says_what_is_wanted(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = acl("eval", bundle, tmp_path / "empty")
    assert refused.exit_code == 1
    assert "is laid out in no known way" in refused.stderr
    (tmp_path / "one.png").write_bytes(cv2.imencode(".png", drawn_frame())[1].tobytes())
    assert "is not a folder" in acl("eval", bundle, tmp_path / "one.png").stderr


def test_overlays_never_become_parts(bundle: Path, parts: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    for command in (["run", bundle, parts], ["watch", bundle, parts, "--json", journal]):
        refused = acl(*command, "--save-overlays", parts)
        assert refused.exit_code == 1
        assert "where the next run would judge the overlays as parts; name a folder outside" in refused.stderr
    assert not list(parts.glob("*.png"))


def test_nothing_is_saved_into_the_bundle(bundle: Path, parts: Path) -> None:
    before = sorted(bundle.rglob("*"))
    for option in ("--save-maps", "--save-overlays", "--json"):
        refused = acl("run", bundle, parts / "good", option, bundle / "results")
        assert refused.exit_code == 1
        assert "results: lies in the bundle; name another place for the results" in refused.stderr
    assert sorted(bundle.rglob("*")) == before


def test_a_name_too_long_for_its_results_costs_no_other_frame(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a" * 251 + ".bmp", "a" * 251 + ".png", "b.png"):  # one stem twice: results keep the suffix
        cv2.imwrite(str(tmp_path / "in" / name), drawn_frame())
    done = acl(
        "run", bundle, tmp_path / "in", "--save-maps", tmp_path / "maps", "--json", tmp_path / "out.jsonl"
    )
    assert done.exit_code == 1
    long, _, short = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert "its results cannot be saved under its name" in long["error"]
    assert "score" in short
    assert (tmp_path / "maps" / "b.npy").is_file()


def test_the_memory_of_a_watched_folder_is_not_written_over(
    bundle: Path, parts: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "out.jsonl"
    journal.write_text('{"source": "a.png", "score": 0.5, "size": 10, "mtime_ns": 20}\n')
    refused = acl("run", bundle, parts / "good", "--json", journal)
    assert refused.exit_code == 1
    assert "out.jsonl: remembers what was judged of a watched folder; name another file" in refused.stderr
    assert journal.read_text().startswith('{"source": "a.png"')


def test_defective_parts_among_good_ones_are_asked_for_alone(bundle: Path, parts: Path) -> None:
    refused = acl("calibrate", bundle, parts / "good", "--defective", parts)
    assert refused.exit_code == 1
    assert "holds good too; name the folders of defective parts alone" in refused.stderr

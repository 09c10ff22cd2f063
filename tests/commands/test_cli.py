"""The command line: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from graphs import SIDE, drawn_frame, write_tiny_bundle
from typer.testing import CliRunner, Result

from acl_runtime import Detector
from acl_runtime.cli import app

ANOMALOUS, GOOD = 0, 2  # seeds of drawn frames that the tiny model judges so


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for name, seed in (("good/0", GOOD), ("bad/0", ANOMALOUS), ("bad/1", 4)):
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "parts" / f"{name}.png"), drawn_frame(seed))
    return tmp_path / "parts"


def acl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def assert_one_line(result: Result, message: str, code: int = 1) -> None:
    """Only the error, in one line, and the note that the tiny bundle is a demonstration."""
    assert result.exit_code == code
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_person_reads_a_line_per_frame_and_a_summary(bundle: Path, parts: Path) -> None:
    result = acl("run", bundle, parts)
    header, *lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert header.split() == ["score", "peak", "margin", "source"]
    assert [line.split()[0] for line in lines[:3]] == ["NG", "NG", "OK"]
    assert lines[0].endswith(str(parts / "bad" / "0.png"))
    assert lines[3].startswith("3 frames: 2 NG, 1 OK; ")


def test_a_script_reads_one_object_per_frame(bundle: Path, parts: Path) -> None:
    result = acl("run", bundle, parts, "--json", "-", "--batch", 2)
    assert "3 frames: 2 NG" in result.stderr
    found = records(result.stdout)
    assert [record["source"] for record in found] == [
        str(parts / name) for name in ("bad/0.png", "bad/1.png", "good/0.png")
    ]
    verdict = Detector(bundle)(drawn_frame(ANOMALOUS))
    assert list(found[0]) == [
        *("source", "index", "score", "is_anomalous", "threshold", "regions", "latency_ms"),
        *("peak", "peak_threshold", "margin", "decided_by", "unusual"),
    ]
    assert found[0]["score"] == pytest.approx(verdict.score, abs=1e-6)
    assert (found[0]["index"], found[0]["is_anomalous"], found[0]["threshold"]) == (0, True, 0.5)
    assert found[0]["peak"] == pytest.approx(verdict.peak, abs=1e-6)
    assert found[0]["margin"] == pytest.approx(verdict.margin, abs=1e-4)
    assert (found[0]["peak_threshold"], found[0]["unusual"]) == (None, [])
    assert sorted(found[0]["regions"][0]) == ["area", "height", "peak", "width", "x", "y"]
    assert len(found[0]["regions"]) == len(verdict.regions) > 0
    assert sorted(found[0]["latency_ms"]) == ["inference", "postprocess", "preprocess"]


def test_json_goes_to_a_file_beside_the_lines_for_a_person(bundle: Path, parts: Path, tmp_path: Path) -> None:
    result = acl("run", bundle, parts, "--json", tmp_path / "new" / "out.jsonl")
    assert result.stdout.splitlines()[1].startswith("NG")
    assert len(records((tmp_path / "new" / "out.jsonl").read_text())) == 3


def test_maps_and_overlays_are_saved_under_the_names_of_the_frames(bundle: Path, parts: Path) -> None:
    maps, overlays = parts.parent / "maps", parts.parent / "overlays"
    assert acl("run", bundle, parts, "--save-maps", maps, "--save-overlays", overlays).exit_code == 0
    names = ["bad/0", "bad/1", "good/0"]
    for folder, suffix in ((maps, ".npy"), (overlays, ".overlay.png")):
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        assert [str(path) for path in files] == [name + suffix for name in names]
    saved = np.load(maps / "bad" / "0.npy")
    assert (saved.shape, saved.dtype) == ((SIDE, SIDE), np.float32)
    np.testing.assert_allclose(saved, Detector(bundle)(drawn_frame(ANOMALOUS)).anomaly_map, atol=1e-6)
    picture = cv2.imread(str(overlays / "bad" / "0.overlay.png"))
    assert picture is not None
    height, width = drawn_frame(ANOMALOUS).shape[:2]
    assert picture.shape[0] > height  # by the strip with the verdict
    assert picture.shape[1] >= width


def test_overlays_never_replace_the_pictures(bundle: Path, parts: Path) -> None:
    before = (parts / "bad" / "0.png").read_bytes()
    result = acl("run", bundle, parts, "--save-overlays", parts)
    assert_one_line(result, "where the next run would judge the overlays as parts; name a folder outside")
    acl("run", bundle, parts / "bad" / "0.png", "--save-overlays", parts / "bad")
    assert (parts / "bad" / "0.overlay.png").is_file()
    (parts / "bad" / "0.overlay.png").unlink()
    assert (parts / "bad" / "0.png").read_bytes() == before


@pytest.mark.parametrize(("part", "code"), [("bad", 3), ("good", 0)])
def test_a_defect_sets_the_exit_code_where_asked(bundle: Path, parts: Path, part: str, code: int) -> None:
    assert acl("run", bundle, parts / part, "--fail-on-defect").exit_code == code
    assert acl("run", bundle, parts / part).exit_code == 0


def test_the_threshold_can_be_set(bundle: Path, parts: Path) -> None:
    found = records(acl("run", bundle, parts, "--json", "-", "--threshold", 1).stdout)
    assert [(record["threshold"], record["is_anomalous"]) for record in found] == [(1, False)] * 3


def test_a_bad_file_is_reported_and_the_rest_is_done(bundle: Path, parts: Path) -> None:
    (parts / "bad" / "0.png").write_text("a shopping list")
    result = acl("run", bundle, parts, "--json", "-")
    found = records(result.stdout)
    assert result.exit_code == 1
    assert list(found[0]) == ["source", "index", "error"]
    assert "is not an image" in found[0]["error"]
    assert ["score" in record for record in found] == [False, True, True]
    assert "2 frames: 1 NG, 1 OK, 1 unreadable" in result.stderr


def test_a_defect_outranks_a_bad_file(bundle: Path, parts: Path) -> None:
    (parts / "bad" / "0.png").write_text("a shopping list")
    assert acl("run", bundle, parts, "--fail-on-defect").exit_code == 3


def test_mistakes_are_one_line_with_a_remedy(bundle: Path, parts: Path, tmp_path: Path) -> None:
    assert_one_line(acl("run", bundle, tmp_path / "no"), "no: no such file or folder; check the name")
    assert_one_line(acl("run", parts, parts), "holds no manifest.json; name a bundle made by acl export")
    assert_one_line(acl("run", bundle, parts, "--batch", 9), "batch must lie in 1..3")
    assert_one_line(acl("run", bundle, parts, "--provider", "warp"), "provider must be auto or one of")
    (bundle / "model.onnx").write_bytes(b"x")
    assert_one_line(acl("run", bundle, parts), "model.onnx: must be")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(bundle: Path, parts: Path) -> None:
    assert_one_line(
        acl("run", bundle, parts, "--json", "/dev/full"), "error: /dev/full: no space left on device"
    )


def test_a_mistake_does_not_empty_the_last_results(bundle: Path, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("yesterday")
    for mistake in (["--batch", 9], ["--save-overlays", parts], ["--threshold", 3], ["--provider", "warp"]):
        assert acl("run", bundle, parts, "--json", tmp_path / "out.jsonl", *mistake).exit_code != 0
    assert (tmp_path / "out.jsonl").read_text() == "yesterday"


def test_a_broken_model_passes_no_frame(tmp_path: Path, parts: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "broken", broken=True)
    result = acl("run", bundle, parts)
    assert result.exit_code == 1
    rows = result.stdout.splitlines()[1:4]
    assert all(row.startswith("??") and "must be finite, got nan or infinity" in row for row in rows)
    assert "0 frames: 0 NG, 0 OK, 3 unreadable" in result.stdout


def test_usage_errors_are_two(bundle: Path) -> None:
    assert acl("run", bundle).exit_code == 2
    assert acl("run", bundle, "x.png", "--threshold", 3).exit_code == 2
    assert acl("polish").exit_code == 2


def test_an_interrupt_loses_no_finished_frame(bundle: Path, parts: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(5000):
        (many / f"{i}.png").symlink_to(parts / "bad" / "0.png")
    command = [sys.executable, "-m", "acl_runtime.cli", "run", str(bundle), str(many), "--json", "-"]
    code = "import sys; from acl_runtime.cli import app; app(sys.argv[1:])"
    command[1:3] = ["-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in errors.splitlines() if not line.startswith("note: ")] == ["interrupted"]
    assert 0 < len(records(first + rest)) < 5000


def test_file_names_that_are_not_text_are_printed_all_the_same(bundle: Path, parts: Path) -> None:
    odd = os.fsencode(parts / "good" / "0.png").replace(b"0.png", b"\xff.png")
    os.rename(parts / "good" / "0.png", odd)
    result = acl("run", bundle, parts / "good")
    assert result.exit_code == 0
    assert "\\udcff.png" in result.stdout


def test_info_says_what_a_bundle_is(bundle: Path) -> None:
    result = acl("info", bundle)
    assert result.exit_code == 0
    for fact in (
        "patch means",
        "no: made in a test",
        "56 x 56",
        "head map",
        "score 0.5",
        "an arbitrary 0.5",
    ):
        assert fact in result.stdout
    document = json.loads(acl("info", bundle, "--json").stdout)
    assert document == json.loads((bundle / "manifest.json").read_text())


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert acl("--version").stdout == f"anomalyclip-deploy {version('anomalyclip-deploy')}\n"


def test_results_replace_no_input_and_no_bundle(bundle: Path, parts: Path, tmp_path: Path) -> None:
    picture, manifest = parts / "bad" / "0.png", bundle / "manifest.json"
    before = picture.read_bytes(), manifest.read_bytes()
    assert_one_line(acl("run", bundle, parts, "--json", picture), "is one of the inputs; name another file")
    assert_one_line(acl("run", bundle, parts, "--json", manifest), "lies in the bundle; name another place")
    inside = ("--save-overlays", parts / "overlays")
    assert_one_line(
        acl("run", bundle, parts, *inside), "where the next run would judge the overlays as parts"
    )
    assert (picture.read_bytes(), manifest.read_bytes()) == before
    assert acl("run", bundle, parts, "--json", tmp_path / "out.jsonl").exit_code == 0


def test_swapped_arguments_and_a_files_name_are_told(bundle: Path, parts: Path) -> None:
    assert_one_line(acl("run", parts, bundle), f"{bundle} is; the bundle comes first, then the images")
    assert_one_line(acl("calibrate", parts, bundle), f"{bundle} is; the bundle comes first, then the images")
    assert_one_line(
        acl("info", bundle / "model.onnx"), f"is a file; name the bundle's folder, such as {bundle}"
    )

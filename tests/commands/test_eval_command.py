"""`acl eval` as a user types it: what is told first, what goes where, and that no result is lost to a file."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from folders import draw, draw_category
from graphs import write_tiny_bundle
from parts import draw_parts
from PIL import Image
from typer.testing import CliRunner, Result

from acl_runtime.cli import app


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    draw_category(folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With tiles of 64 pixels."""
    folder = tmp_path_factory.mktemp("calibrated")
    bundle = write_tiny_bundle(folder / "bundle")
    parts = draw_parts(folder / "parts", good=60, defective=1)
    assert acl("calibrate", bundle, parts / "good", "--tile", 64, "--overlap", 16).exit_code == 0
    return bundle


def acl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def settings_of(*arguments: object) -> dict[str, object]:
    done = acl("eval", *arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    settings: dict[str, object] = json.loads(done.stdout)["settings"]
    return settings


def test_doubts_about_the_thresholds_are_told_and_stand_on_the_page(
    bundle: Path, calibrated: Path, data: Path, tmp_path: Path
) -> None:
    default = "the threshold is the default, an arbitrary 0.5"
    cut_otherwise = "the thresholds were measured on frames cut otherwise"
    for number, (options, doubt) in enumerate(
        [
            ((bundle, data), default),
            ((calibrated, data, "--tile", "off"), cut_otherwise),
            ((calibrated, data), None),
            ((bundle, data, "--threshold", 0.6, "--tile", 64), None),
        ]
    ):
        report = tmp_path / str(number)
        done = acl("eval", *options, "--report", report)
        page = (report / "index.html").read_text()
        assert done.exit_code == 0
        for each in (default, cut_otherwise):
            assert (f"note: {each}" in done.stderr) == (each == doubt)
            assert (each[1:] in page) == (each == doubt)


def test_evaluations_that_differ_have_settings_that_differ(
    bundle: Path, calibrated: Path, data: Path
) -> None:
    plain = settings_of(bundle, data)
    assert plain == settings_of(bundle, data)
    assert plain["rule"] == "score"
    assert (plain["score_threshold"], plain["peak_threshold"]) == (0.5, None)
    assert (plain["backend"], plain["provider"]) == ("onnxruntime", "CPUExecutionProvider")
    assert plain["metrics"] == "streaming, pixel AUROC equal to exact"
    tiled = ("--tile", 64, "--overlap")
    every = [
        plain,
        settings_of(bundle, data, "--threshold", 0.6),
        settings_of(bundle, data, *tiled, 8),
        settings_of(bundle, data, *tiled, 16),
        settings_of(bundle, data, "--tile", "auto"),
        settings_of(bundle, data, "--tile", "auto", "--min-defect", 5),
        settings_of(bundle, data, "--exact"),
        settings_of(bundle, data, "--mask-above", 9),
        settings_of(bundle, data, "--bits", 12),
        settings_of(bundle, data, "--exif"),
        settings_of(calibrated, data),
    ]
    assert all(one not in every[:number] for number, one in enumerate(every))
    last = every[-1]
    assert (last["rule"], last["tile"], last["overlap"], last["min_defect"]) == (
        "score or peak",
        64,
        16,
        None,
    )
    assert isinstance(last["peak_threshold"], float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "{here}/file"], "file: is a file; name a folder for the page"),
        (["--report", "{here}/file/report"], "index.html: {here}/file is a file; name a place in a folder"),
        (["--report", "{here}/taken"], "index.html: is not a regular file; name a file to write"),
        (["--json", "{here}/folder"], "folder: is not a regular file; name a file to write"),
        (["--csv", "{here}/file/a.csv"], "a.csv: {here}/file is a file; name a place in a folder"),
        (["--markdown", "{bundle}/a.md"], "a.md: lies in the bundle; name another place for the results"),
        (["--report", "{bundle}"], "index.html: lies in the bundle; name another place for the results"),
        (
            ["--json", "{here}/a", "--csv", "{here}/folder/../a"],
            "a: is named twice; name a file for each form",
        ),
        (["--json", "{here}/r/index.html", "--report", "{here}/r"], "index.html: is named twice"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_any_work(
    bundle: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken" / "index.html").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    places = {"here": tmp_path, "bundle": bundle}
    refused = acl("eval", bundle, tmp_path / "no data", *(option.format(**places) for option in options))
    assert refused.exit_code == 1
    assert message.format(**places) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_the_tables_are_printed_even_if_a_file_cannot_be_written(
    bundle: Path, data: Path, option: str
) -> None:
    lost = acl("eval", bundle, data, option, "/proc/nowhere/place")
    assert lost.exit_code == 1
    assert lost.stderr.splitlines()[-1].startswith("error: /proc/nowhere")
    assert "verdicts" in lost.stdout


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_a_dash_is_stdout_and_the_tables_go_to_stderr(
    bundle: Path, data: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = acl("eval", bundle, data, f"--{form}", "file")
    assert "verdicts" in plain.stdout
    done = acl("eval", bundle, data, f"--{form}", "-")
    assert done.exit_code == 0
    assert done.stdout == (tmp_path / "file").read_text()
    assert plain.stdout in done.stderr
    assert not (tmp_path / "-").exists()
    if form == "json":
        assert [row["category"] for row in json.loads(done.stdout)["rows"]] == ["data", "mean"]
    if form == "csv":
        assert [row["category"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["data", "mean"]


def test_only_one_form_goes_to_stdout(bundle: Path, tmp_path: Path) -> None:
    refused = acl("eval", bundle, tmp_path / "no data", "--json", "-", "--csv", "-")
    assert refused.exit_code == 2
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", refused.stderr).split())
    assert "only one form can go to stdout, got json and csv" in words


@pytest.mark.parametrize("option", ["--json", "--csv", "--markdown", "--report"])
@pytest.mark.parametrize("link", ["itself", "symlink", "hard link"])
@pytest.mark.parametrize("taken", ["test/good/2.png", "ground_truth/hole/2_mask.png"])
def test_no_result_replaces_an_input_by_whatever_name(
    bundle: Path, tmp_path: Path, option: str, link: str, taken: str
) -> None:
    draw_category(tmp_path / "data")
    target = tmp_path / "data" / taken
    before = target.read_bytes()
    place = tmp_path / "page" / "index.html" if option == "--report" else tmp_path / "result"
    place.parent.mkdir(exist_ok=True)
    if link == "itself":
        if option == "--report":
            pytest.skip("the page has a name of its own")
        place = target
    elif link == "symlink":
        place.symlink_to(target)
    else:
        place.hardlink_to(target)
    refused = acl("eval", bundle, tmp_path / "data", option, place.parent if option == "--report" else place)
    assert refused.exit_code == 1
    assert (
        refused.stderr.strip() == f"error: {place}: is the input {target}; name another file for the results"
    )
    assert target.read_bytes() == before


def test_a_link_to_a_file_of_the_bundle_is_refused(bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "result").hardlink_to(bundle / "manifest.json")
    refused = acl("eval", bundle, data, "--json", tmp_path / "result")
    assert refused.exit_code == 1
    assert "is the input" in refused.stderr


def test_an_image_that_cannot_be_read_makes_the_exit_code_1_and_the_others_are_measured(
    bundle: Path, tmp_path: Path
) -> None:
    draw_category(tmp_path / "data")
    broken = tmp_path / "data/test/hole/10.png"
    broken.write_bytes(b"GIF89a")
    done = acl(
        "eval", bundle, tmp_path / "data", "--json", tmp_path / "a.json", "--report", tmp_path / "page"
    )
    assert done.exit_code == 1
    assert done.stderr.count(f"note: bad frame: {broken}: ") == 1
    assert "note: 1 of 4 images could not be judged and are in no figure" in done.stdout
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["rows"][0]["images"] == 3
    assert [bad["source"] for bad in document["bad_frames"]] == [str(broken)]
    assert "1 of 4 images could not be judged" in (tmp_path / "page/index.html").read_text()


def test_blank_masks_are_refused_unless_they_are_wanted(bundle: Path, tmp_path: Path) -> None:
    draw_category(tmp_path / "data")
    draw(tmp_path / "data/ground_truth/hole/2_mask.png", color=0)
    refused = acl("eval", bundle, tmp_path / "data")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path / 'data'}: 1 of 2 masks of defective parts mark nothing (ground_truth/hole/2_mask.png)"
    )
    done = acl("eval", bundle, tmp_path / "data", "--allow-blank-masks")
    assert done.exit_code == 0
    assert "note: 1 of 2 masks of defective parts mark nothing" in done.stdout


def test_the_help_begins_with_what_one_needs_and_ends_with_what_experts_need() -> None:
    text = acl("eval", "--help").stdout
    places = [
        text.index(word)
        for word in ("Files", "--report", "--json", "--backend", "Expert options", "--exact", "--against")
    ]
    assert places == sorted(places)


def test_masks_drawn_in_a_viewer_fit_pictures_that_are_turned_as_their_tags_say(
    bundle: Path, tmp_path: Path
) -> None:
    tag = Image.Exif()
    tag[274] = 6  # stored lying, shown upright
    for path in ("good/0.jpg", "bad/1.jpg"):
        (tmp_path / "data" / path).parent.mkdir(parents=True)
        Image.new("L", (12, 8)).save(tmp_path / "data" / path, exif=tag)
    draw(tmp_path / "data/masks/1.png", size=(8, 12))
    refused = acl("eval", bundle, tmp_path / "data")
    assert refused.exit_code == 1
    assert "1.png: is 8x12 and its image" in refused.stderr
    done = acl("eval", bundle, tmp_path / "data", "--exif", "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())["settings"]["orientation"] == "applied"

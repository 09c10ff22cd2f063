"""The workshop's commands, train, convert, export and demo, as a user types them, and types them wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, MINI, assert_golden
from console import acl, assert_one_line
from golden import recipe

<<<<<<< HEAD
from acl_export.demo import DemoConfig, run_demo
from acl_export.demo_report import summary
from acl_runtime.bundle.bundle import load_bundle
=======
from acl_export.demo_report import choose_samples
from acl_runtime.data.datasets import read_dataset
>>>>>>> main


def test_the_road_from_a_published_checkpoint_to_the_published_map(
    clip_path: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    prompts, bundle = tmp_path / "p.safetensors", tmp_path / "bundle"
    options = ("--weights", clip_path, "--image-size", 98, "--layers", "3,6,9,12", "--vv-from", 3)
    assert acl("convert", checkpoint_path, "-o", prompts, *options).exit_code == 0
    exported = acl("export", prompts, "-o", bundle, "--weights", clip_path)
    assert exported.exit_code == 0
    assert "model.onnx: fp32, log-odds within" in exported.stdout
    images = FIXTURES / "images"
    result = acl("run", bundle, images / "synth0.png", "--save-maps", tmp_path / "maps", "--json", "-")
    assert_golden(
        recipe.load("tiny_98_synth0"),
        score=np.array([json.loads(result.stdout)["score"]]),
        anomaly_map=4 * np.load(tmp_path / "maps" / "synth0.npy"),
    )


def test_training_says_where_everything_is(clip_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.safetensors"
    options = ("--weights", clip_path, "--image-size", 70, "--vv-from", 3, "--epochs", 1)
    result = acl("train", MINI, "-o", output, *options, "--cache", tmp_path / "cache")
    assert result.exit_code == 0
    assert output.is_file()
    assert "p.log.jsonl" in result.stdout
    assert "p.checkpoints" in result.stdout
    again = acl("train", MINI, "-o", output, *options, "--cache", tmp_path / "cache")
    assert_one_line(again, "holds 1 epochs of an earlier run; pass --resume")


def test_mistakes_are_one_line_with_a_remedy(clip_path: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert_one_line(acl("train", MINI, *out), "weights are not chosen; pass --backbone tiny, or")
    weights = ("--weights", clip_path)
    assert_one_line(acl("train", tmp_path / "none", *out, *weights), "none: is not a folder")
    assert_one_line(acl("train", tmp_path / "empty", *out, *weights), "empty: is laid out in no known way")
    layers = ("--layers", "3,99")
    assert_one_line(acl("train", MINI, *out, *weights, *layers), "layers must lie in 1..12")
    assert_one_line(acl("convert", tmp_path / "none.pth", *out, *weights), "none.pth: no such checkpoint")
    assert_one_line(acl("convert", clip_path, *out, *weights), "not a checkpoint of the published code")
    assert_one_line(acl("export", checkpoint_path, *out), "goes through acl convert")
    assert_one_line(acl("export", tmp_path / "none", *out), "make one with acl train or acl convert")
    assert not (tmp_path / "out").exists()


def test_usage_errors_exit_with_two(clip_path: Path, tmp_path: Path) -> None:
    assert acl("train", MINI).exit_code == 2
    assert acl("train", MINI, "-o", tmp_path / "p", "--layers", "six").exit_code == 2
    assert acl("export", tmp_path, "-o", tmp_path / "b", "--precision", "fp8").exit_code == 2


def test_a_gpu_that_is_not_there_is_an_error(clip_path: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = acl("train", MINI, "-o", tmp_path / "p", "--weights", clip_path, "--device", "cuda")
    assert_one_line(result, "device cuda is not available to this torch; pass --device cpu")


@pytest.mark.parametrize("command", ["train", "convert", "export", "demo"])
def test_without_the_extra_each_command_names_it(command: str, tmp_path: Path) -> None:
    """torch is hidden as it would be on the box."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from acl_runtime.cli import app\n"
        f"app([{command!r}, *{['x', '-o', str(tmp_path)] if command != 'demo' else ['-o', str(tmp_path)]!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == 'torch is not installed; in the checkout: pip install -e ".[train]"'


<<<<<<< HEAD
def test_the_demo_goes_the_whole_road_on_unseen_products(tmp_path: Path) -> None:
    """Small, so that it takes seconds: two products learned, two judged; every step is the real one."""
    said: list[str] = []
    config = DemoConfig(
        learning=("wood", "nut"),
        unseen=("egg", "leather"),
        per_family=3,
        per_unseen=3,
        per_calibration=20,
        epochs=1,
        timing_s=0,
    )
    result = run_demo(tmp_path / "demo", config, say=said.append)
    assert [row["category"] for row in result.rows] == ["egg", "leather", "mean"]
    assert all(0 <= result.rows[-1][key] <= 1 for key in ("image_auroc", "pixel_auroc", "aupro"))
    assert result.ratio > 0
    assert result.ours.candidate.anomaly_map < 1e-5
    assert result.ours.candidate.image_logits < 5e-5
    page = result.report.read_text()
    assert result.report == tmp_path / "demo" / "report" / "index.html"  # the page of an evaluation
    assert "not for inspection" in page
    assert '<a href="#d0-c0">egg</a>' in page
    assert "Each product has its own thresholds" in page
    calibrated = [load_bundle(tmp_path / "demo" / "bundles" / name).manifest for name in ("egg", "leather")]
    assert calibrated[0].calibration.score_threshold != calibrated[1].calibration.score_threshold
    assert (tmp_path / "demo" / "contact_sheet.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "bundle" / "manifest.json").is_file()
    assert len(summary(result)) <= 10
    against = acl("eval", tmp_path / "demo" / "bundle", tmp_path / "demo" / "unseen", "--against", "torch")
    worst = re.search(r"largest difference of a score (\S+), of a map (\S+)", against.stdout)
    assert worst is not None, against.output
    assert max(float(number) for number in worst.groups()) < 1e-5
    shutil.copytree(tmp_path / "demo" / "unseen", tmp_path / "mine")
    own = run_demo(tmp_path / "demo", config, data=tmp_path / "mine", say=said.append)
    assert "the prompts that the earlier demo here learned are used again" in said
    assert own.rows[-1]["image_auroc"] == result.rows[-1]["image_auroc"]
    assert own.manifest.prompts["sha256"] == result.manifest.prompts["sha256"]


def test_the_demo_judges_the_users_own_folder_and_replaces_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and no demo made it; name a new or an empty folder"):
        run_demo(tmp_path, DemoConfig(), data=MINI)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        run_demo(tmp_path / "demo", DemoConfig(), data=tmp_path / "none")
    assert not (tmp_path / "demo").exists()
=======
def test_the_report_shows_the_first_parts_of_every_category() -> None:
    dataset = read_dataset(MINI)
    shown = [dataset.samples[index] for index in choose_samples(dataset, 9)]
    assert [(sample.category, sample.label) for sample in shown].count(("01", 0)) == 1
    assert [(sample.category, sample.label) for sample in shown].count(("02", 1)) == 2
>>>>>>> main

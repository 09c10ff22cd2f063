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

"""`acl train` as a library call: files, resumption, data without masks, bad data."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MINI, VV_FROM
from folders import draw, draw_category

from acl_runtime.files.errors import InputError
from acl_train.config import LearnConfig, VisionConfig
from acl_train.prompts import Prompts, load_prompts, save_prompts
from acl_train.train import TrainFiles, train
from acl_train.weights import Weights

VISION = VisionConfig(70, (6, 12), VV_FROM)
CONFIG = LearnConfig(epochs=4, batch_size=8)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def learn(
    weights: Weights,
    files: TrainFiles,
    *,
    data: Path = MINI,
    resume: bool = False,
    config: LearnConfig = CONFIG,
) -> Prompts:
    return train([data], files, weights, VISION, config, resume=resume)


def test_a_run_leaves_prompts_a_log_and_a_checkpoint_per_epoch(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    prompts = learn(weights, files)
    lines = [json.loads(line) for line in files.log.read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [
        (epoch, step) for epoch in (1, 2, 3, 4) for step in (1, 2, 3)
    ]
    assert lines[0].keys() == {"epoch", "step", "loss", "image", "focal", "dice_anomalous", "dice_normal"}
    names = sorted(path.name for path in files.checkpoints.iterdir())
    assert names == [f"epoch_00{epoch}.safetensors" for epoch in (1, 2, 3, 4)]
    loaded = load_prompts(files.output)
    assert torch.equal(loaded.tensors["ctx"], prompts.tensors["ctx"])
    assert loaded.config.weights_sha256 == weights.sha256
    assert loaded.config.vision == VISION
    assert loaded.config.learning["images"] == 18
    assert loaded.config.learning["defective"] == 9


def test_a_resumed_run_ends_as_an_uninterrupted_one(weights: Weights, tmp_path: Path, cache: Path) -> None:
    straight, halves = (TrainFiles(tmp_path / f"{name}.safetensors", cache) for name in "ab")
    learn(weights, straight)
    learn(weights, halves, config=replace(CONFIG, epochs=2))
    with halves.log.open("a") as log:  # a crash in the third epoch
        log.write('{"epoch": 3, "step": 1, "loss": 9}\n{"epoch": 3, "st')
    learn(weights, halves, resume=True)
    assert halves.output.read_bytes() == straight.output.read_bytes()
    assert halves.log.read_text() == straight.log.read_text()


def test_an_earlier_run_is_not_overwritten(weights: Weights, tmp_path: Path, cache: Path) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    learn(weights, files, config=replace(CONFIG, epochs=1))
    before = files.output.read_bytes()
    with pytest.raises(FileExistsError, match="holds 1 epochs of an earlier run; pass --resume"):
        learn(weights, files)
    assert files.output.read_bytes() == before


def test_resuming_with_other_settings_is_refused(weights: Weights, tmp_path: Path, cache: Path) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    learn(weights, files, config=replace(CONFIG, epochs=1))
    with pytest.raises(ValueError, match="was learned with seed 111, not 7; resume with the same settings"):
        learn(weights, files, resume=True, config=replace(CONFIG, seed=7))


def test_there_is_nothing_to_resume_before_a_run(weights: Weights, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume; run without --resume"):
        learn(weights, TrainFiles(tmp_path / "p.safetensors", cache), resume=True)


def good_and_bad(root: Path) -> Path:
    for label in ("good", "bad"):
        (root / label).mkdir(parents=True)
        for path in sorted(MINI.glob(f"*/test/{label}/*.png")):
            shutil.copy(path, root / label / f"{path.parts[-4]}_{path.name}")
    return root


def test_without_masks_it_learns_from_the_image_loss_and_says_so(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    data = good_and_bad(tmp_path / "data")
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    train([data], files, weights, VISION, replace(CONFIG, epochs=1), say=said.append)
    assert said == [
        "data: there are no masks, so there are image-level metrics only",
        "no masks in the data: only the image loss applies, so maps will be weaker than with masks",
    ]
    assert json.loads(files.log.read_text().splitlines()[0]).keys() == {"epoch", "step", "loss", "image"}


def test_data_with_and_without_masks_do_not_mix(weights: Weights, tmp_path: Path, cache: Path) -> None:
    data = good_and_bad(tmp_path / "data")
    with pytest.raises(ValueError, match=r"data: has no masks while .*mini has"):
        train([MINI, data], TrainFiles(tmp_path / "p.safetensors", cache), weights, VISION, CONFIG)


@pytest.mark.parametrize(("missing", "message"), [("bad", "no defective parts"), ("good", "no good parts")])
def test_one_kind_of_part_is_not_enough(
    weights: Weights, tmp_path: Path, cache: Path, missing: str, message: str
) -> None:
    data = tmp_path / "data"
    for folder in ("ground_truth", "test"):
        shutil.copytree(MINI / "01" / folder, data / "01" / folder)
    shutil.rmtree(data / "01" / "test" / missing)
    if missing == "bad":
        shutil.rmtree(data / "01" / "ground_truth")
    with pytest.raises(ValueError, match=message):
        learn(weights, TrainFiles(tmp_path / "p.safetensors", cache), data=data)


def test_a_mask_of_another_size_is_refused_before_learning(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(MINI, data)
    mask = data / "02" / "ground_truth" / "bad" / "001_mask.png"
    shutil.copy(data / "01" / "ground_truth" / "bad" / "001_mask.png", mask)
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    with pytest.raises(ValueError, match=r"001_mask\.png: is \d+x\d+ and its image .* is \d+x\d+"):
        learn(weights, files, data=data)
    assert not files.output.exists()


def test_blank_masks_are_not_learned_from_unless_they_are_wanted(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    draw_category(tmp_path / "data")
    draw(tmp_path / "data/ground_truth/hole/2_mask.png", color=0)
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    with pytest.raises(
        InputError, match="1 of 2 masks of defective parts mark nothing .*--allow-blank-masks"
    ):
        learn(weights, files, data=tmp_path / "data")
    said: list[str] = []
    config = replace(CONFIG, epochs=1)
    train([tmp_path / "data"], files, weights, VISION, config, allow_blank_masks=True, say=said.append)
    assert any("1 of 2 masks of defective parts mark nothing" in line for line in said)


def test_two_runs_at_once_on_one_data_set_learn_what_one_alone_learns(
    weights: Weights, clip_path: Path, tmp_path: Path
) -> None:
    """As processes: each appended to the other's cache before."""
    command = [sys.executable, "-m", "acl_runtime.cli", "train", str(MINI), "--weights", str(clip_path)]
    command += ["--image-size", "70", "--layers", "6,12", "--epochs", "1", "--cache", str(tmp_path / "cache")]
    runs = [
        subprocess.Popen(
            [*command, "-o", str(tmp_path / f"{name}.safetensors")],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in "ab"
    ]
    for run in runs:
        _, said = run.communicate(timeout=300)
        assert run.returncode == 0, said
    outputs = [(tmp_path / f"{name}.safetensors").read_bytes() for name in "ab"]
    assert outputs[0] == outputs[1]
    alone = learn(weights, TrainFiles(tmp_path / "c.safetensors", tmp_path), config=replace(CONFIG, epochs=1))
    for name, tensor in load_prompts(tmp_path / "a.safetensors").tensors.items():
        torch.testing.assert_close(tensor, alone.tensors[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("link", [None, os.link, os.symlink], ids=["itself", "hard link", "symbolic link"])
@pytest.mark.parametrize("kind", ["image", "mask", "weights"])
def test_an_output_does_not_replace_an_input(
    weights: Weights, clip_path: Path, tmp_path: Path, cache: Path, link: Any, kind: str
) -> None:
    shutil.copytree(MINI, tmp_path / "data")
    shutil.copy(clip_path, tmp_path / "clip.pt")
    inputs = {
        "image": tmp_path / "data/01/test/good/000.png",
        "mask": next((tmp_path / "data/01/ground_truth/bad").iterdir()),
        "weights": tmp_path / "clip.pt",
    }
    source = inputs[kind]
    output, before = source, source.read_bytes()
    if link is not None:
        output = tmp_path / "p.safetensors"
        link(source, output)
    with pytest.raises(InputError, match="is there already and is no prompts file; name another output"):
        learn(weights, TrainFiles(output, cache), data=tmp_path / "data")
    assert source.read_bytes() == before


def test_a_log_does_not_replace_something_else(weights: Weights, tmp_path: Path, cache: Path) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    files.log.write_text('{"frames": 1}\n')
    with pytest.raises(InputError, match=r"p\.log\.jsonl: is there already and is no loss log"):
        learn(weights, files)
    assert files.log.read_text() == '{"frames": 1}\n'


@pytest.mark.parametrize("rate", [1e30, 1e5])
def test_a_loss_that_is_not_finite_ends_the_learning_with_the_step(
    weights: Weights, tmp_path: Path, cache: Path, rate: float
) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) in step \d of epoch \d, .*lower --lr, which is 1"
    ):
        learn(weights, files, config=replace(CONFIG, learning_rate=rate))
    assert not files.output.exists()
    assert all(math.isfinite(json.loads(line)["loss"]) for line in files.log.read_text().splitlines())


def test_a_last_step_that_ruins_all_is_found_without_another_loss(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    one_step = replace(CONFIG, epochs=1, batch_size=100, learning_rate=1e30)
    with pytest.raises(
        InputError, match="what was learned in epoch 1 gives NaN or infinity, so the learning was stopped"
    ):
        learn(weights, files, config=one_step)
    assert not files.output.exists()
    assert not list(files.checkpoints.glob("*"))


@pytest.mark.parametrize(("size", "rest"), [(72, "2 pixels"), (83, "13 pixels"), (71, "1 pixel")])
def test_an_image_size_with_a_blind_edge_is_refused_with_the_nearest(
    weights: Weights, tmp_path: Path, cache: Path, size: int, rest: str
) -> None:
    message = (
        rf"multiple of the patch \(14\), got {size}: the last {rest} on the right .*--image-size 70 or 84"
    )
    with pytest.raises(InputError, match=message):
        train(
            [MINI],
            TrainFiles(tmp_path / "p.safetensors", cache),
            weights,
            replace(VISION, image_size=size),
            CONFIG,
        )


def test_the_thousandth_epoch_comes_after_the_last_of_three_digits(tmp_path: Path) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", tmp_path)
    files.checkpoints.mkdir()
    for name in ("epoch_1000", "epoch_999", "epoch_x", "epoch_002"):
        (files.checkpoints / f"{name}.safetensors").touch()
    assert [path.stem for path in files.finished()] == ["epoch_002", "epoch_999", "epoch_1000"]


def test_a_checkpoint_with_other_tensors_is_not_gone_on_from(
    weights: Weights, tmp_path: Path, cache: Path
) -> None:
    files = TrainFiles(tmp_path / "p.safetensors", cache)
    prompts = learn(weights, files, config=replace(CONFIG, epochs=1))
    save_prompts(files.checkpoint(1), prompts)  # without the optimiser's
    with pytest.raises(
        InputError, match=r"epoch_001\.safetensors: optimizer\.ctx\.exp_avg must have the shape"
    ):
        learn(weights, files, config=replace(CONFIG, epochs=2), resume=True)

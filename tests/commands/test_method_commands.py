"""The methods on the command line: chosen at train or export, named by info and eval, and chosen wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MINI
from console import acl, assert_one_line

from acl_runtime.bundle.bundle import load_bundle
from acl_train.prompts import load_prompts

SIZE = ("--image-size", 70)


@pytest.fixture(scope="module")
def winclip(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a method that learns nothing."""
    folder = tmp_path_factory.mktemp("winclip") / "bundle"
    options = ("--method", "winclip", "--category", "metal nut", "--weights", clip_path, *SIZE)
    assert acl("export", *options, "-o", folder).exit_code == 0
    return folder


def test_a_method_without_learning_needs_no_prompts_and_says_what_it_is(winclip: Path) -> None:
    manifest = load_bundle(winclip).manifest
    assert (manifest.windows, manifest.class_norm, manifest.projections) == ((2, 3), True, None)
    assert manifest.prompts["category"] == "metal nut"
    told = acl("info", winclip).stdout
    assert "prompts         winclip of metal nut, recipe winclip, sha256 " in told
    assert "map             windows of 2 and 3 patches on a 5 x 5 grid" in told


def test_eval_says_that_other_products_were_judged_with_that_name(winclip: Path) -> None:
    result = acl("eval", winclip, MINI)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "prompts name the product “metal nut”; 01, 02, 03 were judged with that name too" in shown


def test_a_trained_method_is_recorded_and_its_name_is_asked_for(clip_path: Path, tmp_path: Path) -> None:
    prompts, options = tmp_path / "p.safetensors", ("--weights", clip_path, *SIZE, "--cache", tmp_path / "c")
    command = ("train", MINI, "-o", prompts, "--method", "coop", "--epochs", 1, "--ctx-tokens", 4, *options)
    assert acl(*command).exit_code == 0
    loaded = load_prompts(prompts)
    assert (loaded.config.method, loaded.config.words) == ("coop", ("normal {}.", "anomalous {}."))
    assert loaded.tensors["ctx"].shape == (1, 4, 128)
    assert loaded.config.learning["losses"] == ["image"]
    log = [json.loads(line) for line in (tmp_path / "p.log.jsonl").read_text().splitlines()]
    assert log[0].keys() == {"epoch", "step", "loss", "image"}
    result = acl("export", prompts, "-o", tmp_path / "b", "--weights", clip_path)
    assert_one_line(result, "prompts of coop name the product; pass its name, such as --category hazelnut")
    assert not (tmp_path / "b").exists()


def test_the_ablations_of_the_paper_are_options(clip_path: Path, tmp_path: Path) -> None:
    prompts, options = tmp_path / "p.safetensors", ("--weights", clip_path, *SIZE, "--cache", tmp_path / "c")
    ablations = ("--word", "broken", "--deep-layers", 0, "--vv-from", 0, "--losses", "image,focal")
    command = ("train", MINI, "-o", prompts, "--epochs", 1, "--shared-context", *ablations, *options)
    assert acl(*command).exit_code == 0
    config = load_prompts(prompts).config
    assert config.words == ("{}.", "broken {}.")
    assert config.vision.vv_from == 13  # of twelve blocks: none
    assert config.learning["shared_ctx"] is True
    assert config.learning["deep_layers"] == 0
    assert acl("export", prompts, "-o", tmp_path / "b", "--weights", clip_path).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("export", "-o", "x"),
            "give PROMPTS, or --prompts NAME, or --method with a method that learns none",
        ),
        (("export", "p", "--method", "clip", "-o", "x"), "give PROMPTS, or --prompts NAME, or --method"),
        (("train", "d", "-o", "x", "--attention", "vv+kq"), "attention must be one of vv, qq, kk, qk"),
        (("train", "d", "-o", "x", "--losses", "image,dice"), "must be some of image,focal,dice_anomalous"),
    ],
)
def test_a_mistyped_method_is_a_usage_error(options: tuple[str, ...], message: str) -> None:
    result = acl(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_method_without_weights_says_how_to_choose_them(tmp_path: Path) -> None:
    result = acl("export", "--method", "clip", "-o", tmp_path / "b", "--category", "nut")
    assert_one_line(result, "weights are not chosen; pass --backbone tiny, or --backbone NAME --weights TAG")

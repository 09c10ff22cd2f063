"""The prompts file and the published checkpoints it is made from."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SAMPLES
from safetensors.torch import save_file

from acl_runtime.files.errors import InputError
from acl_train.config import VisionConfig
from acl_train.convert import convert_checkpoint
from acl_train.methods import with_options
from acl_train.prompts import Prompts, PromptsConfig, check_architecture, load_prompts, save_prompts
from acl_train.text import assemble, text_embeddings, tokenize
from acl_train.weights import Weights, build_clip

VISION = VisionConfig(70, (12,), 3)


def test_prompts_survive_a_file(prompts: Prompts, tmp_path: Path) -> None:
    save_prompts(tmp_path / "p.safetensors", prompts)
    loaded = load_prompts(tmp_path / "p.safetensors")
    assert torch.equal(loaded.tensors["ctx"], prompts.tensors["ctx"])
    assert torch.equal(loaded.tensors["deep_ctx"], prompts.tensors["deep_ctx"])
    assert loaded.config == prompts.config


def test_the_same_prompts_make_the_same_bytes(prompts: Prompts, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for path in paths:
        save_prompts(path, prompts)
    assert len({path.read_bytes() for path in paths}) == 1


def test_the_configuration_is_pinned_as_json() -> None:
    config = PromptsConfig(
        "ViT", "openai", "abc", True, VisionConfig(518, (24,), 6, "qq"), "paper", {"epochs": 15}
    )
    text = (
        '{"backbone": "ViT", "format_version": 2, "learning": {"epochs": 15}, "method": "anomalyclip", '
        '"quick_gelu": true, "recipe": "paper", "vision": {"attention": "qq", "class_norm": false, "image_size": 518, '
        '"layers": [24], "learned_projection": false, "vv_from": 6, "windows": []}, "weights": "openai", '
        '"weights_sha256": "abc", "words": ["{}.", "damaged {}."]}'
    )
    assert config.to_json() == text
    assert PromptsConfig.from_json(text) == config


def test_a_configuration_of_version_1_is_that_of_the_paper() -> None:
    text = (
        '{"backbone": "ViT", "format_version": 1, "learning": {"epochs": 15}, "quick_gelu": true, '
        '"recipe": "paper", "vision": {"attention": "vv", "image_size": 518, "layers": [24], "vv_from": 6}, '
        '"weights": "openai", "weights_sha256": "abc"}'
    )
    config = PromptsConfig.from_json(text)
    assert (config.method, config.words) == ("anomalyclip", ("{}.", "damaged {}."))
    assert config.vision == VisionConfig(518, (24,), 6)


def test_tokens_are_clips_own(weights: Weights) -> None:
    clip = build_clip(weights, VISION)
    texts = ["X X X X X X X X X X X X object.", "X X X X X X X X X X X X damaged object."]
    tokens = tokenize(clip, texts)
    assert tokens[0].tolist()[:17] == [49406, *[343] * 12, 14115, 269, 49407, 0]
    assert tokens[1].tolist()[:18] == [49406, *[343] * 12, 13568, 14115, 269, 49407, 0]


def test_the_learned_context_replaces_the_placeholders(weights: Weights) -> None:
    clip, ctx = build_clip(weights, VISION), torch.randn(2, 12, 128)
    embedded, ends = assemble(clip, ctx, ["object.", "damaged object."])
    assert torch.equal(embedded[:, 1:13], ctx)
    assert torch.equal(embedded[0, 13], clip.token_embedding.weight[14115])
    assert torch.equal(embedded[1, 13], clip.token_embedding.weight[13568])
    assert ends.tolist() == [15, 16]


def test_converting_rounds_the_deep_tokens_to_fp16(prompts: Prompts, checkpoint_path: Path) -> None:
    stored = torch.load(checkpoint_path, weights_only=True)["prompt_learner"]
    unrounded = stored["compound_prompts_text.3"]
    assert not torch.equal(unrounded.half().float(), unrounded)
    assert torch.equal(prompts.tensors["deep_ctx"][3], unrounded.half().float())
    assert torch.equal(prompts.tensors["ctx"][0], stored["ctx_pos"][0, 0])
    assert torch.equal(prompts.tensors["ctx"][1], stored["ctx_neg"][0, 0])


def test_rounding_twice_is_rounding_once(weights: Weights, prompts: Prompts) -> None:
    clip = build_clip(weights, VISION)
    rounded = prompts.tensors["deep_ctx"].half().float()
    torch.testing.assert_close(
        text_embeddings(clip, prompts.tensors["ctx"], prompts.tensors["deep_ctx"]),
        text_embeddings(clip, prompts.tensors["ctx"], rounded),
        atol=0,
        rtol=0,
    )


class Attack:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_code_is_refused_and_does_not_run(tmp_path: Path, weights: Weights) -> None:
    torch.save({"prompt_learner": Attack(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth: not a plain file of tensors"):
        convert_checkpoint(tmp_path / "evil.pth", weights, VISION)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_for_another_backbone_is_refused(
    tmp_path: Path, weights: Weights, checkpoint_path: Path
) -> None:
    wide = replace(weights, architecture=replace(weights.architecture, text_width=768))
    with pytest.raises(ValueError, match="prompts must be 768 wide .* got 128 wide and 8 deep"):
        convert_checkpoint(checkpoint_path, wide, VISION)


@pytest.mark.parametrize("content", [{"model": {}}, {"prompt_learner": {"ctx_pos": torch.ones(1)}}])
def test_another_checkpoint_is_refused(tmp_path: Path, weights: Weights, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not a checkpoint of the published code"):
        convert_checkpoint(tmp_path / "other.pth", weights, VISION)


def test_tensors_of_the_wrong_shape_are_refused(
    tmp_path: Path, weights: Weights, checkpoint_path: Path
) -> None:
    learner = torch.load(checkpoint_path, weights_only=True)["prompt_learner"]
    torch.save({"prompt_learner": learner | {"ctx_neg": torch.ones(1, 1, 7, 128)}}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth: .*ctx_neg"):
        convert_checkpoint(tmp_path / "odd.pth", weights, VISION)


def test_a_file_that_is_no_prompts_file_is_refused_with_the_remedy(
    tmp_path: Path, checkpoint_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="make one with acl train or acl convert"):
        load_prompts(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="goes through acl convert"):
        load_prompts(checkpoint_path)
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a prompts file"):
        load_prompts(tmp_path / "other.safetensors")


def test_a_newer_prompts_file_is_refused(prompts: Prompts, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    text = prompts.config.to_json().replace('"format_version": 2', '"format_version": 4')
    save_file(
        {"ctx": prompts.tensors["ctx"], "deep_ctx": prompts.tensors["deep_ctx"]},
        path,
        {"anomalyclip_prompts": text},
    )
    with pytest.raises(ValueError, match="format version 4 is newer than 3"):
        load_prompts(path)


def test_a_full_disk_is_an_oserror_and_leaves_the_old_file(
    prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.safetensors"
    save_prompts(path, prompts)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_prompts(path, prompts)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.safetensors"]


def rewrite(
    path: Path, prompts: Prompts, change: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None
) -> Path:
    """A prompts file with other values in its metadata, in `vision` too, or other tensors."""
    document = json.loads(prompts.config.to_json())
    for key, value in change.items():
        (document["vision"] if key in document["vision"] else document)[key] = value
    kept = {name: tensor.clone() for name, tensor in prompts.tensors.items()} | (tensors or {})
    save_file(kept, path, {"anomalyclip_prompts": json.dumps(document)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100_000}, r"image size must lie in 1\.\.4096 pixels, got 100000"),
        ({"image_size": "70"}, r'image_size must be an integer, got "70"'),
        ({"layers": [3, "6"]}, "must be an integer"),
        ({"layers": None}, "must be a list, got null"),
        ({"windows": [0]}, "windows must be 1 patch or more"),
        ({"quick_gelu": "yes"}, "must be true or false"),
        ({"vision": []}, "must be an object with the keys of a prompts file"),
        ({"learning": 3}, "learning must be an object"),
        ({"words": ["{}."]}, "words must be two"),
        ({"words": ["{}.", "{0.__class__}"]}, "words of a prompt must have no braces but {}"),
        ({"words": ["{:>10000000000}", "{}"]}, "words of a prompt must have no braces but {}"),
        ({"method": "magic"}, "method must be one of"),
        ({"method": "clip"}, "the tensors of clip are other ones, got ctx, deep_ctx"),
        ({"method": "vand"}, "the tensors of vand are other ones, got ctx, deep_ctx"),
        ({"learned_projection": True}, "learned_projection does not go with the other tensors"),
        ({"format_version": None}, "format version None is newer than 3"),
        ({"surplus": 1}, "has an unknown key 'surplus'"),
    ],
)
def test_odd_metadata_is_refused_in_one_line(
    prompts: Prompts, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = rewrite(tmp_path / "odd.safetensors", prompts, change)
    with pytest.raises(
        InputError, match=rf"odd\.safetensors: its metadata or tensors cannot be used \(.*{message}"
    ):
        load_prompts(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"ctx": torch.full((2, 12, 128), float("nan"))}, "ctx holds NaN or infinity"),
        ({"deep_ctx": torch.full((8, 4, 128), float("inf"))}, "deep_ctx holds NaN or infinity"),
        ({"ctx": torch.zeros(2, 12)}, r"ctx must have 3 dimensions, got the shape \(2, 12\)"),
        ({"ctx": torch.zeros(3, 12, 128)}, "ctx does not go with the other tensors"),
        ({"ctx": torch.zeros(2, 12, 64)}, "ctx does not go with the other tensors"),
        ({"ctx": torch.zeros(2, 12, 128, dtype=torch.int32)}, "ctx must be floating-point"),
        ({"vectors": torch.zeros(2, 2, 64)}, "the tensors of anomalyclip are other ones"),
    ],
)
def test_odd_tensors_are_refused_in_one_line(
    prompts: Prompts, tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    path = rewrite(tmp_path / "odd.safetensors", prompts, {}, tensors)
    with pytest.raises(InputError, match=rf"odd\.safetensors: .*{message}"):
        load_prompts(path)


def test_prompts_of_another_width_or_depth_do_not_fit(prompts: Prompts, weights: Weights) -> None:
    check_architecture(prompts, weights.architecture)
    with pytest.raises(InputError, match="ctx must be 768 wide for .*, got 128"):
        check_architecture(prompts, replace(weights.architecture, text_width=768))
    with pytest.raises(InputError, match="deep_ctx must have fewer than 8 rows"):
        check_architecture(prompts, replace(weights.architecture, text_layers=8))


def test_a_checkpoint_with_nan_is_refused(tmp_path: Path, weights: Weights, checkpoint_path: Path) -> None:
    learner = torch.load(checkpoint_path, weights_only=True)["prompt_learner"]
    learner["ctx_pos"][0, 0, 3, 7] = float("nan")
    torch.save({"prompt_learner": learner}, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"nan\.pth: ctx holds NaN or infinity; the checkpoint is damaged"):
        convert_checkpoint(tmp_path / "nan.pth", weights, VISION)


@pytest.mark.parametrize(
    "content",
    [
        {"prompt_learner": {1: torch.ones(1)}},
        {"prompt_learner": 5},
        {"prompt_learner": {"ctx_pos": 1, "ctx_neg": 2, "compound_prompts_text.0": 3}},
        {3: {"ctx_pos": torch.ones(1)}},
        {"prompt_learner": {**dict.fromkeys(("ctx_pos", "ctx_neg"), torch.ones(1, 1, 12, 128))}},
    ],
)
def test_checkpoints_with_other_entries_are_refused(tmp_path: Path, weights: Weights, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(
        InputError, match=r"odd\.pth: (not a checkpoint of the published code|names of tensors)"
    ):
        convert_checkpoint(tmp_path / "odd.pth", weights, VISION)


def test_deep_tokens_must_be_numbered(tmp_path: Path, weights: Weights, checkpoint_path: Path) -> None:
    learner = torch.load(checkpoint_path, weights_only=True)["prompt_learner"]
    learner["compound_prompts_text.9"] = learner.pop("compound_prompts_text.3")
    torch.save({"prompt_learner": learner}, tmp_path / "gap.pth")
    with pytest.raises(InputError, match=r"gap\.pth: its deep tokens .* compound_prompts_text\.3 is missing"):
        convert_checkpoint(tmp_path / "gap.pth", weights, VISION)


def test_a_prompt_that_is_longer_than_the_text_tower_is_not_cut_in_silence(weights: Weights) -> None:
    clip = build_clip(weights, VISION)
    assert tokenize(clip, ["X " * 75]).shape == (1, 77)
    with pytest.raises(InputError, match=r"at most 75 tokens, got 76; shorten the product's name, --word or"):
        tokenize(clip, ["X " * 76])


def test_braces_in_a_word_are_refused() -> None:
    with pytest.raises(InputError, match="words of a prompt must have no braces but {}"):
        with_options("anomalyclip", word="{0}")


@pytest.mark.parametrize("version", [1, 2])
def test_prompts_files_of_old_versions_are_read(prompts: Prompts, version: int) -> None:
    """Written by the code of their time from the same checkpoint."""
    path = SAMPLES / f"prompts_{version}.safetensors"
    assert f'\\"format_version\\": {version}'.encode() in path.read_bytes()
    read = load_prompts(path)
    assert read.tensors.keys() == prompts.tensors.keys()
    for name, tensor in prompts.tensors.items():
        torch.testing.assert_close(read.tensors[name], tensor, rtol=0, atol=0)
    assert read.config.vision == prompts.config.vision
    assert read.config.method == "anomalyclip"
    assert read.config.weights_sha256 == prompts.config.weights_sha256

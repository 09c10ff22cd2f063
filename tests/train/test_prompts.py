"""The prompts file and the published checkpoints it is made from."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from acl_train.config import VisionConfig
from acl_train.convert import convert_checkpoint
from acl_train.prompts import Prompts, PromptsConfig, load_prompts, save_prompts
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
    text = prompts.config.to_json().replace('"format_version": 2', '"format_version": 3')
    save_file(
        {"ctx": prompts.tensors["ctx"], "deep_ctx": prompts.tensors["deep_ctx"]},
        path,
        {"anomalyclip_prompts": text},
    )
    with pytest.raises(ValueError, match="format version 3 is newer than 2"):
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

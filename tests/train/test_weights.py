"""Every way in which CLIP weights come, and what is said of those that do not fit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from golden import recipe
from safetensors.torch import save_file

from acl_train.config import VisionConfig
from acl_train.tensor_files import read_state
from acl_train.text import embed_texts
from acl_train.weights import Weights, build_clip, load_weights, weights_of_open_clip

VISION = VisionConfig(70, (12,), 3)


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "openai"])
def test_every_precision_of_a_state_dict_is_the_same_weights(
    weights: Weights, tmp_path: Path, dtype: str
) -> None:
    recipe.write_clip("tiny", str(tmp_path / "clip.pt"), dtype)
    loaded = load_weights(weights=str(tmp_path / "clip.pt"))
    assert loaded.sha256 == weights.sha256
    assert loaded.architecture == weights.architecture


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_an_openai_archive_is_the_same_weights(weights: Weights, tmp_path: Path) -> None:
    recipe.write_clip_jit("tiny", str(tmp_path / "clip.pt"))
    assert load_weights(weights=str(tmp_path / "clip.pt")).sha256 == weights.sha256


def test_a_safetensors_file_and_a_training_checkpoint_are_the_same_weights(
    weights: Weights, tmp_path: Path
) -> None:
    save_file(weights.state, tmp_path / "clip.safetensors")
    nested = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.state.items()}}
    torch.save(nested, tmp_path / "clip.pt")
    for name in ("clip.safetensors", "clip.pt"):
        assert load_weights(weights=str(tmp_path / name)).sha256 == weights.sha256


def test_sizes_are_read_off_the_shapes(weights: Weights) -> None:
    sizes = weights.architecture
    assert (sizes.vision_width, sizes.vision_layers, sizes.vision_heads, sizes.patch_size) == (128, 12, 2, 14)
    assert (sizes.text_width, sizes.text_layers, sizes.text_heads, sizes.embed_dim) == (128, 12, 2, 64)
    assert (sizes.vision_grid, sizes.context_length, sizes.vocab_size) == (5, 77, 49408)
    assert sizes.quick_gelu


def small_open_clip(*, quick_gelu: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(layers=3, width=128, head_width=32, patch_size=14, image_size=70)
    text = open_clip.CLIPTextCfg(width=128, heads=4, layers=3)
    model: torch.nn.Module = open_clip.CLIP(64, vision, text, quick_gelu=quick_gelu).eval()
    return model


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_towers_equal_open_clips(quick_gelu: bool) -> None:
    """Heads of another width than 64 and either activation come from open_clip's own model."""
    model: Any = small_open_clip(quick_gelu=quick_gelu)
    weights = weights_of_open_clip(model, "small", "random")
    clip = build_clip(weights, VisionConfig(70, (3,), 2))
    images, texts = torch.randn(2, 3, 70, 70), ["a photo of a bolt", "a damaged bolt"]
    with torch.no_grad():
        theirs = F.normalize(model.encode_text(open_clip.tokenize(texts)), dim=-1)
        *_, (ordinary, _) = clip.visual.paths(clip.visual.embed(images))
        pooled = clip.visual.ln_post(ordinary[:, 0]) @ clip.visual.proj
        torch.testing.assert_close(pooled, model.encode_image(images), atol=1e-5, rtol=0)
    torch.testing.assert_close(embed_texts(clip, texts), theirs, atol=1e-5, rtol=0)
    assert weights.architecture.quick_gelu is quick_gelu


def test_an_unknown_tag_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"weights must be one of openai for ViT-L-14-336, or a file, got lain2b"
    ):
        load_weights("ViT-L-14-336", "lain2b")


def test_an_unknown_backbone_says_where_the_list_is() -> None:
    with pytest.raises(ValueError, match="backbone must be tiny or a name in open_clip.list_models"):
        load_weights("ViT-Z", "openai")


def test_nothing_chosen_says_what_to_choose() -> None:
    with pytest.raises(ValueError, match="pass --backbone tiny"):
        load_weights()


def test_a_missing_file_is_not_taken_for_a_tag() -> None:
    with pytest.raises(FileNotFoundError, match="clip.pt: no such file"):
        load_weights("ViT-L-14-336", "clip.pt")


class Attack:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, save: Any) -> None:
    save({"visual.proj": Attack(tmp_path / "ran")}, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match="asks to run code, or is damaged"):
        load_weights(weights=str(tmp_path / "clip.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
def test_files_that_are_no_weights_are_refused_in_one_line(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"clip\.(pt|safetensors): ") as error:
        load_weights(weights=str(path))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(clip_path: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.pt").write_bytes(clip_path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="clip.pt: "):
        load_weights(weights=str(tmp_path / "clip.pt"))


def test_weights_of_another_kind_are_refused_with_the_first_missing_names(tmp_path: Path) -> None:
    save_file({"visual.trunk.norm.weight": torch.ones(3)}, tmp_path / "siglip.safetensors")
    with pytest.raises(ValueError, match=r"visual\.conv1\.weight, visual\.positional_embedding"):
        load_weights(weights=str(tmp_path / "siglip.safetensors"))


def test_a_missing_tensor_is_named(weights: Weights) -> None:
    state = dict(weights.state)
    del state["visual.transformer.resblocks.3.mlp.c_fc.bias"]
    broken = Weights(state, weights.architecture, "x", "x", "x")
    with pytest.raises(ValueError, match=r"1 tensors are missing \(first: visual.*3\.mlp\.c_fc\.bias\)"):
        build_clip(broken, VISION)


def test_a_tensor_of_the_wrong_shape_is_named(weights: Weights) -> None:
    state = weights.state | {"visual.proj": torch.zeros(128, 32)}
    with pytest.raises(ValueError, match=r"visual\.proj must be \(128, 64\), got \(128, 32\)"):
        build_clip(Weights(state, weights.architecture, "x", "x", "x"), VISION)


def test_the_embedded_backbone_is_read_from_the_package() -> None:
    tiny = load_weights("tiny")
    assert tiny.backbone == "tiny"
    assert tiny.architecture.vocab_size == 49408
    assert tiny.state["token_embedding.weight"].shape[0] == 49408


def test_read_state_wants_a_dictionary(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="must hold a dictionary of tensors, got list"):
        read_state(tmp_path / "list.pt")

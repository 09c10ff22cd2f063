"""Heads and activation are those that open_clip declares, for every model and every published weights."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from golden import recipe
from huggingface_hub import constants
from open_clip import factory, pretrained
from safetensors.torch import save_file

from acl_runtime.files.errors import InputError
from acl_train.clip import CLIP
from acl_train.config import VisionConfig
from acl_train.declared import declared_by_name, declared_by_tag
from acl_train.text import embed_texts
from acl_train.weights import (
    Weights,
    build_clip,
    load_weights,
    note_assumption,
    read_architecture,
    weights_of_open_clip,
)

SMALL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 70, "layers": 12, "width": 128, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 12},
}


def has_openai_s_shape(name: str) -> bool:
    config = open_clip.get_model_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    kinds = (
        "timm_model_name",
        "attentional_pool",
        "no_ln_pre",
        "hf_model_name",
        "hf_tokenizer_name",
        "embed_cls",
    )
    return not any(tower.get(kind) for tower in (vision, text) for kind in kinds) and isinstance(
        vision.get("layers"), int
    )


def refusal(name: str, tag: str) -> str | None:
    """What is said of published weights that are not taken."""
    try:
        declared_by_tag(name, tag)
    except InputError as error:
        return str(error)
    return None


def test_every_published_pair_is_the_declared_network_or_refused_in_a_sentence() -> None:
    accepted, refused, differing = [], [], 0
    for name, tag in open_clip.list_pretrained():
        published = pretrained.get_pretrained_cfg(name, tag)
        sentence = refusal(name, tag)
        if sentence is not None:
            assert "\n" not in sentence
            assert name in sentence
            assert not has_openai_s_shape(name) or tuple(published["mean"]) == (0.5, 0.5, 0.5), (name, tag)
            refused.append((name, tag))
            continue
        declared = declared_by_tag(name, tag)
        assert has_openai_s_shape(name)
        assert declared.quick_gelu is published.get("quick_gelu", False)
        differing += declared.quick_gelu != open_clip.get_model_config(name).get("quick_gelu", False)
        accepted.append((name, tag))
    assert ("ViT-L-14-336", "openai") in accepted
    assert ("ViT-L-14", "laion2b_s32b_b82k") in refused  # its images are normalised otherwise
    assert len(accepted) > 70
    assert len(refused) > 60
    assert differing >= 18  # which open_clip builds with the other activation


def test_every_accepted_model_has_open_clip_s_tensors_and_heads() -> None:
    """Both networks without memory: the same names and shapes, the same heads."""
    for name in {name for name, _ in open_clip.list_pretrained()}:
        if not has_openai_s_shape(name):
            continue
        with torch.device("meta"):
            model: Any = open_clip.create_model(name, pretrained=None, device="meta")
        declared = declared_by_name(name)
        assert declared is not None
        heads = declared.vision_heads, declared.text_heads
        state = model.state_dict()
        architecture = read_architecture(state, quick_gelu=declared.quick_gelu, heads=heads)
        size = architecture.vision_grid * architecture.patch_size
        with torch.device("meta"):
            mine = CLIP(architecture, VisionConfig(size, (architecture.vision_layers,), 1))
        theirs = {key: tensor.shape for key, tensor in state.items()}
        assert {key: tensor.shape for key, tensor in mine.state_dict().items()} == theirs
        blocks = model.visual.transformer.resblocks[0], model.transformer.resblocks[0]
        assert tuple(block.attn.num_heads for block in blocks) == heads


@pytest.mark.parametrize(
    ("name", "heads", "quick_gelu", "others"),
    [
        ("ViT-H-14", (16, 16), False, {"metaclip_fullcc", "dfn5b"}),
        ("ViT-g-14", (16, 16), False, set()),
        ("ViT-bigG-14", (16, 20), False, {"metaclip_fullcc"}),
        ("ViT-L-14-336", (16, 12), True, set()),  # of which only OpenAI published weights
        ("ViT-L-14-quickgelu", (16, 12), True, set()),
    ],
)
def test_a_file_s_network_is_that_of_the_named_model(
    name: str, heads: tuple[int, int], quick_gelu: bool, others: set[str]
) -> None:
    declared = declared_by_name(name)
    assert declared is not None
    assert (declared.vision_heads, declared.text_heads) == heads
    assert declared.quick_gelu is quick_gelu
    assert set(declared.others) == others


@pytest.mark.parametrize(
    ("name", "tag", "what"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", r"its images are normalised with \(0\.5, 0\.5, 0\.5\)"),
        ("ViT-L-14-CLIPA", "datacomp1b", "open_clip declares no_ln_pre True for its vision tower"),
        ("coca_ViT-L-14", "laion2b_s13b_b90k", "open_clip declares (custom_text|multimodal_cfg) for it"),
        ("ViT-B-16-SigLIP", "webli", "is not a CLIP of OpenAI's kind"),
        ("RN50", "openai", "its vision tower is no ViT"),
        ("ViT-H-14-worldwide", "metaclip2_worldwide", "declares hf_tokenizer_name"),
    ],
)
def test_other_networks_are_refused_before_anything_is_fetched(name: str, tag: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        load_weights(name, tag)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's small CLIP as OpenAI's archives are."""
    path = tmp_path_factory.mktemp("archive") / "archive.pt"
    with pytest.warns(FutureWarning):
        recipe.write_clip_jit("tiny", str(path))
    return path


@pytest.fixture
def published(tmp_path: Path, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in open_clip's lists whose weights `openai`, a QuickGELU network, are a local file."""
    path = tmp_path / "published.pt"
    path.symlink_to(clip_path)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-small", SMALL)
    tags = {"openai": pretrained._pcfg(quick_gelu=True), "laion": pretrained._pcfg()}
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-small", tags)
    monkeypatch.setattr(factory, "download_pretrained", lambda *args, **settings: str(path))
    return path


def embed(weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    clip = build_clip(weights, VisionConfig(70, (12,), 3))
    images = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return clip.visual(images)[0], embed_texts(clip, ["a photo of a bolt", "a damaged bolt"])


def test_openai_s_tag_and_the_same_weights_as_a_file_are_the_same_network(
    published: Path, archive: Path, tmp_path: Path
) -> None:
    by_tag = load_weights("ViT-small", "openai")
    assert by_tag.architecture.quick_gelu
    assert by_tag.basis == "open_clip's configuration of ViT-small openai"
    save_file(by_tag.state, tmp_path / "same.safetensors")
    files = [published, tmp_path / "same.safetensors", archive]
    for by_file in (load_weights(weights=str(file)) for file in files):
        assert by_file.sha256 == by_tag.sha256
        assert by_file.architecture == by_tag.architecture
        for mine, theirs in zip(embed(by_file), embed(by_tag), strict=True):
            assert torch.equal(mine, theirs)
    gelu = load_weights("ViT-small", "laion")  # the same file, published as a GELU network
    assert not gelu.architecture.quick_gelu
    assert not torch.allclose(embed(gelu)[0], embed(by_tag)[0], atol=1e-3)


def test_openai_s_tag_gives_what_open_clip_computes_with_quick_gelu(published: Path) -> None:
    model: Any = open_clip.create_model("ViT-small", pretrained=str(published), force_quick_gelu=True).eval()
    *_, texts = embed(load_weights("ViT-small", "openai"))
    tokens = open_clip.tokenize(["a photo of a bolt", "a damaged bolt"])
    with torch.no_grad():
        torch.testing.assert_close(texts, F.normalize(model.encode_text(tokens), dim=-1), atol=1e-5, rtol=0)
    plain = open_clip.create_model("ViT-small", pretrained=str(published))  # the module has GELU
    assert weights_of_open_clip(plain, "ViT-small", "openai").architecture.quick_gelu


def test_a_failed_download_says_what_to_do(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **settings: Any) -> str:
        raise FileNotFoundError("Failed to download file (x) for y. Last error: no route to host.")

    monkeypatch.setattr(factory, "download_pretrained", fail)
    with pytest.raises(
        InputError,
        match=r"could not load ViT-small openai .*fetch it from .* with --weights FILE",
    ):
        load_weights("ViT-small", "openai")


def test_without_a_network_the_hub_is_given_up_in_seconds_and_what_was_fetched_before_is_used(
    clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-small", SMALL)
    tags = {"openai": pretrained._pcfg(hf_hub="someone/small/", quick_gelu=True)}
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-small", tags)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    started = time.monotonic()
    with pytest.raises(InputError, match="fetch it from the Hugging Face repository someone/small and pass"):
        load_weights("ViT-small", "openai")
    assert time.monotonic() - started < 10
    repository = tmp_path / "models--someone--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / "open_clip_pytorch_model.bin").symlink_to(clip_path)
    assert load_weights("ViT-small", "openai").sha256 == load_weights(weights=str(clip_path)).sha256


def test_an_assumed_activation_is_told(
    published: Path, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "acl")
    assumed = load_weights(weights=str(published))
    assert assumed.architecture.quick_gelu
    note_assumption(assumed)
    assert "QuickGELU is assumed, as OpenAI's weights have it; pass --gelu" in caplog.text
    caplog.clear()
    assert not load_weights("ViT-small", str(published)).architecture.quick_gelu
    assert "GELU is assumed for ViT-small; pass --quick-gelu if these are the weights openai" in caplog.text
    caplog.clear()
    chosen = load_weights("ViT-small", "openai", quick_gelu=False)
    assert not chosen.architecture.quick_gelu
    assert "run with GELU, though open_clip's configuration of ViT-small openai says QuickGELU" in caplog.text
    assert chosen.basis.endswith("; activation as chosen")
    caplog.clear()
    assert load_weights("ViT-small", str(archive)).architecture.quick_gelu
    assert caplog.text == ""


def wide(weights: Weights, width: int) -> dict[str, torch.Tensor]:
    """Weights whose vision tower has another width, in the tensors that tell it."""
    return weights.state | {"visual.conv1.weight": torch.zeros(width, 3, 14, 14)}


@pytest.mark.parametrize("width", [1280, 1408, 1664, 1792, 100])
def test_heads_of_unknown_widths_are_not_guessed(weights: Weights, width: int) -> None:
    with pytest.raises(InputError, match=f"of width {width} cannot be told from the file; pass --backbone"):
        read_architecture(wide(weights, width), quick_gelu=True)
    told = read_architecture(wide(weights, width), quick_gelu=True, heads=(16, 2))
    assert told.vision_heads == 16


def test_every_known_width_that_is_taken_has_heads_of_64() -> None:
    widths = set()
    for name in filter(has_openai_s_shape, open_clip.list_models()):
        vision, text = (open_clip.get_model_config(name)[f"{side}_cfg"] for side in ("vision", "text"))
        if vision["width"] <= 1024:
            assert vision.get("head_width", 64) == 64
            assert text["width"] == 64 * text["heads"]
            widths.add(vision["width"])
    assert widths >= {768, 896, 1024}


def test_a_named_backbone_must_have_the_file_s_sizes(published: Path) -> None:
    with pytest.raises(InputError, match=r"embed_dim of ViT-H-14 must be 1024, got 64; name the backbone"):
        load_weights("ViT-H-14", str(published))


def test_an_mlp_of_another_width_is_read_off_the_file(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ViT-g and ViT-bigG."""
    vision = SMALL["vision_cfg"] | {"mlp_ratio": 2.5, "layers": 2, "head_width": 32}
    config = json.loads(json.dumps(SMALL | {"vision_cfg": vision}))
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-odd", config)
    model: Any = open_clip.create_model("ViT-odd", pretrained=None).eval()
    save_file(
        {name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "odd.safetensors"
    )
    loaded = load_weights("ViT-odd", str(tmp_path / "odd.safetensors"))
    assert (loaded.architecture.vision_hidden, loaded.architecture.vision_heads) == (320, 4)
    clip, images = build_clip(loaded, VisionConfig(70, (2,), 3)), torch.randn(1, 3, 70, 70)
    with torch.no_grad():
        *_, (ordinary, _) = clip.visual.paths(clip.visual.embed(images))
        pooled = clip.visual.ln_post(ordinary[:, 0]) @ clip.visual.proj
        torch.testing.assert_close(pooled, model.encode_image(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_refused(weights: Weights, tmp_path: Path, value: float) -> None:
    broken = weights.state["visual.proj"].clone()
    broken[3, 5] = value
    save_file(weights.state | {"visual.proj": broken}, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match=r"broken\.safetensors: visual\.proj holds NaN or infinity"):
        load_weights(weights=str(tmp_path / "broken.safetensors"))

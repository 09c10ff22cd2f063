"""The cache of the frozen tower's outputs."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LAYERS, MINI, VV_FROM

from acl_train import features
from acl_train.clip import CLIP
from acl_train.config import VisionConfig
from acl_train.features import Features, cached_features, encode_images, load_images
from acl_train.weights import Weights, build_clip

PATHS = sorted(MINI.glob("*/test/*/*.png"))
ALL = torch.arange(len(PATHS))


@pytest.fixture
def clip(weights: Weights) -> CLIP:
    return build_clip(weights, VisionConfig(70, LAYERS, VV_FROM))


def compute(clip: CLIP, cache: Path, *, half: bool = True, weights_sha256: str = "w") -> Features:
    return cached_features(clip, PATHS, weights_sha256=weights_sha256, cache=cache, half=half)


def test_an_fp32_cache_holds_exactly_what_the_tower_gives(clip: CLIP, tmp_path: Path) -> None:
    cached = compute(clip, tmp_path, half=False).batch(ALL)
    for start in range(0, len(PATHS), features.ENCODE_BATCH):  # the same batches: sums may differ in others
        rows = slice(start, start + features.ENCODE_BATCH)
        direct = encode_images(clip, load_images(PATHS[rows], image_size=70))
        for mine, theirs in zip(cached, direct, strict=True):
            assert torch.equal(mine[rows], theirs)


def test_an_fp16_cache_is_within_rounding(clip: CLIP, tmp_path: Path) -> None:
    full, half = (compute(clip, tmp_path, half=half).batch(ALL) for half in (False, True))
    for mine, theirs in zip(half, full, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2**-12, rtol=2**-11)


def test_a_second_call_reads_and_does_not_encode(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compute(clip, tmp_path)
    monkeypatch.setattr(features, "encode_images", None)
    np.testing.assert_array_equal(compute(clip, tmp_path).patch_embeddings, first.patch_embeddings)


def test_an_interrupted_call_goes_on_where_it_stopped(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(clip: CLIP, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_images(clip, images)

    monkeypatch.setattr(features, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(clip, tmp_path / "a", half=False)
    with next((tmp_path / "a").glob("*/patch_embeddings.*.partial")).open("ab") as file:
        file.write(b"half a record")
    after = compute(clip, tmp_path / "a", half=False)
    assert calls == [8, 8, 8, 2]  # the first eight of 18 were not encoded again
    straight = compute(clip, tmp_path / "b", half=False)
    np.testing.assert_array_equal(after.patch_embeddings, straight.patch_embeddings)


def test_other_weights_settings_precision_or_images_are_another_cache(
    weights: Weights, clip: CLIP, tmp_path: Path
) -> None:
    compute(clip, tmp_path)
    compute(clip, tmp_path, weights_sha256="others")
    compute(clip, tmp_path, half=False)
    compute(build_clip(weights, VisionConfig(70, (12,), VV_FROM)), tmp_path)
    copy = tmp_path / "copy.png"
    shutil.copy(PATHS[0], copy)
    cached_features(clip, [copy], weights_sha256="w", cache=tmp_path)
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 5
    cached_features(clip, PATHS[:1], weights_sha256="w", cache=tmp_path)  # the same bytes elsewhere
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 5


def test_a_disk_without_room_is_told_before_the_work(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(OSError, match="cache needs .* MB and the disk has 0.0; pass --cache DIR"):
        compute(clip, tmp_path)

"""The cache of the frozen tower's outputs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LAYERS, MINI, VV_FROM
from PIL import Image

from acl_runtime.data.datasets import read_dataset
from acl_runtime.images.decode import ReadSettings
from acl_train import features
from acl_train.cache_files import ENCODE_BATCH
from acl_train.clip import CLIP
from acl_train.config import VisionConfig
from acl_train.features import Features, cached_features, encode_images, load_images
from acl_train.weights import Weights, build_clip

SAMPLES = read_dataset(MINI).samples
ALL = torch.arange(len(SAMPLES))


@pytest.fixture
def clip(weights: Weights) -> CLIP:
    return build_clip(weights, VisionConfig(70, LAYERS, VV_FROM))


def compute(clip: CLIP, cache: Path, *, half: bool = True, weights_sha256: str = "w") -> Features:
    return cached_features(clip, SAMPLES, weights_sha256=weights_sha256, cache=cache, half=half)


def test_an_fp32_cache_holds_exactly_what_the_tower_gives(clip: CLIP, tmp_path: Path) -> None:
    cached = compute(clip, tmp_path, half=False).batch(ALL)
    for start in range(0, len(SAMPLES), ENCODE_BATCH):  # the same batches: sums may differ in others
        rows = slice(start, start + ENCODE_BATCH)
        direct = encode_images(clip, load_images(SAMPLES[rows], image_size=70))
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
    shutil.copy(SAMPLES[0].path, copy)
    cached_features(clip, [replace(SAMPLES[0], path=copy)], weights_sha256="w", cache=tmp_path)
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 5
    cached_features(clip, SAMPLES[:1], weights_sha256="w", cache=tmp_path)  # the same bytes elsewhere
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 5
    reading = ReadSettings(exif=True)
    cached_features(clip, SAMPLES[:1], weights_sha256="w", cache=tmp_path, reading=reading)
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 6


def test_twelve_bits_in_sixteen_are_spread_where_that_is_asked(tmp_path: Path) -> None:
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    sample = replace(SAMPLES[0], path=tmp_path / "a.png")
    dark = load_images([sample], image_size=64)
    spread = load_images([sample], image_size=64, reading=ReadSettings(bits=12))
    assert (dark.max(), spread.max()) == (15, 255)


def test_a_disk_without_room_is_told_before_the_work(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(OSError, match="cache needs .* MB and the disk has 0.0; pass --cache DIR"):
        compute(clip, tmp_path)


def test_the_name_of_the_cache_of_whole_pictures_is_what_it_was(clip: CLIP, tmp_path: Path) -> None:
    compute(clip, tmp_path)
    identity = {
        "weights": "w",
        "quick_gelu": clip.architecture.quick_gelu,
        "vision": {k: v for k, v in asdict(clip.visual.config).items() if k != "class_layers"},
        "dtype": "float16",
        "images": [hashlib.sha256(sample.path.read_bytes()).hexdigest() for sample in SAMPLES],
    }
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_two_halves_of_a_picture_are_two_pictures(clip: CLIP, tmp_path: Path) -> None:
    halves = [replace(SAMPLES[0], rows=rows) for rows in ((0, 30), (30, 61))]
    cached = cached_features(clip, halves, weights_sha256="w", cache=tmp_path / "c", half=False)
    whole = np.asarray(Image.open(SAMPLES[0].path))
    for row, half in enumerate(halves):
        assert half.rows is not None
        file = tmp_path / f"{row}.png"
        Image.fromarray(whole[slice(*half.rows)]).save(file)
        images = load_images([replace(SAMPLES[0], path=file)], image_size=70)
        np.testing.assert_array_equal(load_images([half], image_size=70), images)
        alone = cached_features(clip, [half], weights_sha256="w", cache=tmp_path / "c", half=False)
        np.testing.assert_allclose(alone.image_embeddings[0], cached.image_embeddings[row], atol=1e-5)
    assert len(list((tmp_path / "c").iterdir())) == 3
    assert not np.allclose(cached.image_embeddings[0], cached.image_embeddings[1], atol=1e-3)


def damaged(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(next(folder.glob(f"*/{name}")))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def repeat_the_first_records(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] * 2)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("patch_embeddings.float16", cut_short, "has [0-9,]+ bytes, not [0-9,]+"),
        ("patch_embeddings.float16", repeat_the_first_records, "is not what was written"),
        ("image_embeddings.float16", repeat_the_first_records, "is not what was written"),
        ("features.json", Path.unlink, "has no record of its bytes"),
        ("features.json", cut_short, "has no record of its bytes"),
    ],
)
def test_a_cache_that_is_not_what_was_written_is_computed_again(
    clip: CLIP,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], object],
    words: str,
) -> None:
    right = np.array(compute(clip, tmp_path).patch_embeddings)
    damaged(tmp_path, name, damage)
    np.testing.assert_array_equal(compute(clip, tmp_path).patch_embeddings, right)
    assert re.search(
        rf"{tmp_path}/\w+: the feature cache is damaged \(.*{words}.*; it is computed again", caplog.text
    )
    caplog.clear()
    compute(clip, tmp_path)
    assert caplog.text == ""


def test_what_an_interrupted_call_left_is_checked_too(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = np.array(compute(clip, tmp_path / "a").patch_embeddings)

    def interrupted(clip: CLIP, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if list((tmp_path / "b").glob("*/features.json")):
            raise KeyboardInterrupt
        return encode_images(clip, images)

    monkeypatch.setattr(features, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(clip, tmp_path / "b")
    monkeypatch.undo()
    damaged(tmp_path / "b", "patch_embeddings.float16.partial", repeat_the_first_records)
    np.testing.assert_array_equal(compute(clip, tmp_path / "b").patch_embeddings, right)
    assert "what was encoded before is not as it was written" in caplog.text


def test_two_calls_at_once_compute_once(clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(clip: CLIP, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(images))
        return encode_images(clip, images)

    monkeypatch.setattr(features, "encode_images", counted)
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(compute, clip, tmp_path) for _ in range(3)]
        arrays = [np.array(result.result().patch_embeddings) for result in results]
    assert calls == [8, 8, 2]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    np.testing.assert_array_equal(arrays[0], arrays[2])

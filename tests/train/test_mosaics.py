"""Mosaics: four pictures of one product in one, with their masks where they are, encoded once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MINI

from acl_runtime.data.datasets import Sample, load_mask, load_sample, read_dataset
from acl_runtime.files.errors import InputError
from acl_runtime.images.preprocess import preprocess
from acl_train.config import VisionConfig
from acl_train.features import cached_features, load_images
from acl_train.mosaics import Mosaic, draw_mosaics, load_picture, load_picture_mask
from acl_train.weights import Weights, build_clip

SAMPLES = read_dataset(MINI).samples


def test_a_quarter_is_the_picture_and_its_mask_at_half_the_size() -> None:
    mosaic = draw_mosaics(SAMPLES, 1, seed=3)[0]
    image = load_picture(mosaic, image_size=70)
    mask = load_picture_mask(mosaic, image_size=70)
    assert (image.shape, mask.shape) == ((70, 70, 3), (70, 70))
    for number, (top, left) in enumerate([(0, 0), (0, 35), (35, 0), (35, 35)]):
        sample, place = mosaic.samples[number], (slice(top, top + 35), slice(left, left + 35))
        np.testing.assert_array_equal(image[place], preprocess([load_sample(sample)], image_size=35)[0])
        np.testing.assert_array_equal(mask[place], load_mask(sample, height=35, width=35))
    assert mask.any() == bool(mosaic.label)


def test_an_odd_side_has_no_seam() -> None:
    mosaic = draw_mosaics(SAMPLES, 1, seed=3)[0]
    image = load_picture(mosaic, image_size=71)
    assert image.shape == (71, 71, 3)
    whole = preprocess([load_sample(mosaic.samples[3])], image_size=36)[0]
    np.testing.assert_array_equal(image[35:, 35:], whole)


def test_mosaics_are_of_one_product_and_every_second_of_good_parts_alone() -> None:
    mosaics = draw_mosaics(SAMPLES, 12, seed=1)
    assert mosaics == draw_mosaics(SAMPLES, 12, seed=1)
    assert mosaics != draw_mosaics(SAMPLES, 12, seed=2)
    for mosaic in mosaics:
        assert len({sample.category for sample in mosaic.samples}) == 1
        assert len(set(mosaic.samples)) == 4 or not mosaic.label  # good ones are too few, and come again
    assert [mosaic.label for mosaic in mosaics] == [
        1,
        1,
        1,
        0,
        0,
        0,
    ] * 2  # three products have three good each


def test_three_pictures_make_no_mosaic() -> None:
    assert draw_mosaics(SAMPLES[:3], 0, seed=1) == []
    with pytest.raises(InputError, match="need 4 pictures of one product"):
        draw_mosaics(SAMPLES[:3], 1, seed=1)


def test_the_cache_knows_a_mosaic_by_its_pictures(weights: Weights, tmp_path: Path) -> None:
    clip = build_clip(weights, VisionConfig(28, (12,), 13))
    mosaic = draw_mosaics(SAMPLES, 1, seed=3)[0]
    turned = Mosaic(mosaic.samples[::-1])

    def compute(pictures: list[Sample | Mosaic]) -> np.ndarray:
        features = cached_features(clip, pictures, weights_sha256="x", cache=tmp_path, half=False)
        return np.array(features.image_embeddings)

    first = compute([mosaic, SAMPLES[0]])
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(compute([mosaic, SAMPLES[0]]), first)
    assert len(list(tmp_path.iterdir())) == 1
    assert np.abs(compute([turned, SAMPLES[0]])[0] - first[0]).max() > 1e-4
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(
        load_images([mosaic], image_size=28)[0], load_picture(mosaic, image_size=28)
    )

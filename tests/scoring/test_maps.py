"""The map operator equals torch's up-sampling followed by scipy's Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from acl_runtime.scoring.maps import map_operator, patches_to_map, sigmoid

SIZES = [(37, 518), (7, 98), (5, 70), (28, 224), (2, 8), (1, 3), (9, 4)]  # (2, 8): smaller than the blur


def published_map(patches: np.ndarray, image_size: int, sigma: float) -> np.ndarray:
    tensor = torch.from_numpy(patches)[None, None]
    pixels = torch.nn.functional.interpolate(tensor, (image_size, image_size), mode="bilinear")[0, 0].numpy()
    return np.asarray(gaussian_filter(pixels, sigma=sigma)) if sigma else pixels


@pytest.mark.parametrize(("grid", "image_size"), SIZES)
@pytest.mark.parametrize("sigma", [4.0, 1.5, 0.0])
def test_the_operator_is_upsampling_then_blur(grid: int, image_size: int, sigma: float) -> None:
    patches = np.random.default_rng(0).random((grid, grid))
    operator = map_operator(grid, image_size, sigma)
    actual = operator @ patches @ operator.T
    np.testing.assert_allclose(actual, published_map(patches, image_size, sigma), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("grid", "image_size"), SIZES)
def test_a_map_is_the_mean_over_layers_of_the_published_maps(grid: int, image_size: int) -> None:
    logits = np.random.default_rng(1).normal(scale=4, size=(3, grid, grid)).astype(np.float32)
    probabilities = torch.softmax(torch.from_numpy(np.stack([np.zeros_like(logits), logits])), 0)[1].numpy()
    expected = np.mean([published_map(layer, image_size, 4.0) for layer in probabilities], axis=0)
    actual = patches_to_map(logits, image_size=image_size, blur_sigma=4.0)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-6)


def test_a_batch_is_its_frames_one_by_one() -> None:
    logits = np.random.default_rng(2).normal(size=(4, 2, 5, 5)).astype(np.float32)
    batch = patches_to_map(logits, image_size=20, blur_sigma=4.0)
    single = [patches_to_map(frame, image_size=20, blur_sigma=4.0) for frame in logits]
    np.testing.assert_allclose(batch, single, rtol=0, atol=1e-6)


@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_maps_stay_between_zero_and_one(logit: float) -> None:
    actual = patches_to_map(np.full((1, 37, 37), logit, np.float32), image_size=518, blur_sigma=4.0)
    assert actual.min() >= 0
    assert actual.max() <= 1


def test_the_operator_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        map_operator(5, 70, 4.0)[0, 0] = 1


def test_sigmoid_of_the_difference_is_two_class_softmax() -> None:
    normal, anomalous = np.random.default_rng(0).normal(size=(2, 37, 37))
    softmax = np.exp(anomalous) / (np.exp(normal) + np.exp(anomalous))
    np.testing.assert_allclose(sigmoid(anomalous - normal), softmax)


def test_sigmoid_keeps_small_probabilities_apart() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-60, -50], np.float32)), np.exp([-60, -50]), rtol=1e-5)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 1e4], np.float32)), [0, 1])


def test_map_says_what_shape_it_wanted() -> None:
    with pytest.raises(ValueError, match=r"must be \(\[batch,\] layers, grid, grid\), got \(37, 37\)"):
        patches_to_map(np.zeros((37, 37), np.float32), image_size=518, blur_sigma=4.0)


def test_the_operator_refuses_what_is_no_size() -> None:
    with pytest.raises(ValueError, match="grid and image_size must be positive, got 0 and 8"):
        map_operator(0, 8, 4.0)
    with pytest.raises(ValueError, match="blur_sigma must be finite and not negative, got nan"):
        map_operator(2, 8, float("nan"))

"""Brightness and sharpness move with light and focus, and hardly with anything else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from acl_runtime.images.appearance import measure_appearance


def textured(height: int = 300, width: int = 400, *, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: noise of several scales around mid-grey."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(size=(height // k, width // k, 3)), (width, height)) for k in (1, 4, 16)]
    return np.asarray(np.clip(120 + 15 * np.sum(layers, axis=0), 0, 255), np.uint8)


def test_a_plain_frame_has_its_grey_level_and_no_detail() -> None:
    appearance = measure_appearance(np.full((50, 70), 51, np.uint8))
    assert appearance.brightness == pytest.approx(0.2)
    assert appearance.sharpness == 0


def test_another_part_of_the_same_kind_looks_the_same() -> None:
    first, second = (measure_appearance(textured(seed=seed)) for seed in (0, 1))
    assert second.brightness == pytest.approx(first.brightness, rel=0.02)
    assert second.sharpness == pytest.approx(first.sharpness, rel=0.03)


def test_less_light_is_darker_and_as_sharp() -> None:
    bright, dark = measure_appearance(textured()), measure_appearance((textured() * 0.7).astype(np.uint8))
    assert dark.brightness == pytest.approx(0.7 * bright.brightness, rel=0.02)
    assert dark.sharpness == pytest.approx(bright.sharpness, rel=0.05)


def test_out_of_focus_is_less_sharp_and_as_bright() -> None:
    sharp, soft = (
        measure_appearance(textured()),
        measure_appearance(cv2.GaussianBlur(textured(), (0, 0), 1.5)),
    )
    assert soft.brightness == pytest.approx(sharp.brightness, rel=0.01)
    assert soft.sharpness < 0.5 * sharp.sharpness


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (96, 96, 3), (97, 95, 4), (2000, 40, 3), (1080, 1920)])
def test_every_frame_that_the_detector_takes_can_be_measured(shape: tuple[int, ...]) -> None:
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        assert measure_appearance(np.full(shape, white, dtype)).brightness == 1


def test_grey_and_colour_of_one_picture_look_the_same() -> None:
    grey = textured()[:, :, 0]
    assert measure_appearance(np.dstack([grey, grey, grey])) == measure_appearance(grey)

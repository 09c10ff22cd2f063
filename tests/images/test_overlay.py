"""Overlays show defects and leave good parts alone."""

from __future__ import annotations

import numpy as np
import pytest

from acl_runtime.images.overlay import colorize, overlay
from acl_runtime.scoring.regions import Region


def grey_frame() -> np.ndarray:
    return np.full((60, 80, 3), 128, np.uint8)


def test_the_colour_scale_is_absolute() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    np.testing.assert_array_equal(colorize(ramp)[:, 40:50], colorize(ramp[:, 40:50]))


def test_hotter_is_redder_and_cold_is_dark() -> None:
    cold, hot = colorize(np.array([[0, 0.9]], np.float32))[0].astype(int)
    assert cold.sum() < 150
    assert hot[2] > hot[0] + 100


@pytest.mark.parametrize("level", [0.0, 0.1, 0.25])
def test_a_good_part_looks_like_itself(level: float) -> None:
    anomaly_map = np.full((28, 28), level, np.float32)
    np.testing.assert_array_equal(overlay(grey_frame(), anomaly_map, map_threshold=0.5), grey_frame())


def test_a_defect_is_coloured_where_it_is() -> None:
    anomaly_map = np.zeros((28, 28), np.float32)
    anomaly_map[:, 14:] = 0.9
    picture = overlay(grey_frame(), anomaly_map, map_threshold=0.5).astype(int)
    np.testing.assert_array_equal(picture[:, :30], 128)
    assert (picture[:, 50:, 2] > picture[:, 50:, 0] + 50).all()


def test_boxes_and_the_verdict_are_drawn() -> None:
    anomaly_map = np.zeros((28, 28), np.float32)
    region = Region(x=40, y=30, width=20, height=10, area=200, peak=0.9)
    boxed = overlay(grey_frame(), anomaly_map, [region], map_threshold=0.5)
    assert (boxed[30, 40:60] != 128).any(axis=1).all()
    np.testing.assert_array_equal(boxed[32:38, 42:58], 128)
    labelled = overlay(grey_frame(), anomaly_map, map_threshold=0.5, score=0.93, is_anomalous=True)
    assert labelled[0, 0, 2] > labelled[0, 0, 1] + 100  # red for NG


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 4), (3, 2, 3)])
def test_any_frame_gives_a_bgr_picture_of_its_size(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint16)
    picture = overlay(frame, np.ones((28, 28), np.float32), map_threshold=0.0, score=1.0)
    assert picture.shape == (*shape[:2], 3)
    assert picture.dtype == np.uint8


def test_the_frame_is_not_changed() -> None:
    frame = grey_frame()
    overlay(frame, np.ones((28, 28), np.float32), map_threshold=0.5, score=1.0)
    np.testing.assert_array_equal(frame, grey_frame())

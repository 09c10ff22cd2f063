"""Overlays show defects and leave good parts alone."""

from __future__ import annotations

import numpy as np
import pytest

from acl_runtime.images.overlay import colorize, label, overlay, scale_map
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


def test_boxes_are_drawn() -> None:
    anomaly_map = np.zeros((28, 28), np.float32)
    region = Region(x=40, y=30, width=20, height=10, area=200, peak=0.9)
    boxed = overlay(grey_frame(), anomaly_map, [region], map_threshold=0.5)
    assert (boxed[30, 40:60] != 128).any(axis=1).all()
    np.testing.assert_array_equal(boxed[32:38, 42:58], 128)


@pytest.mark.parametrize("peak", [0.02, 0.3, 0.9])
def test_on_an_anomalous_part_the_hottest_place_is_to_be_seen_however_cold_it_is(peak: float) -> None:
    anomaly_map = np.zeros((28, 28), np.float32)
    anomaly_map[10:18, 14:] = peak
    good = overlay(grey_frame(), anomaly_map, map_threshold=0.9999)
    picture = overlay(grey_frame(), anomaly_map, map_threshold=0.9999, is_anomalous=True).astype(int)
    np.testing.assert_array_equal(picture[:, :30], 128)
    assert (np.abs(picture[28:32, 50:] - 128).max(axis=2) > 20).all()
    if peak < 0.49:
        np.testing.assert_array_equal(good, grey_frame())


def test_heat_has_the_same_colour_whatever_else_is_on_the_frame() -> None:
    anomaly_map = np.zeros((60, 80), np.float32)
    anomaly_map[20:40, 60:] = 0.6
    both = anomaly_map.copy()
    both[20:40, :20] = 0.95
    pictures = [
        overlay(grey_frame(), each, map_threshold=0.5, is_anomalous=True) for each in (anomaly_map, both)
    ]
    np.testing.assert_array_equal(pictures[0][25:35, 65:75], pictures[1][25:35, 65:75])


@pytest.mark.parametrize("width", [6, 80, 1800])
def test_the_label_covers_nothing_of_the_picture(width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, width, 3), dtype=np.uint8)
    labelled = label(picture, "NG 0.930 peak 0.200 by score", is_anomalous=True)
    strip = labelled.shape[0] - 60
    np.testing.assert_array_equal(labelled[strip:, :width], picture)
    assert labelled[0, 0, 2] > labelled[0, 0, 1] + 100  # red for NG
    assert (labelled[:strip].min(axis=2) > 200).any()  # and white letters
    assert not labelled[strip:, width:].any()
    good = label(picture, "OK 0.030", is_anomalous=False)
    assert good[0, 0, 1] > good[0, 0, 2] + 50  # green


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 4), (3, 2, 3)])
def test_any_frame_gives_a_bgr_picture_of_its_size(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint16)
    picture = overlay(frame, np.ones((28, 28), np.float32), map_threshold=0.0, is_anomalous=True)
    assert picture.shape == (*shape[:2], 3)
    assert picture.dtype == np.uint8


def test_the_frame_is_not_changed() -> None:
    frame = grey_frame()
    overlay(frame, np.ones((28, 28), np.float32), map_threshold=0.5)
    np.testing.assert_array_equal(frame, grey_frame())


def test_a_map_is_scaled_to_where_its_values_are_seen() -> None:
    anomaly_map = np.zeros((28, 28), np.float32)
    anomaly_map[7, 21] = 1
    scaled = scale_map(anomaly_map, np.zeros((280, 560, 3), np.uint8))
    assert scaled.shape == (280, 560)
    assert scaled.dtype == np.float32
    assert scaled[75, 430] > 0.9
    assert scaled[60, 430] == 0

"""Regions are the connected parts of the map, in frame pixels."""

from __future__ import annotations

import time

import numpy as np
from scipy.ndimage import label

from acl_runtime.scoring.regions import Region, find_regions


def measure(anomaly_map: np.ndarray, inside: np.ndarray) -> Region:
    rows, columns = np.nonzero(inside)
    x, y = int(columns.min()), int(rows.min())
    width, height = int(columns.max()) - x + 1, int(rows.max()) - y + 1
    return Region(x=x, y=y, width=width, height=height, area=len(rows), peak=float(anomaly_map[inside].max()))


def test_they_are_the_eight_connected_parts_at_the_threshold() -> None:
    blocks = np.random.default_rng(3).random((20, 20)).astype(np.float32)
    threshold = float(np.sort(blocks, axis=None)[300])  # a value of the map itself: it belongs to a region
    anomaly_map = np.kron(blocks, np.ones((3, 3), np.float32))  # corners touch
    labels, count = label(anomaly_map >= threshold, structure=np.ones((3, 3)))
    expected = {measure(anomaly_map, labels == number) for number in range(1, count + 1)}
    found = find_regions(anomaly_map, threshold=threshold, frame_width=60, frame_height=60)
    assert set(found) == expected
    assert len(found) == len(expected) > 3
    assert [region.peak for region in found] == sorted((region.peak for region in found), reverse=True)


def test_boxes_and_areas_are_in_frame_pixels() -> None:
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[2:4, 5:8] = 0.75  # rows 2 and 3, columns 5 to 7
    found = find_regions(anomaly_map, threshold=0.5, frame_width=200, frame_height=50)
    assert found == (Region(x=100, y=10, width=60, height=10, area=600, peak=0.75),)


def test_a_box_is_rounded_outwards_and_stays_in_the_frame() -> None:
    anomaly_map = np.zeros((7, 7), np.float32)
    anomaly_map[6, 6] = 1
    found = find_regions(anomaly_map, threshold=0.5, frame_width=3, frame_height=100)
    assert found == (Region(x=2, y=85, width=1, height=15, area=6, peak=1.0),)


def test_a_good_part_has_none() -> None:
    assert find_regions(np.zeros((9, 9), np.float32), threshold=0.5, frame_width=9, frame_height=9) == ()


def test_thousands_of_regions_take_no_time() -> None:
    anomaly_map = np.zeros((518, 518), np.float32)
    anomaly_map[::3, ::3] = np.random.default_rng(0).uniform(0.5, 1, (173, 173))
    started = time.perf_counter()
    found = find_regions(anomaly_map, threshold=0.5, frame_width=4096, frame_height=3000)
    assert len(found) == 173 * 173
    assert time.perf_counter() - started < 2  # a scan per region would take minutes

"""Regions of an endless map: the same whatever the cutting, merged over seams, and never more than can be held."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from acl_runtime.web.regions import Levels, Region, WebRegions

ALL = Levels(region=0.5, peak=0.0)  # every region is a defect
Map = npt.NDArray[np.float32]


def run(
    web: Map, heights: list[int], *, levels: Levels = ALL, longest: int = 10**9, most: int = 10**9
) -> list[Region]:
    """All regions of a map that is cut into stretches of these heights, over and over."""
    regions, told, at, turn = WebRegions(web.shape[1], levels, longest=longest, most=most), [], 0, 0
    while at < len(web):
        lines = web[at : at + heights[turn % len(heights)]]
        told += regions.add(lines)[1]
        at, turn = at + len(lines), turn + 1
    return told + regions.begin(0)


def key(region: Region) -> tuple[object, ...]:
    box = (region.first, region.stop, region.left, region.right)
    return (*box, region.area, region.peak, region.peak_at)


def draw(rng: np.random.Generator) -> Map:
    height, width = int(rng.integers(1, 120)), int(rng.integers(1, 60))
    noise = rng.random((height, width)).astype(np.float32)
    if sigma := float(rng.choice([0, 0.7, 1.5])):
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), np.float32)
    level = np.float32(np.quantile(noise, rng.uniform(0.4, 0.95)))
    return np.asarray(noise - level + np.float32(0.5), np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_any_cutting_gives_the_regions_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    web = draw(rng)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((web >= 0.5).view(np.uint8), connectivity=8)
    truth = [
        (y, y + height, x, x + width, area, float(web[labels == label].max()))
        for label, (x, y, width, height, area) in enumerate(stats.tolist())
        if label
    ]
    for heights in ([len(web)], [1], rng.integers(1, 20, 7).tolist(), rng.integers(1, 50, 5).tolist()):
        found = run(web, heights)
        assert sorted(key(region)[:-1] for region in found) == sorted(truth)
        assert all(web[region.peak_at] == region.peak for region in found)
        assert sorted(map(key, found)) == sorted(map(key, run(web, [len(web)])))
    assert count == 1 + len(truth)


def test_regions_that_meet_below_are_one_with_the_smallest_number_and_tell_the_other() -> None:
    web = np.zeros((9, 9), np.float32)
    web[0:6, 1] = web[2:6, 7] = web[6, 1:8] = 1
    regions = WebRegions(9, ALL, longest=100, most=100)
    began = [each.number for line in web for each in regions.add(line[None])[0]]
    assert began == [1, 2]
    regions = WebRegions(9, ALL, longest=100, most=100)
    ended = [each for line in web for each in regions.add(line[None])[1]]
    assert [(each.number, each.joined, each.area) for each in ended] == [(1, (2,), 17)]


def test_corners_touch_over_a_seam() -> None:
    web = np.eye(12, dtype=np.float32)
    assert len(run(web, [1])) == len(run(web[:, ::-1].copy(), [5])) == 1


@pytest.mark.parametrize("height", [1, 7, 64, 200])
def test_a_long_one_is_told_in_parts_that_join(height: int) -> None:
    web = np.zeros((1200, 100), np.float32)
    web[100:1100, 40:43] = 0.9
    parts = run(web, [height], longest=200)
    assert [each.part for each in parts] == list(range(1, len(parts) + 1))
    assert {each.number for each in parts} == {1}
    assert (parts[0].first, parts[-1].stop) == (100, 1100)
    assert all(a.stop == b.first and a.continues for a, b in itertools.pairwise(parts))
    assert not parts[-1].continues
    assert sum(each.area for each in parts) == 1000 * 3
    assert max(each.stop - each.first for each in parts) < 200 + height


def test_one_that_ends_where_a_part_would_does_not_continue() -> None:
    web = np.zeros((60, 9), np.float32)
    web[:40, 4] = 0.9
    (only,) = run(web, [20], longest=40)
    assert (only.stop, only.part, only.continues) == (40, 1, False)


def test_what_has_begun_stays_a_defect_though_its_rest_is_weaker() -> None:
    web = np.full((80, 5), 0.6, np.float32)
    web[3, 3] = 0.9
    parts = run(web, [10], levels=Levels(region=0.5, peak=0.8), longest=20)
    assert [(each.first, each.stop, each.number, each.part) for each in parts] == [
        (first, first + 20, 1, part) for part, first in enumerate(range(0, 80, 20), start=1)
    ]


def test_a_region_below_the_peak_is_no_defect_and_a_marked_one_is() -> None:
    web = np.zeros((20, 20), np.float32)
    web[2:5, 2:5], web[10:13, 10:13] = 0.6, 0.7
    marked = np.zeros((20, 20), np.bool_)
    marked[17, 17] = True
    regions = WebRegions(20, Levels(region=0.5, peak=0.65), longest=100, most=100)
    began, ended = regions.add(web, marked=marked)
    assert [(each.number, each.first) for each in began] == [(1, 10), (2, 17)]
    assert [(each.peak, each.is_marked) for each in ended + regions.begin(0)] == [
        (pytest.approx(0.7), False),
        (0.0, True),
    ]


def test_more_than_anybody_could_look_at_is_one_flood_and_what_is_open_stays_bounded() -> None:
    rng = np.random.default_rng(0)
    regions, told = WebRegions(400, ALL, longest=10**9, most=50), []
    for _ in range(50):
        noise = rng.random((30, 400)).astype(np.float32)
        noise[noise < 0.9] = 0
        told += regions.add(noise)[1]
        assert regions.open <= 50
    calm, flood = regions.add(np.zeros((5, 400), np.float32))[1], None
    flood = [each for each in told + calm if each.is_flood]
    assert flood
    assert len(told + calm) <= 50
    assert sum(each.area for each in told + calm) > 50 * 30 * 400 * 0.09


def test_a_threshold_between_two_float32_means_the_same_in_a_quiet_and_a_busy_stretch() -> None:
    """0.7 is above the float32 next to it: `find_regions` takes that for hot, and so must the quick look."""
    web = np.full((2, 3), 0.7, np.float32)
    assert len(run(web, [2], levels=Levels(region=0.7, peak=0.0))) == 1

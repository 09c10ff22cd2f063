"""A web that is inspected in blocks, beside the Detector on the whole strip in memory, on a tiny CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from webs import SCALE, as_items, comparable, defects_of, inspect

from acl_export.config import Head
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.scoring.regions import find_regions
from acl_runtime.scoring.rule import Rule
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.plan import plan_web
from acl_runtime.web.records import Event, Judged
from acl_runtime.web.settings import WebSettings

WIDTH = 230
ROUNDING = 3e-7  # of a map value; measured 1.8e-7
BATCH_ROUNDING = 2e-5  # of a map value, between calls of other sizes; measured 0 on this network


def draw(lines: int) -> npt.NDArray[np.uint8]:
    """(lines, WIDTH, 3) BGR: a texture with a few spots."""
    rng = np.random.default_rng(7)
    web = cv2.GaussianBlur(rng.integers(0, 255, (lines, WIDTH, 3), dtype=np.uint8), (0, 0), 2)
    for _ in range(12):
        place = int(rng.integers(0, WIDTH)), int(rng.integers(0, lines))
        cv2.circle(web, place, int(rng.integers(4, 20)), rng.integers(0, 255, 3).tolist(), -1)
    return np.asarray(web, np.uint8)


def run(
    detector: Detector,
    web: np.ndarray,
    heights: list[int],
    *,
    region: float,
    max_batch: int = 3,
    rows: int = 1,
) -> tuple[list[Event], npt.NDArray[np.float32]]:
    """All events, every region told as a defect, and the map."""
    assert detector.tiling is not None
    plan = plan_web(web.shape[1], detector.tiling, detector.bundle.manifest)
    settings = WebSettings(
        rule=Rule(1.0, region),
        region_threshold=region,
        scale=SCALE,
        max_batch=max_batch,
        rows=rows,
        longest=10**6,
    )
    maps: list[npt.NDArray[np.float32]] = []
    engine = WebEngine(
        plan, TileJudge(detector.stages), settings, see_map=lambda _, lines: maps.append(np.array(lines))
    )
    return inspect(engine, as_items(web, [], heights)), np.concatenate(maps)


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize("tile", [98, 196, 60])
def test_the_map_and_the_defects_are_those_of_the_detector_on_the_whole_strip(
    bundles: Mapping[Head, Path], head: Head, tile: int
) -> None:
    """Where an even spacing is a spacing by the step, so that both cut the same tiles."""
    tiling = Tiling(tile, tile // 4, None)
    step = tile - tile // 4
    with Detector(bundles[head], tiling=tiling) as detector:
        web = draw(tile + 4 * step)
        whole = detector(web)
        region = float(np.quantile(whole.anomaly_map, 0.97))
        events, anomaly_map = run(detector, web, [41], region=region)
    assert whole.anomaly_map.shape == anomaly_map.shape
    np.testing.assert_allclose(anomaly_map, whole.anomaly_map, atol=ROUNDING, rtol=0)
    assert max(event.score for event in events if isinstance(event, Judged)) == pytest.approx(
        whole.score, abs=1e-6
    )
    regions = find_regions(whole.anomaly_map, threshold=region, frame_width=WIDTH, frame_height=len(web))
    found = [
        (each.left, each.first, each.right - each.left, each.stop - each.first) for each in defects_of(events)
    ]
    expected = [(each.x, each.y, each.width, each.height) for each in regions]
    assert len(expected) > 2
    borders = np.abs(whole.anomaly_map - region) < ROUNDING  # a pixel that rounding takes in or leaves out
    if not borders.any():
        assert sorted(found) == sorted(expected)
    else:
        assert len(set(found) & set(expected)) >= len(expected) - 2 * int(borders.sum())


def test_blocks_of_any_height_are_the_same_bit_for_bit_and_other_batches_to_the_networks_rounding(
    bundles: Mapping[Head, Path],
) -> None:
    web = draw(600)
    with Detector(bundles[Head.embeddings], tiling=Tiling(98, 24, None)) as detector:
        events, expected = run(detector, web, [64], region=0.5)
        for heights in ([1], [600], [13, 98, 5]):
            others, anomaly_map = run(detector, web, heights, region=0.5)
            assert np.array_equal(anomaly_map, expected)
            assert [*map(comparable, others)] == [*map(comparable, events)]
        for max_batch, rows in ((1, 1), (2, 1), (3, 3)):
            _, anomaly_map = run(detector, web, [64], region=0.5, max_batch=max_batch, rows=rows)
            np.testing.assert_allclose(anomaly_map, expected, atol=BATCH_ROUNDING, rtol=0)

"""A frame judged tile by tile gets one map without seams, whatever the batch size, in flat memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from graphs import GRID, SIDE, drawn_frame, reference, write_tiny_bundle
from sessions import Around

from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stages import Stages
from acl_runtime.detection.verdict import Inspected
from acl_runtime.images.blend import Blend, cut
from acl_runtime.images.frame import Frame
from acl_runtime.images.preprocess import preprocess
from acl_runtime.images.tiles import TilePlan, blend_weights, plan_tiles
from acl_runtime.scoring.heads import Answers
from acl_runtime.scoring.maps import sigmoid

Judge = Callable[[Sequence[np.ndarray]], Answers]
"""From tiles to `image_logits` (B,) and `anomaly_maps` (B, S, S) in [0, 1]."""


def plan(frame: np.ndarray, tile: int, overlap: int | None = None) -> TilePlan:
    height, width = frame.shape[:2]
    return plan_tiles(height, width, Tiling(tile, overlap, None), image_size=SIDE, grid=GRID)


def judge_tiled(
    frame: np.ndarray, chosen: TilePlan, judge: Judge, *, max_batch: int
) -> tuple[float, np.ndarray]:
    """The log-odds and the map of a frame whose tiles are judged in batches, as the stages do it."""
    blend, highest = Blend(chosen), -np.inf
    places = list(blend.places)
    for start in range(0, len(places), max_batch):
        batch = places[start : start + max_batch]
        logits, maps = judge([cut(frame, place) for place in batch])
        highest = max(highest, float(logits.max()))
        for place, tile_map in zip(batch, maps, strict=True):
            blend.add(tile_map, place)
    return highest, blend.finish()


def look(crops: Sequence[np.ndarray]) -> Answers:
    """A judge whose map is the picture: its grey values, and its log-odds their mean."""
    maps = [cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for crop in crops]
    stack = np.asarray(np.stack(maps) / 255, np.float32)
    return np.asarray(stack.mean(axis=(1, 2))), stack


def patch_means(crops: Sequence[np.ndarray]) -> Answers:
    """What the tiny bundle's graph says, in numpy."""
    answers = reference(preprocess(crops, image_size=SIDE))
    return answers["image_logits"], answers["anomaly_maps"]


def opinions(seed: int = 0) -> Judge:
    """A judge that thinks something else of every tile, the same of all its pixels."""
    rng = np.random.default_rng(seed)

    def judge(crops: Sequence[np.ndarray]) -> Answers:
        levels = rng.random(len(crops), dtype=np.float32)
        return levels, np.broadcast_to(levels[:, None, None], (len(crops), SIDE, SIDE))

    return judge


def smooth_frame(height: int, width: int) -> np.ndarray:
    """(H, W) uint8: soft hills, some thirty pixels wide."""
    values = np.random.default_rng(5).integers(0, 256, (height // 30 + 2, width // 30 + 2), dtype=np.uint8)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("tile", [32, 41, SIDE, 57, 90, 140])
def test_a_map_that_is_the_picture_blends_to_the_picture(tile: int) -> None:
    """Shrunk tiles may lie up to half a map pixel off, and then blend to something almost the same."""
    frame = smooth_frame(203, 311)
    chosen = plan(frame, tile)
    _, blended = judge_tiled(frame, chosen, look, max_batch=4)
    expected = cv2.resize(frame, chosen.map_shape[::-1], interpolation=cv2.INTER_AREA) / 255
    assert blended.dtype == np.float32
    assert blended.shape == chosen.map_shape
    slope = max(float(np.abs(np.diff(expected, axis=axis)).max()) for axis in (0, 1))
    atol = 1e-6 if tile == SIDE else slope + 2 / 255
    np.testing.assert_allclose(blended, expected, rtol=0, atol=atol)


def steepest(pixels: np.ndarray, axis: int) -> float:
    """Largest difference between neighbours along an axis."""
    return float(np.abs(np.diff(pixels, axis=axis)).max())


@pytest.mark.parametrize(("tile", "overlap"), [(32, 16), (SIDE, 14), (112, 28), (80, 20)])
def test_tiles_that_disagree_meet_in_a_ramp_without_a_seam(tile: int, overlap: int) -> None:
    frame = np.zeros((260, 417), np.uint8)
    chosen = plan(frame, tile, overlap)
    _, blended = judge_tiled(frame, chosen, opinions(), max_batch=5)
    on_map = overlap * min(1, SIDE / tile) - 1  # rounded edges may take a pixel of a ramp away
    assert blended.max() - blended.min() > 0.5  # they do disagree
    assert steepest(blended, 0) <= 1 / on_map
    assert steepest(blended, 1) <= 1 / on_map


def test_a_tiles_border_shows_in_a_smooth_picture_no_more_than_the_picture_itself() -> None:
    """The largest step across the tiles' borders is not larger than elsewhere."""
    frame = smooth_frame(300, 400)
    chosen = plan(frame, 100)
    _, blended = judge_tiled(frame, chosen, look, max_batch=5)
    steps = np.abs(np.diff(blended, axis=1)).max(axis=0)
    borders = {edge for span in chosen.columns.spans for edge in (span.map_start, span.map_stop)}
    at = np.array([edge - 1 for edge in borders if 0 < edge < blended.shape[1]])
    assert len(at) > 4
    assert steps[at].max() <= np.delete(steps, at).max()


def slow_blend(frame: np.ndarray, chosen: TilePlan, judge: Judge) -> tuple[float, np.ndarray]:
    """Every tile alone and a full-size weight map for each; tiles are shown at their own size (tile = S)."""
    total, weight = np.zeros((2, *frame.shape[:2]))
    logits = []
    for row in chosen.rows.spans:
        for column in chosen.columns.spans:
            image_logits, maps = judge([frame[row.pixels, column.pixels]])
            logits.append(float(image_logits[0]))
            for y in range(row.start, row.stop):
                for x in range(column.start, column.stop):
                    height, width = frame.shape[:2]
                    up = [] if row.start == 0 else [y - row.start + 0.5]
                    down = [] if row.stop == height else [row.stop - y - 0.5]
                    left = [] if column.start == 0 else [x - column.start + 0.5]
                    right = [] if column.stop == width else [column.stop - x - 0.5]
                    distance = min([*up, *down], default=1) * min([*left, *right], default=1)
                    total[y, x] += distance * maps[0, y - row.start, x - column.start]
                    weight[y, x] += distance
    return max(logits), total / weight


def test_blending_is_the_mean_weighted_by_the_distance_to_the_tiles_edge() -> None:
    frame = drawn_frame(1, height=100, width=130)
    chosen = plan(frame, SIDE, 20)
    logit, blended = judge_tiled(frame, chosen, patch_means, max_batch=8)
    expected_logit, expected = slow_blend(frame, chosen, patch_means)
    assert logit == pytest.approx(expected_logit, abs=1e-5)
    np.testing.assert_allclose(blended, expected, rtol=0, atol=1e-5)


def session_of(tmp_path: Path) -> tuple[Detector, list[int]]:
    """A detector that cuts frames into tiles of the network's side, and how many images each call gets."""
    sizes: list[int] = []
    session = Detector(write_tiny_bundle(tmp_path / "bundle"), provider="cpu").session

    def counting(images: np.ndarray) -> Mapping[str, np.ndarray]:
        sizes.append(len(images))
        return session(images)

    return Detector(
        tmp_path / "bundle", session=Around(session, counting), tiling=Tiling(SIDE, None, None)
    ), sizes


def of_batches(detector: Detector, most: int) -> Stages:
    return replace(detector.stages, manifest=replace(detector.bundle.manifest, max_batch=most))


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    detector, _ = session_of(tmp_path)
    frame = Frame("", 0, PurePath("a"), smooth_frame(150, 333))
    found = []
    for most in (1, 3, 8, 1000):
        (result,) = of_batches(detector, most).judge([frame])
        assert isinstance(result, Inspected)
        found.append(result.verdict)
    for verdict in found[1:]:
        assert verdict.score == pytest.approx(found[0].score, abs=1e-6)
        np.testing.assert_allclose(verdict.anomaly_map, found[0].anomaly_map, rtol=0, atol=1e-6)


def test_no_batch_is_larger_than_allowed_and_no_tile_is_left_out(tmp_path: Path) -> None:
    detector, sizes = session_of(tmp_path)
    frame = Frame("", 0, PurePath("a"), smooth_frame(200, 200))
    (result,) = of_batches(detector, 7).judge([frame])
    assert isinstance(result, Inspected)
    assert result.verdict.tiles == 25
    assert sizes == [7, 7, 7, 4]


def test_tiles_of_several_frames_share_batches(tmp_path: Path) -> None:
    detector, sizes = session_of(tmp_path)
    frames = [smooth_frame(60, 60), smooth_frame(40, 50), smooth_frame(200, 200), smooth_frame(60, 100)]
    together = [
        result.verdict
        for result in of_batches(detector, 7).judge([Frame("", 0, PurePath(), frame) for frame in frames])
        if isinstance(result, Inspected)
    ]
    tiles = [verdict.tiles for verdict in together]
    assert tiles == [4, 1, 25, 6]
    assert sizes == [7] * (sum(tiles) // 7) + [sum(tiles) % 7]
    for verdict, frame in zip(together, frames, strict=True):
        alone = detector(frame)
        assert verdict.score == pytest.approx(alone.score, abs=1e-6)
        np.testing.assert_allclose(verdict.anomaly_map, alone.anomaly_map, rtol=0, atol=1e-6)


def test_the_frame_is_as_bad_as_its_worst_tile() -> None:
    frame = np.full((200, 200), 10, np.uint8)
    frame[150:, 150:] = 200
    logit, _ = judge_tiled(frame, plan(frame, SIDE), look, max_batch=3)
    assert logit == pytest.approx(look([frame[-SIDE:, -SIDE:]])[0][0])
    assert logit > 5 * look([frame])[0][0] / 2


def test_a_frame_that_fits_into_a_tile_is_judged_as_if_squashed() -> None:
    frame = drawn_frame(3)
    logit, blended = judge_tiled(frame, plan(frame, 400), patch_means, max_batch=3)
    image_logits, maps = patch_means([frame])
    assert logit == image_logits[0]
    np.testing.assert_array_equal(blended, maps[0])


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame[..., 0],
        lambda frame: np.dstack([frame, np.full_like(frame[..., :1], 255)]),
        lambda frame: frame.astype(np.uint16) * 257,
    ],
    ids=["grey", "with alpha", "16 bits"],
)
def test_frames_of_every_kind_are_cut(convert: Callable[[np.ndarray], np.ndarray]) -> None:
    frame = convert(drawn_frame(4))
    logit, blended = judge_tiled(frame, plan(frame, SIDE), patch_means, max_batch=3)
    expected = slow_blend(frame, plan(frame, SIDE), patch_means)
    assert logit == pytest.approx(expected[0], abs=1e-5)
    np.testing.assert_allclose(blended, expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["map", "embeddings"])
def test_a_detector_with_a_tiling_judges_tiles(tmp_path: Path, head: str) -> None:
    detector = Detector(write_tiny_bundle(tmp_path / "bundle", head=head), tiling=Tiling(80, None, None))
    frame = drawn_frame(2, height=200, width=300)
    verdict = detector(frame)
    logit, blended = judge_tiled(frame, plan(frame, 80), patch_means, max_batch=3)
    assert verdict.score == pytest.approx(float(sigmoid(np.float64(logit))), abs=1e-4)
    np.testing.assert_allclose(verdict.anomaly_map, blended, rtol=0, atol=1e-4)
    assert verdict.peak == verdict.anomaly_map.max()
    for region in verdict.regions:  # in frame pixels, not in the map's
        assert region.x + region.width <= 300
        assert region.y + region.height <= 200
    assert max(region.x + region.width for region in verdict.regions) > blended.shape[1]


def test_memory_grows_by_the_map_alone(tmp_path: Path) -> None:
    detector, _ = session_of(tmp_path)
    none = replace(
        detector.bundle.manifest.calibration, map_threshold=1.0
    )  # no regions, whose labels take memory
    detector.stages = replace(detector.stages, manifest=replace(detector.bundle.manifest, calibration=none))

    def peak(height: int, width: int) -> tuple[int, int]:
        """Most memory while judging a frame that was there before, and that of its map; in bytes."""
        frame = np.zeros((height, width), np.uint8)
        tracemalloc.start()
        anomaly_map = detector(frame).anomaly_map
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, anomaly_map.nbytes

    peak(256, 512)  # what is kept from the first time

    small, small_map = peak(256, 512)
    large, large_map = peak(512, 1024)
    assert large_map == 4 * small_map
    growth, tiles = large_map - small_map, 150_000  # where four times as many tiles lie
    compared = growth // 4  # one byte a pixel, while regions are looked for
    assert large - small <= growth + compared + tiles


def test_weights_are_never_of_the_whole_frame() -> None:
    chosen = plan_tiles(4096, 8192, Tiling(518, None, None), image_size=518, grid=37)
    weights = [array for axis in (chosen.rows, chosen.columns) for array in blend_weights(axis)]
    assert sum(array.nbytes for array in weights) < 100_000

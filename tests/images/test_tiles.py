"""Plans cover every pixel, ask no more tiles than needed, and weigh them to one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from acl_runtime.bundle.manifest import Tiling
from acl_runtime.images.tiles import SMALLEST_TILE, Axis, TilePlan, blend_weights, plan_tiles, tile_side

SIZE, GRID = 518, 37


def plan(height: int, width: int, tile: int | None = None, overlap: int | None = None) -> TilePlan:
    return plan_tiles(height, width, Tiling(tile or "auto", overlap, None), image_size=SIZE, grid=GRID)


def sides(chosen: TilePlan) -> tuple[int, int]:
    """Height and width of the plan's tiles."""
    rows, columns = chosen.rows.spans[0], chosen.columns.spans[0]
    return rows.stop - rows.start, columns.stop - columns.start


def random_plans(count: int = 300) -> Iterator[tuple[TilePlan, Tiling, int]]:
    """Plans of frames of all sorts: tiny, thin, large; with what was asked for, and the network's side."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = (int(size) for size in np.exp(rng.uniform(0, np.log(5000), 2)))
        image_size = int(rng.integers(5, 60)) * 8
        tile = int(rng.integers(SMALLEST_TILE, 1500))
        overlap = int(rng.integers(0, tile)) if rng.random() < 0.5 else None
        defect = int(rng.integers(1, 40)) if rng.random() < 0.5 else None
        if overlap is not None or rng.random() < 0.5:
            tiling = Tiling(tile, overlap, None)
        else:
            tiling = Tiling("auto", None, defect)
        yield (
            plan_tiles(height, width, tiling, image_size=image_size, grid=image_size // 8),
            tiling,
            image_size,
        )


AXES = [
    (axis, tiling, size) for chosen, tiling, size in random_plans() for axis in (chosen.rows, chosen.columns)
]


def test_every_pixel_of_frame_and_map_lies_in_a_tile() -> None:
    for axis, _, _ in AXES:
        seen, shown = np.zeros(axis.length, int), np.zeros(axis.map_length, int)
        for span in axis.spans:
            seen[span.pixels] += 1
            shown[span.map_pixels] += 1
        assert seen.min() >= 1
        assert shown.min() >= 1


def test_tiles_have_one_size_and_lie_in_the_frame() -> None:
    for axis, _, _ in AXES:
        assert len({span.stop - span.start for span in axis.spans}) == 1
        assert (axis.spans[0].start, axis.spans[-1].stop) == (0, axis.length)
        assert (axis.spans[0].map_start, axis.spans[-1].map_stop) == (0, axis.map_length)


def shared(axis: Axis) -> list[int]:
    """Pixels that neighbours share."""
    return [one.stop - other.start for one, other in pairwise(axis.spans)]


def test_neighbours_share_what_was_asked_for_and_one_tile_less_would_not_do() -> None:
    for axis, tiling, _ in AXES:
        side = axis.spans[0].stop - axis.spans[0].start
        least = side // 4 if tiling.overlap is None else tiling.overlap
        if side != tiling.tile:
            least = min(least, side // 2)  # a frame thinner than the tile that was asked for
        assert min(shared(axis), default=side) >= least
        count = len(axis.spans)
        assert count == 1 or side + (count - 2) * (side - least) < axis.length


def test_tiles_are_spread_evenly_and_alike_from_both_ends() -> None:
    for axis, _, _ in AXES:
        steps = [other.start - one.start for one, other in pairwise(axis.spans)]
        assert max(steps, default=0) - min(steps, default=0) <= 1
        for span, mirrored in zip(axis.spans, axis.spans[::-1], strict=True):
            assert abs(span.start - (axis.length - mirrored.stop)) <= 1


def test_the_map_is_as_fine_as_the_network_and_never_finer_than_the_frame() -> None:
    for axis, _, size in AXES:
        side = axis.spans[0].stop - axis.spans[0].start
        assert axis.map_length <= axis.length
        assert abs(axis.map_length - axis.length * min(1, size / side)) <= 0.5


def test_nothing_is_shown_more_than_half_a_map_pixel_away_from_its_place() -> None:
    for axis, _, _ in AXES:
        scale = axis.map_length / axis.length
        for span in axis.spans:  # between its edges a tile is stretched evenly, so the edges are the worst
            assert abs(span.map_start - span.start * scale) <= 0.5
            assert abs(span.map_stop - span.stop * scale) <= 0.5
            assert scale < 1 or (span.map_start, span.map_stop) == (span.start, span.stop)


def test_weights_are_positive_and_sum_to_one() -> None:
    for axis, _, _ in AXES:
        total = np.zeros(axis.map_length, np.float32)
        for span, weights in zip(axis.spans, blend_weights(axis), strict=True):
            assert weights.dtype == np.float32
            assert weights.min() > 0
            total[span.map_pixels] += weights
        np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)


def test_weights_are_straight_ramps_over_the_overlap_and_one_elsewhere() -> None:
    first, last = blend_weights(plan(100, 180, tile=100, overlap=20).columns)
    ramp = (np.arange(20) + 0.5) / 20
    np.testing.assert_allclose(first, np.concatenate([np.ones(80), 1 - ramp]), atol=1e-7)
    np.testing.assert_allclose(last, np.concatenate([ramp, np.ones(80)]), atol=1e-7)


@pytest.mark.parametrize(
    ("height", "width", "tile", "expected", "count"),
    [
        (2048, 4096, 518, (518, 518), 5 * 11),  # at the frame's own resolution
        (2048, 4096, 1036, (1036, 1036), 3 * 5),  # shrunk by two
        (512, 8192, 1036, (512, 512), 1 * 21),  # a line-scan strip: squares of its height
        (8192, 512, 1036, (512, 512), 21 * 1),
        (480, 640, 1036, (480, 640), 1),  # fits: squashed whole
        (480, 960, 1036, (480, 960), 1),
        (400, 960, 1036, (400, 400), 3),  # fits, but squashed it would be distorted by more than two
        (1036, 1036, 1036, (1036, 1036), 1),
        (1036, 1037, 1036, (1036, 1036), 2),
        (1, 200, 100, (1, 32), 8),  # too thin to be a picture
        (1, 1, 100, (1, 1), 1),
    ],
)
def test_tiles_are_squares_unless_the_frame_fits_into_one(
    height: int, width: int, tile: int, expected: tuple[int, int], count: int
) -> None:
    chosen = plan(height, width, tile)
    assert (sides(chosen), len(chosen)) == (expected, count)


@pytest.mark.parametrize(
    ("height", "width", "expected", "map_shape"),
    [
        (480, 640, (480, 640), (480, 518)),  # squashed
        (1036, 1036, (1036, 1036), (518, 518)),  # squashing shrinks by two
        (1036, 1037, (518, 518), (1036, 1037)),  # by more: native resolution
        (300, 1000, (300, 300), (300, 1000)),  # too long to be squashed
    ],
)
def test_auto_alone_cuts_only_what_squashing_would_shrink_by_more_than_two(
    height: int, width: int, expected: tuple[int, int], map_shape: tuple[int, int]
) -> None:
    chosen = plan(height, width)
    assert (sides(chosen), chosen.map_shape) == (expected, map_shape)


def test_auto_makes_a_patch_as_large_as_the_smallest_defect() -> None:
    side = tile_side(Tiling("auto", None, 28), image_size=SIZE, grid=GRID)
    assert side / GRID == 28
    chosen = plan_tiles(3000, 5000, Tiling("auto", None, 28), image_size=SIZE, grid=GRID)
    assert sides(chosen) == (1036, 1036)
    assert chosen.map_shape == (1500, 2500)
    small = plan_tiles(700, 900, Tiling("auto", None, 28), image_size=SIZE, grid=GRID)
    assert (sides(small), len(small)) == ((700, 900), 1)
    assert tile_side(Tiling("auto", None, 1), image_size=70, grid=5) == SMALLEST_TILE


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (Tiling(31, None, None), "tile must be at least 32 pixels, got 31; pass a larger one"),
        (Tiling(100, 100, None), r"overlap must be .*less than the tile \(100\), got 100"),
        (Tiling("auto", 370, 10), r"overlap must be less than the tile \(370\), got 370; pass a smaller one"),
        (Tiling(100, None, 10), "min_defect must not be given beside a tile of 100; pass tile auto, or no"),
        (Tiling("auto", -1, None), "overlap must be at least 0"),
        (Tiling("auto", None, 0), "min_defect must be at least 1 pixel, got 0"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(tiling: Tiling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_tiles(2000, 2000, tiling, image_size=SIZE, grid=GRID)

"""Whether a box keeps up with a web: the arithmetic of the plan, and what `acl plan` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from console import acl
from graphs import GRID, SIDE, tiny_manifest, write_tiny_bundle

from acl_runtime.detection.brief import Answer
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.web.capacity import (
    SHARE,
    WebDemand,
    choose_tile,
    largest_tile,
    measure_tiles_per_s,
    weigh,
)
from acl_runtime.web.records import Scale

MANIFEST = tiny_manifest()
SCALE = Scale(mm_per_line=0.1, mm_per_pixel=0.1)


def demand(**changes: object) -> WebDemand:
    given: dict[str, object] = {"width": 4096, "lines_per_s": 10_000.0, "scale": SCALE}
    return WebDemand(**(given | changes))  # type: ignore[arg-type]


def test_data_rate_and_speed_are_those_of_the_camera() -> None:
    assert demand().mb_per_s == pytest.approx(40.96)
    assert demand(bytes_per_pixel=3).mb_per_s == pytest.approx(3 * 40.96)
    assert demand().metres_per_min == pytest.approx(60)


def test_the_tiles_that_are_needed_are_counted() -> None:
    """By hand: a web of 10 s, its tiles laid out line by line."""
    choice = choose_tile(SIDE, demand(overlap=6), MANIFEST, 1e9)
    step = SIDE - 6
    columns = 1 + math.ceil((4096 - SIDE) / step)
    rows = len(range(0, 100_000, step))
    assert choice.tiles_per_s * 10 == pytest.approx(columns * rows, rel=0.001)
    assert choice.wait_lines == SIDE + 64
    assert choice.wait_ms == pytest.approx(1000 * (SIDE + 64) / 10_000, rel=1e-4)
    assert choice.wait_mm == pytest.approx((SIDE + 64) * 0.1, rel=1e-4)
    assert choice.patch_mm == pytest.approx(SIDE / GRID * 0.1)


@pytest.mark.parametrize("smallest_mm", [0.6, 1.0, 4.0])
def test_the_largest_tile_shows_the_smallest_defect_as_a_patch(smallest_mm: float) -> None:
    asked = demand(smallest_mm=smallest_mm)
    side = largest_tile(asked, MANIFEST)
    assert choose_tile(side, asked, MANIFEST, 1.0).patch_mm <= smallest_mm + 1e-9
    assert choose_tile(side + 1, asked, MANIFEST, 1.0).patch_mm > smallest_mm or side == 8 * SIDE


@pytest.mark.parametrize("measured", [5000.0, 30_000.0, 100_000.0])
def test_the_finest_tile_keeps_up_and_none_finer_does(measured: float) -> None:
    asked = demand(smallest_mm=2.0)
    capacity = weigh(asked, MANIFEST, measured)
    assert capacity.finest is not None
    assert capacity.finest.tiles_per_s <= SHARE * measured
    if (side := capacity.finest.plan.tile) > 32:
        assert choose_tile(side - 1, asked, MANIFEST, 1.0).tiles_per_s > SHARE * measured
    assert (capacity.boxes, capacity.speed_share >= 1) == (1, True)


def test_what_is_too_fast_is_told_in_boxes_and_in_speed() -> None:
    asked = demand(smallest_mm=1.0)
    needed = weigh(asked, MANIFEST, 1.0).coarsest.tiles_per_s
    capacity = weigh(asked, MANIFEST, needed / SHARE / 2.5)
    assert capacity.finest is None
    assert capacity.boxes == 3
    slower = demand(smallest_mm=1.0, lines_per_s=10_000 * capacity.speed_share * 0.999)
    assert weigh(slower, MANIFEST, capacity.measured).finest is not None
    faster = demand(smallest_mm=1.0, lines_per_s=10_000 * capacity.speed_share * 1.001)
    assert weigh(faster, MANIFEST, capacity.measured).finest is None


def test_a_defect_that_no_tile_shows_is_told() -> None:
    with pytest.raises(
        InputError, match="a defect of 0.2 mm is 2 pixels, too few .* 2.3 times the resolution"
    ):
        weigh(demand(smallest_mm=0.2), MANIFEST, 100)
    for name, value in (("width", 0), ("lines_per_s", math.inf), ("smallest_mm", 0)):
        with pytest.raises(InputError, match=f"{name} must be above 0"):
            demand(**{name: value})


def test_the_measure_is_tiles_over_the_time_of_a_call() -> None:
    now = [0.0]

    def judge(tiles: Sequence[np.ndarray]) -> list[Answer]:
        now[0] += 0.5
        return [(0.0, np.zeros((2, 2), np.float32))] * len(tiles)

    assert measure_tiles_per_s(judge, side=40, batch=3, clock=lambda: now[0]) == pytest.approx(6)
    with pytest.raises(FrameError, match="nan"):
        measure_tiles_per_s(lambda tiles: [FrameError("nan")], side=40, batch=1, seconds=0.01)


def test_the_command_says_it_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acl_runtime.web.capacity.MEASURE_S", 0.1)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    web = ("--width", 4096, "--mm-per-pixel", 0.1, "--smallest-defect", 2)
    fine = acl("plan", bundle, *web, "--line-rate", 100)
    assert fine.exit_code == 0, fine.output
    assert "0.6 m/min, 100 lines/s of 4096 pixels" in fine.stdout
    assert "keeps up: any tile of" in fine.stdout
    assert "measured here with onnxruntime CPUExecutionProvider" in fine.stdout
    slow = acl("plan", bundle, *web, "--speed", 60, "--tiles-per-s", 100)
    assert slow.exit_code == 1
    assert "60 m/min, 10000 lines/s" in slow.stdout
    assert "does not keep up" in slow.stdout
    assert "such boxes would, or this one up to" in slow.stdout
    assert acl("plan", bundle, *web).exit_code == 2

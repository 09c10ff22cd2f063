"""How a web is cut, and what its lines look like where they show no web."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from webs import make_plan

from acl_export.config import Head
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.files.errors import InputError
from acl_runtime.images.tiles import plan_tiles
from acl_runtime.web.buffer import LineBuffer
from acl_runtime.web.light import STATES, Light, find_edges, line_states
from acl_runtime.web.plan import plan_web


@pytest.mark.parametrize("width", [20, 90, 98, 500, 4096])
@pytest.mark.parametrize(
    "tiling", [Tiling("auto", None, None), Tiling(98, 10, None), Tiling("auto", None, 20)]
)
def test_a_web_is_cut_as_a_long_frame_is(bundles: Mapping[Head, Path], width: int, tiling: Tiling) -> None:
    manifest = load_bundle(bundles[Head.map]).manifest
    plan = plan_web(width, tiling, manifest)
    height = plan.tile + 9 * plan.step
    frame = plan_tiles(height, width, tiling, image_size=manifest.image_size, grid=manifest.grid)
    assert plan.columns == frame.columns
    assert [span.start for span in frame.rows.spans] == [plan.step * row for row in range(10)]
    if plan.map_line(height) == frame.rows.map_length:
        assert [plan.map_line(plan.step * row) for row in range(10)] == [
            s.map_start for s in frame.rows.spans
        ]


def test_tiles_that_share_more_than_half_are_refused(bundles: Mapping[Head, Path]) -> None:
    manifest = load_bundle(bundles[Head.map]).manifest
    frames = replace(manifest.graph.inputs[0], name="frames", shape=("batch", 10, 10, 3))
    resizes = replace(manifest.preprocessing, resize="in the graph")
    graph = replace(manifest.graph, inputs=(frames,))
    with pytest.raises(InputError, match=r"overlap must be at most half the tile \(98\) on a web, got 50"):
        plan_web(500, Tiling(98, 50, None), manifest)
    with pytest.raises(InputError, match="takes whole frames"):
        plan_web(500, Tiling(98, 0, None), replace(manifest, graph=graph, preprocessing=resizes))


def test_map_lines_and_lines_lead_back_to_each_other() -> None:
    plan = make_plan(tile=48, image_size=20)
    for line in range(200):
        first, stop = plan.lines_of(plan.map_line(line), plan.map_line(line) + 1)
        assert first - 1.5 <= line <= stop + 1.5
        assert plan.map_line(line + plan.tile) == plan.map_line(line) + plan.map_tile
    assert [plan.next_row(row) for row in (0, 1, 35, 36)] == [36, 36, 36, 72]


def test_a_buffer_holds_the_last_lines_whatever_the_pieces() -> None:
    rng = np.random.default_rng(0)
    lines, buffer = rng.integers(0, 255, (2000, 3), dtype=np.uint8), LineBuffer(50, (3,), np.uint8)
    buffer.begin(0)
    while buffer.stop < 1900:
        count = int(rng.integers(0, 51))
        buffer.append(lines[buffer.stop : buffer.stop + count])
        assert buffer.stop - buffer.first <= 50
        first = int(rng.integers(max(0, buffer.stop - 50), buffer.stop + 1))
        assert np.array_equal(buffer.view(first, buffer.stop), lines[first : buffer.stop])
    assert buffer.nbytes == 2 * 50 * 3
    with pytest.raises(ValueError, match="count must be at most 50"):
        buffer.reserve(51)
    with pytest.raises(ValueError, match="lines must lie in"):
        buffer.view(0, 10)


@pytest.mark.parametrize("shape", [(5, 640), (5, 640, 3)])
def test_each_line_has_its_own_state(shape: tuple[int, ...]) -> None:
    lines = np.full(shape, 100, np.uint8)
    lines[1], lines[2, :400], lines[3] = 1, 255, 40
    states = line_states(lines, Light(background=(30, 50)))
    assert [STATES[state] for state in states] == [None, "no light", "saturated", "no web", None]


def test_edges_are_where_the_background_ends() -> None:
    lines = np.full((9, 300, 3), 10, np.uint8)
    lines[:, 40:260] = 120
    assert find_edges(lines, Light(background=(0, 30))) == (40, 260)
    assert find_edges(lines, Light()) == (0, 300)
    assert find_edges(lines * 0, Light(background=(0, 30))) == (0, 0)


@pytest.mark.parametrize(
    "changes", [{"dark": 255}, {"saturated": 0}, {"covered": 1.1}, {"background": (9, 3)}, {"run": 0}]
)
def test_light_that_no_line_could_keep_to_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        Light(**changes)  # type: ignore[arg-type]

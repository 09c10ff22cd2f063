"""What the inspection of a web promises, each promise a test: I1 to I12 are those of the design."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from webs import (
    LINE_NS,
    RULE,
    SCALE,
    Brightness,
    as_items,
    comparable,
    cut_randomly,
    defects_of,
    draw_web,
    inspect,
    make_plan,
    settings,
)

from acl_runtime.detection.brief import Answer
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.scoring.rule import Rule
from acl_runtime.web.account import Lines, Lost, Reason
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.light import Light
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import DefectBegun, Event, Judged, Lane, StateChange, event_dict
from acl_runtime.web.strip import MARGIN
from acl_runtime.web.summary import summarise

PLANS = {
    "as large as the network sees": make_plan(),
    "shrunk": make_plan(tile=48, overlap=12, image_size=24),
    "enlarged": make_plan(tile=40, overlap=10, image_size=56),
    "without overlap": make_plan(tile=48, overlap=0),
    "half shared": make_plan(tile=48, overlap=24),
    "narrower than a tile": make_plan(30, tile=48, overlap=12),
}
SEEDS = range(4)


def random_gaps(lines: int, rng: np.random.Generator) -> list[Lost]:
    reasons: tuple[Reason, ...] = ("packets", "blocks", "too slow", "ignored triggers", "restart")
    edges = np.sort(rng.choice(lines, 2 * int(rng.integers(0, 5)), replace=False)).reshape(-1, 2).tolist()
    return [Lost(first=a, stop=b, reason=reasons[int(rng.integers(5))]) for a, b in edges]


class Maps:
    """The final lines of a map, each seen once."""

    def __init__(self) -> None:
        self.lines: dict[int, npt.NDArray[np.float32]] = {}

    def __call__(self, first: int, lines: npt.NDArray[np.float32]) -> None:
        for number, line in enumerate(lines, start=first):
            assert number not in self.lines, "a map line is final once"
            self.lines[number] = np.array(line)


def run(
    web: np.ndarray, plan: WebPlan, heights: Sequence[int], gaps: Sequence[Lost] = (), **changes: object
) -> tuple[list[Event], Maps, list[int], WebEngine]:
    judge, maps = (
        Brightness(plan.map_tile if plan.map_tile < plan.tile else 56 if plan.tile == 40 else 48),
        Maps(),
    )
    engine = WebEngine(plan, judge, settings(**changes), see_map=maps)
    events = inspect(engine, as_items(web, gaps, heights))
    return events, maps, judge.calls, engine


def covered(events: Sequence[Event]) -> list[tuple[int, int, str]]:
    """Judged and lost intervals in the order of lines."""
    spans = [(e.first, e.stop, "judged") for e in events if isinstance(e, Judged)]
    spans += [(e.first, e.stop, e.reason) for e in events if isinstance(e, Lost)]
    return sorted(spans)


@pytest.mark.parametrize("seed", range(12))
def test_i1_exposed_is_judged_lost_outside_and_pending_at_every_moment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    web = draw_web(900, seed=seed)
    web[100:130], web[400:403], web[600:640], web[:20], web[700:760] = 0, 0, 255, 40, 40
    light = Light(background=(30, 50))
    engine = WebEngine(make_plan(), Brightness(), settings(rows=1 + seed % 3, max_batch=3, light=light))
    events: list[Event] = []
    for item in as_items(web, random_gaps(900, rng), cut_randomly(900, rng)):
        events += engine.add(item)
        tally = engine.tally
        lost = sum(tally.lost.values())
        assert engine.exposed == item.stop == tally.judged + lost + tally.outside + engine.pending
        assert engine.pending >= 0
        summary = summarise(tally, SCALE, pending=engine.pending, kept_up=1.0, seconds=1.0).as_dict()["lines"]
        parts = (summary["judged"], *summary["lost"].values(), summary["outside"], summary["pending"])
        assert summary["exposed"] == item.stop == sum(parts)
    events += engine.finish()
    assert engine.pending == 0
    assert engine.tally.accounted == 900
    assert engine.tally.outside > 0
    assert "no web" not in engine.tally.lost
    spans = covered(events)
    assert [a for a, _, _ in spans] == [0, *(b for _, b, _ in spans[:-1])]  # each line once
    assert spans[-1][1] == 900
    for reason, count in engine.tally.lost.items():
        assert count == sum(b - a for a, b, what in spans if what == reason)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", SEEDS)
def test_i2_blocks_of_any_height_give_the_same_maps_and_defects_bit_for_bit(name: str, seed: int) -> None:
    rng, plan = np.random.default_rng(seed), PLANS[name]
    web = draw_web(800, plan.width, seed=seed, defects=9)
    web[300:320], web[500:504] = 0, 255
    gaps, changes = random_gaps(800, rng), {"rows": 1 + seed % 3, "max_batch": 1 + seed, "longest": 70}
    expected, maps, calls, _ = run(web, plan, [64], gaps, **changes)
    assert defects_of(expected)
    for heights in ([1], [7], [4096], cut_randomly(800, rng), cut_randomly(800, rng, most=300)):
        events, other, other_calls, _ = run(web, plan, heights, gaps, **changes)
        assert other_calls == calls, "the make-up of calls depends on line numbers alone"
        assert [*map(comparable, events)] == [*map(comparable, expected)]
        assert other.lines.keys() == maps.lines.keys()
        assert all(np.array_equal(other.lines[number], line) for number, line in maps.lines.items())


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", SEEDS)
def test_i2_the_map_is_that_of_the_whole_strip_in_memory(name: str, seed: int) -> None:
    """Against the slow and obvious: all tiles of a strip, weighted, in one array, to float32's rounding."""
    rng, plan = np.random.default_rng(100 + seed), PLANS[name]
    web, gaps = draw_web(700, plan.width, seed=seed), random_gaps(700, rng)
    _, maps, _, _ = run(web, plan, [50], gaps)
    edges = [0, *(edge for gap in gaps for edge in (gap.first, gap.stop)), 700]
    seen = set()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start < plan.tile:
            continue
        expected = whole_map(web, start, stop, plan)
        for number, line in enumerate(expected, start=plan.map_line(start)):
            np.testing.assert_allclose(maps.lines[number], line, atol=3e-7)
            seen.add(number)
    assert seen == maps.lines.keys()


def whole_map(web: np.ndarray, start: int, stop: int, plan: WebPlan) -> npt.NDArray[np.float64]:
    """The map of a strip by its definition; a row moved back counts behind the last step only."""
    judge = Brightness(plan.map_tile if plan.map_tile < plan.tile else 56 if plan.tile == 40 else 48)
    size, origin = plan.map_tile, plan.map_line(start)
    rows = [start] if start + plan.tile <= stop else []
    while plan.next_row(rows[-1]) + plan.tile <= stop:
        rows.append(plan.next_row(rows[-1]))
    moved = stop - plan.tile if rows[-1] + plan.tile < stop else None
    total = np.zeros((plan.map_line(stop) - origin, plan.map_width))
    counts = np.zeros(len(total))
    for index, row in enumerate([*rows, *([] if moved is None else [moved])]):
        y = np.arange(size) + 0.5
        distance = np.minimum(y, size - y) if index else size - y
        if row == moved:
            begin = plan.map_line(plan.next_row(rows[-1])) - plan.map_line(row)
            distance = np.maximum(y - begin, 0)
        at = slice(plan.map_line(row) - origin, plan.map_line(row) - origin + size)
        total[at] += distance[:, None] * row_map(web[row : row + plan.tile], plan, judge)
        counts[at] += distance
    return total / counts[:, None]


def row_map(lines: np.ndarray, plan: WebPlan, judge: Brightness) -> npt.NDArray[np.float64]:
    """A row's map out of its tiles', with `Blend`, which the tests of frames are about."""
    from acl_runtime.images.blend import Blend
    from acl_runtime.images.tiles import Axis, Span, TilePlan

    alone = Axis(plan.tile, plan.map_tile, (Span(0, plan.tile, 0, plan.map_tile),))
    blend = Blend(TilePlan(alone, plan.columns))
    for place in blend.places:
        blend.add(judge.judge(lines[:, place[1].span.pixels])[1], place)
    return np.asarray(blend.finish(), np.float64)


def test_i2_a_gap_changes_nothing_that_is_two_tiles_away() -> None:
    """Rows are at the same line numbers again right behind the strip's first one."""
    web, plan = draw_web(900, seed=3), make_plan()
    gap = [Lost(first=400, stop=433, reason="blocks")]
    _, whole, _, _ = run(web, plan, [64])
    _, parted, _, _ = run(web, plan, [64], gap)
    far = [number for number in parted.lines if number < 400 - 96 or number >= 433 + 96]
    assert all(np.array_equal(parted.lines[number], whole.lines[number]) for number in far)
    assert len(far) > 600


@pytest.mark.parametrize("border", [36, 37, 48, 72, 300])
def test_i3_a_defect_over_a_border_is_one_record(border: int) -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[border - 9 : border + 9, 40:52] = 220
    events, _, _, _ = run(web, make_plan(), [border, 11])
    (defect,) = defects_of(events)
    assert abs(defect.first - (border - 9)) <= 2
    assert abs(defect.stop - (border + 9)) <= 2
    assert (defect.part, defect.continues) == (1, False)


def test_i3_a_long_defect_comes_in_parts_that_join_without_overlap() -> None:
    web = np.full((3000, 100), 100, np.uint8)
    web[100:2900, 40:52] = 220
    events, _, _, engine = run(web, make_plan(), [64], longest=500)
    parts = defects_of(events)
    assert [part.part for part in parts] == [1, 2, 3, 4, 5, 6]
    assert {part.number for part in parts} == {1}
    assert all(a.stop == b.first and a.continues for a, b in itertools.pairwise(parts))
    assert not parts[-1].continues
    assert engine.tally.defects == 1
    assert [type(event) for event in events].count(DefectBegun) == 1


@pytest.mark.parametrize("seed", range(6))
def test_i3_each_of_some_random_defects_is_one_record_however_the_lines_were_cut(seed: int) -> None:
    """Its parts join without overlap; the next defect is always further away than the network blurs."""
    rng = np.random.default_rng(seed)
    web, truth, line = np.full((4000, 100), 100, np.uint8), [], 20
    while line < 3800:
        height, left = int(rng.choice([6, 30, 150, 400])), int(rng.integers(0, 88))
        stop = min(line + height, 3990)
        web[line:stop, left : left + 12] = 220
        truth.append((line, stop))
        line = stop + int(rng.integers(8, 60))
    events, _, _, engine = run(web, make_plan(), cut_randomly(4000, rng), longest=100)
    parts: dict[int, list[tuple[int, int]]] = {}
    for defect in defects_of(events):
        before = parts.setdefault(defect.number, [])
        assert not before or before[-1][1] == defect.first
        before.append((defect.first, defect.stop))
        assert defect.part == len(before)
    found = [(each[0][0], each[-1][1]) for each in parts.values()]
    assert engine.tally.defects == len(found) == len(truth)
    assert np.abs(np.array(found) - truth).max() <= 2
    assert all(stop - first < 100 + 48 for each in parts.values() for first, stop in each)


@pytest.mark.parametrize("seed", range(6))
def test_i4_what_is_held_is_bounded_whatever_is_lost_and_however_many_defects_there_are(seed: int) -> None:
    rng, plan, rows = np.random.default_rng(seed), list(PLANS.values())[seed], 1 + seed % 3
    web = draw_web(3000, plan.width, seed=seed, defects=10 * seed**2)
    web[rng.integers(0, 3000, 200)] = 0
    engine = WebEngine(
        plan, Brightness(plan.map_tile), settings(rows=rows, max_batch=3, most=10, keeps_pictures=False)
    )
    lines = 2 * (2 * plan.tile + rows * plan.step + MARGIN) * plan.width
    map_lines = 6 * plan.map_tile * (4 * plan.map_width + 8)
    run_lines = engine.settings.light.run
    told: set[int] = set()
    for item in as_items(web, random_gaps(3000, rng), cut_randomly(3000, rng, most=300)):
        for event in engine.add(item):
            told |= {event.number} if isinstance(event, DefectBegun) else set()
            assert engine.nbytes <= lines + map_lines
        assert engine.pending <= plan.tile + (rows + 1) * plan.step + run_lines
    assert len(told) > 3 or not seed


def test_i4_memory_is_what_the_formula_says_and_does_not_grow_with_the_roll() -> None:
    plan, rows = make_plan(), 3
    web = draw_web(5000, seed=2, defects=60)
    engine = WebEngine(plan, Brightness(), settings(rows=rows, max_batch=6, longest=200))
    sizes = set()
    for item in as_items(web, [], [4096]):
        for _ in engine.add(item):
            sizes.add(engine.nbytes)
            assert engine.pending <= plan.tile + (rows + 1) * plan.step
    lines = 2 * (2 * plan.tile + rows * plan.step + MARGIN) * plan.width
    map_lines = 6 * plan.map_tile * (4 * plan.map_width + 8)
    assert sizes == {lines + map_lines}


def test_i4_a_flood_of_defects_is_one_record_and_lines_go_on_being_accounted() -> None:
    rng = np.random.default_rng(0)
    web = np.full((1500, 100), 100, np.uint8)
    spots = rng.integers(0, (1000, 100), (4000, 2))
    web[tuple(spots.T)] = 255
    events, _, _, engine = run(web, make_plan(), [64], most=10, region_threshold=0.2, rule=Rule(1.0, 0.2))
    assert [defect.is_flood for defect in defects_of(events)].count(True) >= 1
    assert len(defects_of(events)) < 60
    assert engine.tally.judged == 1500


def test_i5_a_line_is_final_once_a_tile_and_a_block_came_behind_it() -> None:
    web, plan = draw_web(2000, seed=1), make_plan()
    for height in (1, 16, 64):
        engine = WebEngine(plan, Brightness(), settings())
        for item in as_items(web, [], [height]):
            for event in engine.add(item):
                if isinstance(event, Judged):
                    assert item.stop - event.first <= plan.tile + height
            assert engine.pending < plan.tile  # the first line of a tile row waits longest


def test_i6_a_gap_ends_a_strip_and_all_lines_up_to_it_are_judged() -> None:
    web = draw_web(1000, seed=5)
    gaps = [Lost(first=301, stop=340, reason="packets"), Lost(first=720, stop=721, reason="too slow")]
    events, maps, _, _ = run(web, make_plan(), [64], gaps)
    assert covered(events)[-1][1] == 1000
    assert sorted(maps.lines) == [*range(301), *range(340, 720), *range(721, 1000)]


def test_i6_a_lost_line_is_never_ok_nor_part_of_a_defect_beside_it() -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[250:350, 20:40] = 220
    events, _, _, _ = run(web, make_plan(), [64], [Lost(first=290, stop=310, reason="packets")])
    spans = [(defect.first, defect.stop) for defect in defects_of(events)]
    assert [(a <= 251, b) for a, b in spans[:1]] == [(True, 290)]
    assert spans[1][0] == 310
    assert (290, 310, "packets") in covered(events)


def test_i6_a_strip_shorter_than_a_tile_is_unjudged_and_said_so() -> None:
    web = draw_web(500, seed=5)
    gaps = [Lost(first=200, stop=210, reason="blocks"), Lost(first=257, stop=260, reason="blocks")]
    events, _, _, engine = run(web, make_plan(), [64], gaps)
    assert (210, 257, "short strip") in covered(events)
    assert engine.tally.lost == {"blocks": 13, "short strip": 47}


def test_i6_lines_for_which_the_network_gives_no_number_are_lost_and_never_ok() -> None:
    class Broken(Brightness):
        def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
            answers = super().__call__(tiles)
            return [
                FrameError("nan") if (tile == 222).any() else a
                for tile, a in zip(tiles, answers, strict=True)
            ]

    web = np.full((600, 100), 100, np.uint8)
    web[300, 70] = 222
    for heights in ([64], [1], [600]):
        engine = WebEngine(make_plan(), Broken(), settings())
        events = inspect(engine, as_items(web, [], heights))
        # rows 252..300 do not show line 300; 264 is none; 288..336 does
        assert [span for span in covered(events) if span[2] != "judged"] == [(288, 336, "not finite")]
        assert engine.tally.judged == 600 - 48
        assert engine.tally.lost == {"not finite": 48}


def test_i7_the_place_is_lines_and_pixels_times_their_pitch_from_the_tracked_edge() -> None:
    web = np.full((400, 100), 100, np.uint8)
    web[:, :12] = 4  # what lies beside the web, which wanders
    web[:, 90:] = 4
    web[:180, 12:20] = 4
    web[100:120, 40:52], web[300:320, 40:52] = 220, 220
    light = Light(background=(0, 20))
    lanes = (Lane("left", 0, 5), Lane("right", 5, 20))
    events, _, _, _ = run(web, make_plan(), [64], light=light, lanes=lanes)
    first, second = defects_of(events)
    assert first.y_mm == pytest.approx(first.first * SCALE.mm_per_line)
    assert abs(first.first - 100) <= 2
    assert first.x_mm == pytest.approx((first.left - 20) * SCALE.mm_per_pixel)
    assert second.x_mm == pytest.approx((second.left - 12) * SCALE.mm_per_pixel)
    assert first.width_mm == pytest.approx((first.right - first.left) * SCALE.mm_per_pixel)
    assert first.length_mm == pytest.approx((first.stop - first.first) * SCALE.mm_per_line)
    assert 0.6 * 20 * 12 * 0.02 < first.area_mm2 < 1.6 * 20 * 12 * 0.02
    assert (first.lanes, second.lanes) == (("left", "right"), ("right",))
    edges = {(event.left, event.right) for event in events if isinstance(event, Judged)}
    assert {(20, 90), (12, 90)} <= edges


def test_i7_nothing_is_told_of_what_lies_beside_the_web() -> None:
    web = np.full((400, 100), 100, np.uint8)
    web[:, 80:] = 230  # a bright table
    events, _, _, _ = run(
        web, make_plan(), [64], light=Light(background=(200, 255), covered=0.99), edge_margin=4
    )
    assert not defects_of(events)
    events, _, _, _ = run(web, make_plan(), [64])
    assert defects_of(events)


@pytest.mark.parametrize("rule", [Rule(1.0, 0.5), Rule(0.05, None)], ids=["peak", "score"])
def test_i7_nothing_is_told_of_parts_of_the_width_that_are_ignored(rule: Rule) -> None:
    """The lane wanders with the web's left edge; what lies beside it is told as before."""
    web = np.full((400, 100), 100, np.uint8)
    web[:, :10] = 0
    web[100:112, 14:24] = web[300:312, 60:70] = 250
    ignored = (Lane("printed", 0, 20 * SCALE.mm_per_pixel),)
    light = Light(background=(0, 20), covered=0.99)
    alone, _, _, _ = run(web, make_plan(), [64], rule=rule, light=light)
    assert any(defect.left < 30 for defect in defects_of(alone))
    events, _, _, _ = run(web, make_plan(), [64], rule=rule, light=light, ignored=ignored)
    assert defects_of(events)
    assert all(defect.left >= 30 for defect in defects_of(events))


def test_i8_at_a_standstill_what_waits_is_judged_and_the_first_lines_after_it_are_not() -> None:
    web, plan = draw_web(500, seed=4), make_plan()
    engine = WebEngine(plan, Brightness(), settings(flush_after_s=0.5, after_standstill=20))
    items = [*as_items(web[:200], [], [50])]
    events = [event for item in items for event in engine.add(item)]
    now = items[-1].received_ns if isinstance(items[-1], Lines) else 0
    assert not [*engine.wait(now + 400_000_000)]
    assert engine.pending > 0
    flushed = [*engine.wait(now + 500_000_000)]
    assert engine.pending == 0
    assert StateChange(line=200, state="standstill") in flushed
    assert not [*engine.wait(now + 900_000_000)]  # told once
    for item in as_items(web, [], [50]):
        if item.first >= 200:
            events += engine.add(item)
    events += [*flushed, *engine.finish()]
    assert (200, 220, "standstill") in covered(events)
    assert StateChange(line=220, state="running") in events
    assert engine.tally.judged == 480


def test_i8_a_standstill_is_seen_by_the_time_of_lines_though_the_network_was_busy_meanwhile() -> None:
    web = draw_web(500, seed=4)
    waited = WebEngine(make_plan(), Brightness(), settings(flush_after_s=0.5, after_standstill=20))
    busy = WebEngine(make_plan(), Brightness(), settings(flush_after_s=0.5, after_standstill=20))
    late = 600_000_000
    told: dict[WebEngine, list[Event]] = {waited: [], busy: []}
    for item in as_items(web, [], [50]):
        assert isinstance(item, Lines)
        moved = replace(item, received_ns=item.received_ns + (late if item.first >= 200 else 0))
        if item.first == 200:
            told[waited] += waited.wait(item.received_ns + 550_000_000)
        for engine, events in told.items():
            events.extend(engine.add(moved))
    for engine, events in told.items():
        events.extend(engine.finish())
        assert (200, 220, "standstill") in covered(events)
    assert [*map(comparable, told[busy])] == [*map(comparable, told[waited])]


@pytest.mark.parametrize(("level", "state"), [(0, "no light"), (255, "saturated"), (40, "no web")])
def test_i9_lines_without_light_or_web_are_states_and_unjudged(level: int, state: str) -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[200:300] = level
    light = Light(background=(30, 50))
    events, _, _, engine = run(web, make_plan(), [64], light=light)
    assert (200, 300, state) in covered(events)
    changes = [(event.line, event.state) for event in events if isinstance(event, StateChange)]
    assert changes == [(200, state), (300, "running")]
    assert (engine.tally.lost, engine.tally.outside) == (
        ({}, 100) if state == "no web" else ({state: 100}, 0)
    )


def test_i9_a_few_dark_lines_may_be_a_defect_and_are_judged() -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[200:207], web[300:308] = 0, 0
    _, _, _, engine = run(web, make_plan(), [64], light=Light(run=8))
    assert engine.tally.lost == {"no light": 8}


def test_i10_the_alarm_comes_with_the_first_final_line_and_the_record_once_at_the_end() -> None:
    web = np.full((1500, 100), 100, np.uint8)
    web[400:1200, 40:52] = 220
    engine, plan = WebEngine(make_plan(), Brightness(), settings()), make_plan()
    told: list[tuple[int, Event]] = []
    for item in as_items(web, [], [8]):
        told += [(item.stop, event) for event in engine.add(item)]
    ((at, begun),) = [(line, event) for line, event in told if isinstance(event, DefectBegun)]
    ((end, defect),) = [(line, event) for line, event in told if event in defects_of([event])]
    assert isinstance(begun, DefectBegun)
    assert at - begun.first <= plan.tile + 8
    assert end > 1200 > at
    assert begun.number == defect.number == 1


def test_i10_a_tile_that_is_anomalous_by_its_score_alone_is_a_defect_where_it_is_hottest() -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[200:206, 40:46] = 140
    events, _, _, _ = run(web, make_plan(), [64], rule=Rule(0.05, None), region_threshold=0.9)
    (defect,) = defects_of(events)
    assert defect.decided_by == "score"
    assert 200 <= defect.first < defect.stop <= 206
    assert defect.left <= 42 < defect.right
    assert defect.score >= 0.05
    assert not defects_of(run(web, make_plan(), [64], rule=Rule(0.9, None), region_threshold=0.9)[0])


def test_i10_a_tile_that_is_anomalous_by_its_score_tells_nothing_beside_the_web() -> None:
    """Its hottest place is the table; what it tells is the hottest place of the web."""
    web = np.full((300, 100), 100, np.uint8)
    web[:, 80:] = 230
    web[150:156, 40:46] = 140
    light = Light(background=(200, 255), covered=0.99)
    events, _, _, _ = run(web, make_plan(), [64], rule=Rule(0.9, None), light=light, edge_margin=4)
    assert defects_of(events)
    assert all(defect.right <= 80 - 4 for defect in defects_of(events))


@pytest.mark.parametrize("seed", SEEDS)
def test_i11_at_any_moment_the_events_alone_tell_where_the_roll_is_and_what_is_open(seed: int) -> None:
    """What a log of events holds when the process dies: the next one goes on behind it, with the hole as a loss."""
    web, rng = draw_web(900, seed=seed, defects=12), np.random.default_rng(seed)
    engine = WebEngine(make_plan(), Brightness(), settings())
    log: list[Event] = []
    for item in as_items(web, [], cut_randomly(900, rng)):
        for event in engine.add(item):
            log.append(event)
        final = max((event.stop for event in log if isinstance(event, Judged)), default=0)
        assert final == engine.tally.judged
        begun = {event.number for event in log if isinstance(event, DefectBegun)}
        told = {
            number
            for event in defects_of(log)
            if not event.continues
            for number in (event.number, *event.joined)
        }
        assert told <= begun
        assert engine.tally.defects == len({event.number for event in defects_of(log)})
    again = WebEngine(make_plan(), Brightness(), settings())
    events = [*again.add(Lost(first=0, stop=700, reason="restart"))]
    for item in as_items(web, [], [50]):
        if item.first >= 700:
            events += again.add(item)
    events += again.finish()
    assert covered(events)[0] == (0, 700, "restart")
    assert again.tally.judged == 200


def test_i12_events_are_json_and_their_counts_are_those_of_the_account() -> None:
    web = draw_web(900, seed=3)
    web[300:340] = 0
    events, _, _, engine = run(web, make_plan(), [64], [Lost(first=500, stop=520, reason="blocks")])
    rows = [json.loads(json.dumps(event_dict(event), allow_nan=False)) for event in events]
    judged = [row for row in rows if row["event"] == "judged"]
    assert sum(row["last_line"] - row["first_line"] + 1 for row in judged) == engine.tally.judged
    lost = {row["reason"]: row["lines"] for row in rows if row["event"] == "gap"}
    assert lost == engine.tally.lost == {"no light": 40, "blocks": 20}
    assert len({row["number"] for row in rows if row["event"] == "defect"}) == engine.tally.defects > 0


def test_a_picture_shows_the_defect_and_its_map() -> None:
    web = np.full((600, 100), 100, np.uint8)
    web[295:309, 40:52] = 220
    events, _, _, _ = run(web, make_plan(), [64])
    (defect,) = defects_of(events)
    assert defect.pictures is not None
    top, left = defect.pictures.first, defect.pictures.left
    height, width = defect.pictures.pixels.shape
    np.testing.assert_array_equal(defect.pictures.pixels, web[top : top + height, left : left + width])
    assert top <= 295 - 20
    assert top + height >= 309
    assert defect.pictures.anomaly_map.max() == np.float32(defect.peak)


@pytest.mark.parametrize(
    "make", [lambda web: np.repeat(web[..., None], 3, axis=2), lambda web: web.astype(np.uint16) << 8]
)
def test_colour_and_16_bits_are_taken(make: Callable[[np.ndarray], np.ndarray]) -> None:
    web = draw_web(400, seed=6)
    events, _, _, _ = run(make(web), make_plan(), [64])
    expected, _, _, _ = run(web, make_plan(), [64])
    assert [(d.first, d.stop) for d in defects_of(events)] == [
        (d.first, d.stop) for d in defects_of(expected)
    ]


def test_lines_of_another_width_or_place_are_refused_in_words() -> None:
    engine = WebEngine(make_plan(), Brightness(), settings())
    with pytest.raises(FrameError, match=r"lines must be \(100,\) as planned, got \(90,\)"):
        [*engine.add(Lines(first=0, pixels=np.zeros((4, 90), np.uint8), received_ns=LINE_NS))]
    with pytest.raises(FrameError, match="lines must go on at 0, got 7"):
        [*engine.add(Lost(first=7, stop=9, reason="blocks"))]


def test_settings_that_mean_nothing_are_refused() -> None:
    for name, value in (("max_batch", 0), ("longest", 0), ("after_standstill", -1), ("flush_after_s", 0.0)):
        with pytest.raises(InputError, match=name):
            settings(**{name: value})
    assert settings().rule == RULE

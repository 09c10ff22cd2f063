"""A drawn web is the same however it is cut, its defects are where it says, and it is delivered as a camera would."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from cameras import Clock, blocks_of

from acl_runtime.files.errors import InputError
from acl_runtime.sources.address import parse_address
from acl_runtime.sources.block import Block
from acl_runtime.sources.drawn import DrawnSource
from acl_runtime.sources.drawn_web import DrawnWeb, WebOptions
from acl_runtime.sources.lines import open_line_source


def drawn(text: str, clock: Clock | None = None) -> DrawnSource:
    clock = clock or Clock()
    return DrawnSource(parse_address(text), clock=clock, sleep=clock.sleep)


def read_all(source: DrawnSource) -> list[Block]:
    return list(blocks_of(source))


def whole(text: str) -> np.ndarray:
    return np.concatenate([block.lines for block in read_all(drawn(text))])


@pytest.mark.parametrize("format", ["mono8", "mono16", "bgr8"])
@pytest.mark.parametrize("height", [1, 7, 64, 1500, 4096])
def test_any_block_height_gives_the_same_web(format: str, height: int) -> None:
    web = f"drawn:3?width=200&lines=2600&defects_per_m=30&neps_per_m=50&roller=500&margin=20&wander=9&format={format}"
    want = whole(f"{web}&height=4096")
    assert want.shape[0] == 2600
    np.testing.assert_array_equal(whole(f"{web}&height={height}"), want)


def test_a_line_needs_no_line_before_it() -> None:
    options = WebOptions(width=128, defects_per_m=50)
    late, all_of_it = np.empty((10, 128), np.uint8), np.empty((9000, 128), np.uint8)
    DrawnWeb(5, options).lines(8990, late)
    DrawnWeb(5, options).lines(0, all_of_it)
    np.testing.assert_array_equal(late, all_of_it[8990:])


def test_the_defects_are_where_the_web_differs_from_one_without() -> None:
    lines = 30_000
    options = {"width": 256, "margin": 30, "wander": 10, "roller": 4000}
    bare, marked = (np.empty((lines, 256), np.uint8) for _ in range(2))
    web = DrawnWeb(1, WebOptions(**options, defects_per_m=8))  # type: ignore[arg-type]
    web.lines(0, marked)
    DrawnWeb(1, WebOptions(width=256, margin=30, wander=10, defects_per_m=0)).lines(0, bare)
    covered = np.zeros(bare.shape, bool)
    defects = web.defects(0, lines)
    for defect in defects:
        part = np.s_[defect.first : defect.last, defect.left : defect.right]
        difference = marked[part].astype(int) - bare[part]
        assert abs(difference).max() > 20
        assert (abs(difference)[:, [0, -1]] > 0).any(
            axis=0
        ).all() or defect.kind == "stain"  # box fits tightly
        covered[part] = True
    assert len({defect.kind for defect in defects}) == 6
    assert len(defects) == pytest.approx(8 * 3 + 8, abs=12)
    np.testing.assert_array_equal(bare[~covered], marked[~covered])


def test_neps_are_drawn_small_and_faint_and_are_no_defects() -> None:
    bare, knotted = (np.empty((10_000, 256), np.uint8) for _ in range(2))
    DrawnWeb(1, WebOptions(width=256, defects_per_m=0)).lines(0, bare)
    web = DrawnWeb(1, WebOptions(width=256, defects_per_m=0, neps_per_m=50))
    web.lines(0, knotted)
    assert web.defects(0, 10_000) == []
    difference = knotted.astype(int) - bare
    assert 20 < abs(difference).max() < 80  # where two meet
    count, *_ = cv2.connectedComponents((difference != 0).astype(np.uint8))
    assert 30 < count - 1 < 70


def test_the_web_is_not_the_same_again_and_another_seed_is_another_web() -> None:
    web = whole("drawn:3?width=256&lines=8192&defects_per_m=0")
    periods = web.reshape(8, 1024, 256)
    assert len({period.tobytes() for period in periods}) == 8
    assert not np.array_equal(web, whole("drawn:4?width=256&lines=8192&defects_per_m=0"))


def test_edges_wander_and_beside_them_it_is_dark() -> None:
    web = DrawnWeb(0, WebOptions(width=300, margin=50, wander=40, defects_per_m=0))
    for line in (0, 5000, 12_000, 15_000):
        out = np.empty((1, 300), np.uint8)
        web.lines(line, out)
        left, right = web.edges(line)
        inside = out[0] > 60
        assert (np.flatnonzero(inside)[0], np.flatnonzero(inside)[-1] + 1) == (left, right)
        assert inside.sum() == 200
    assert (web.edges(5000)[0], web.edges(15_000)[0]) == (90, 10)


def test_lost_blocks_leave_a_gap_or_come_incomplete_with_stale_lines() -> None:
    blocks = read_all(drawn("drawn:2?width=64&height=8&lines=64000&loss=0.1"))
    complete = [block for block in blocks if block.complete]
    incomplete = [block for block in blocks if not block.complete]
    unnumbered = [block for block in incomplete if block.number is None]
    never = 8000 - len(blocks)
    for count, share in ((never, 0.05), (len(incomplete), 0.05), (len(unnumbered), 0.025)):
        assert count == pytest.approx(8000 * share, rel=0.2)
    truth = whole("drawn:2?width=64&height=8&lines=64000")
    for block in complete:
        assert block.number is not None
        first = 8 * (block.number - 1)
        np.testing.assert_array_equal(block.lines, truth[first : first + 8])
    numbered = [block for block in incomplete if block.number is not None]
    assert all(
        not np.array_equal(block.lines, truth[8 * (block.number - 1) :][:8])  # type: ignore[operator]
        for block in numbered
    )


def test_the_same_losses_come_again() -> None:
    numbers = [
        [block.number for block in read_all(drawn("drawn:2?width=16&height=1&lines=2000&loss=0.3"))]
        for _ in range(2)
    ]
    assert numbers[0] == numbers[1]


def test_numbers_go_from_65535_to_1() -> None:
    source = drawn("drawn:0?width=16&height=1&defects_per_m=0")
    blocks = [source.read(1.0) for _ in range(65537)]
    assert [block.number for block in blocks[-3:] if block] == [65535, 1, 2]


def test_blocks_come_at_the_rate_and_none_before_its_time() -> None:
    clock = Clock()
    source = drawn("drawn:0?width=16&height=10&rate=1000&encoder=4", clock)
    assert source.read(0.005) is None  # the tenth line is exposed after 9 ms
    blocks = [source.read(1.0) for _ in range(100)]
    assert clock.now == pytest.approx(100.0 + 0.999)
    assert [block.exposed_ns for block in blocks if block] == [10_000_000 * index for index in range(100)]
    assert [block.first_encoder for block in blocks if block] == [40 * index for index in range(100)]
    assert [block.received_ns - 100e9 for block in blocks if block] == pytest.approx(
        [1e6 * (10 * index + 9) for index in range(100)]
    )


def test_the_web_speeds_up_and_stands_still() -> None:
    clock = Clock()
    source = drawn("drawn:0?width=16&height=100&rate=1000@0,1000@2000,4000@5000&stop=1000:60", clock)
    times = []
    for _ in range(70):
        while source.read(1.0) is None:
            pass
        times.append(clock.now - 100)
    steps = np.diff(times)
    assert times[9] == pytest.approx(0.999)
    assert steps[9] == pytest.approx(60.1)  # it stands before line 1000
    np.testing.assert_allclose(steps[10:19], 0.1)
    assert (np.diff(steps[20:49]) < 0).all()  # line by line a little faster
    np.testing.assert_allclose(steps[51:], 100 / 4000, rtol=1e-6)
    assert times[49] - times[19] == pytest.approx(0.001 + np.log(3999 / 1000))  # dt = dn / (n - 1000)


def test_a_slow_reader_loses_the_newest_and_the_numbers_tell() -> None:
    clock = Clock()
    source = drawn("drawn:0?width=16&height=10&rate=1000&buffers=4", clock)
    assert source.read(1.0) is not None
    clock.sleep(0.2)  # 20 blocks
    blocks = [source.read(1.0) for _ in range(6)]
    assert [block.number for block in blocks if block] == [2, 3, 4, 5, 22, 23]


def test_it_is_drawn_faster_than_cameras_run() -> None:
    source = drawn("drawn:7?width=2048&height=64")
    source.read(1.0)
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(50):
            source.read(1.0)
        best = max(best, 50 * 64 / (time.process_time() - began))
    assert best > 50_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("drawn:x", "the seed must be a whole number such as drawn:7, got 'x'"),
        (
            "drawn:1?widht=8",
            r"has no option widht \(did you mean width\?\); there are height, rate, .*width",
        ),
        ("drawn:1?width=8", "width must be 16 to 65536, got 8"),
        ("drawn:1?loss=2", "loss must be 0 to 0.9, got 2.0"),
        ("drawn:1?loss=nan", "loss must be a number, got nan"),
        ("drawn:1?width=64&width=65", "gives width twice"),
        ("drawn:1?width", "what follows \\? must be KEY=VALUE&KEY=VALUE, got 'width'"),
        ("drawn:1?rate=-5", "rate must be above 0 at every line"),
        ("drawn:1?rate=5@0,7", "rate must be numbers such as NUMBER@NUMBER,NUMBER@NUMBER, got 7"),
        ("drawn:1?rate=5@3", "rate must begin at line 0"),
        ("drawn:1?rate=5@0,7@9,7@9", "rate must name lines in order, none twice"),
        ("drawn:1?stop=10:1", "stop needs a rate"),
        ("drawn:1?margin=9&wander=10", "wander must be 0 to 9, got 10"),
        ("drawn:1?format=jpeg", "format must be one of mono8, mono16, bgr8, got jpeg"),
        ("dawn:1", r"no source is called dawn \(did you mean drawn\?\); there are .*drawn:SEED"),
    ],
)
def test_what_is_wrong_with_the_text_is_said(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        open_line_source(text)


def test_settings_of_a_camera_are_refused_where_there_is_none() -> None:
    with pytest.raises(InputError, match="drawn:1: has no GenICam settings \\(Gain\\); leave them out"):
        open_line_source("drawn:1", [("Gain", "2")])


def test_closing_twice_is_no_error() -> None:
    source = open_line_source("drawn:1")
    source.close()
    source.close()

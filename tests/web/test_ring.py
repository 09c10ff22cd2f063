"""Lines from a camera's thread to the judge: in order, never more than the ring holds, each one accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from webs import LINE_NS, ArraySource, draw_web

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.block import LineSource
from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.ring import MOST_ITEMS, LineRing, Reader

WIDTH = 5


def numbered(first: int, count: int) -> Lines:
    pixels = np.repeat(np.arange(first, first + count, dtype=np.uint16)[:, None], WIDTH, axis=1)
    return Lines(first=first, pixels=pixels, received_ns=(first + count) * LINE_NS)


def drain(ring: LineRing) -> list[tuple[int, int, str]]:
    """All that is there; lines that were seen are in their place."""
    spans: list[tuple[int, int, str]] = []
    while (item := ring.take(0)) is not None:
        if isinstance(item, Lines):
            assert item.pixels[:, 0].tolist() == list(range(item.first, item.stop))
        spans.append((item.first, item.stop, "seen" if isinstance(item, Lines) else item.reason))
    return spans


def take_all(ring: LineRing) -> Iterator[Lines | Lost]:
    """All that comes until the ring ends."""
    while True:
        try:
            item = ring.take(0.05)
        except EOFError:
            return
        if item is not None:
            yield item


def merged(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    whole: list[tuple[int, int, str]] = []
    for first, stop, what in spans:
        if whole and whole[-1][1:] == (first, what):
            whole[-1] = (whole[-1][0], stop, what)
        else:
            whole.append((first, stop, what))
    return whole


@pytest.mark.parametrize("seed", range(8))
def test_what_is_put_is_taken_in_order_or_lost_as_too_slow(seed: int) -> None:
    rng, ring = np.random.default_rng(seed), LineRing(100, waits=False)
    at = 0
    spans: list[tuple[int, int, str]] = []
    for _ in range(300):
        count = int(rng.integers(1, 40))
        lost = Lost(first=at, stop=at + count, reason="packets")
        ring.put(lost if rng.random() < 0.2 else numbered(at, count))
        at += count
        if rng.random() < 0.4 and (item := ring.take(0)) is not None:
            if isinstance(item, Lines):
                assert item.pixels[:, 0].tolist() == list(range(item.first, item.stop))
            spans.append((item.first, item.stop, "seen" if isinstance(item, Lines) else item.reason))
    spans = merged(spans + drain(ring))
    assert [first for first, _, _ in spans] == [0, *(stop for _, stop, _ in spans[:-1])]
    assert spans[-1][1] == at
    assert {"seen", "packets", "too slow"} == {what for _, _, what in spans}


def test_a_full_ring_keeps_the_oldest_and_loses_what_comes() -> None:
    ring = LineRing(100, waits=False)
    for first in range(0, 300, 50):
        ring.put(numbered(first, 50))
    assert merged(drain(ring)) == [(0, 100, "seen"), (100, 300, "too slow")]
    assert 0 < ring.kept_up < 1
    ring.put(numbered(300, 50))
    assert drain(ring) == [(300, 350, "seen")]


def test_memory_is_what_the_formula_says_however_long_nobody_takes() -> None:
    ring = LineRing(100, waits=False)
    for index in range(20_000):
        item = Lost(first=10 * index, stop=10 * index + 10, reason="blocks") if index % 2 else numbered(0, 10)
        ring.put(
            item if isinstance(item, Lost) else Lines(first=10 * index, pixels=item.pixels, received_ns=index)
        )
    assert ring.nbytes == 100 * WIDTH * 2
    spans = []
    while (taken := ring.take(0)) is not None:
        spans.append((taken.first, taken.first + (taken.stop - taken.first)))
    assert len(spans) <= MOST_ITEMS + 2
    assert sum(stop - first for first, stop in spans) == 200_000


def test_lines_one_by_one_are_taken_together() -> None:
    """A camera with a Height of 1 costs no more than another."""
    ring = LineRing(800, waits=False)
    for first in range(700):
        ring.put(numbered(first, 1))
    spans = drain(ring)
    assert [(first, stop) for first, stop, _ in spans] == [
        (first, first + 100) for first in range(0, 700, 100)
    ]


def test_lines_from_before_and_after_a_standstill_are_not_taken_together() -> None:
    ring = LineRing(800, waits=False)
    for first in range(0, 60, 20):
        pixels = numbered(first, 20).pixels
        ring.put(Lines(first=first, pixels=pixels, received_ns=first * LINE_NS + 10**9 * (first >= 40)))
    assert [(first, stop) for first, stop, _ in drain(ring)] == [(0, 40), (40, 60)]


def test_a_slow_camera_of_single_lines_fills_the_whole_ring() -> None:
    ring = LineRing(8000, waits=False)
    for first in range(8000):
        ring.put(Lines(first=first, pixels=numbered(first, 1).pixels, received_ns=20_000_000 * first))
    assert merged(drain(ring)) == [(0, 8000, "seen")]


def test_a_source_that_waits_loses_nothing() -> None:
    ring, total = LineRing(64, waits=True), 5000

    def fill() -> None:
        for first in range(0, total, 20):
            ring.put(numbered(first, 20))
        ring.end(EOFError())

    thread = threading.Thread(target=fill)
    thread.start()
    seen = 0
    for item in take_all(ring):
        assert isinstance(item, Lines)
        assert item.first == seen
        seen = item.stop
    thread.join()
    assert seen == total
    assert ring.kept_up == 1


def test_blocks_that_cannot_be_held_are_refused_in_words() -> None:
    ring = LineRing(10, waits=False)
    ring.put(numbered(0, 5))
    with pytest.raises(SourceError, match="a block must have at most 10 lines, which the ring holds, got 11"):
        ring.put(numbered(5, 11))
    with pytest.raises(
        SourceError, match=r"lines must be \(5,\) uint16 like the first ones, got \(7,\) uint8"
    ):
        ring.put(Lines(first=5, pixels=np.zeros((1, 7), np.uint8), received_ns=0))
    with pytest.raises(InputError, match="capacity must be at least 1"):
        LineRing(0, waits=False)


def read_all(
    source: ArraySource, reopen: Callable[[], LineSource]
) -> tuple[list[tuple[int, int, str]], list[str]]:
    ring = LineRing(4000, waits=True)
    said: list[str] = []
    reader = Reader(source, ring, reopen, say=said.append)
    spans: list[tuple[int, int, str]] = []
    for item in take_all(ring):
        spans.append((item.first, item.stop, "seen" if isinstance(item, Lines) else item.reason))
    reader.close()
    assert "line reader" not in {each.name for each in threading.enumerate()}
    return merged(spans), said


def test_a_reader_accounts_for_blocks_that_are_lost() -> None:
    source = ArraySource(draw_web(320, WIDTH), fates={2: "packets", 5: "blocks"})
    spans, said = read_all(source, lambda: source)
    assert spans == [
        *((0, 64, "seen"), (64, 96, "packets"), (96, 160, "seen"), (160, 192, "blocks"), (192, 320, "seen")),
    ]
    assert not said
    assert source.closed == 1


def test_a_source_that_breaks_is_opened_again_and_the_hole_is_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acl_runtime.web.ring.PAUSES_S", (0.01,))
    first = ArraySource(draw_web(320, WIDTH), fates={3: "breaks"})
    second = ArraySource(first.web, index=6, name="array:again")
    tries: list[int] = []

    def reopen() -> LineSource:
        tries.append(1)
        if len(tries) < 3:
            raise SourceError("array: is away")
        return second

    spans, said = read_all(first, reopen)
    assert spans == [(0, 96, "seen"), (96, 192, "restart"), (192, 320, "seen")]
    assert said == [
        "array: the cable was pulled out; it is opened again as soon as it is back",
        "array:again: is back",
    ]
    assert (first.closed, second.closed, len(tries)) == (1, 1, 3)


def test_an_error_in_the_reader_is_raised_where_lines_are_taken() -> None:
    class Broken(ArraySource):
        def read(self, timeout_s: float) -> None:
            raise ZeroDivisionError("a bug")

    source, ring = Broken(draw_web(32, WIDTH)), LineRing(100, waits=False)
    reader = Reader(source, ring, lambda: source)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        ring.take(2)
    reader.close()
    assert source.closed == 1


def test_a_reader_stops_at_once_though_the_ring_is_full() -> None:
    source, ring = ArraySource(draw_web(4000, WIDTH)), LineRing(64, waits=True)
    reader = Reader(source, ring, lambda: source)
    time.sleep(0.05)
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 1
    assert source.closed == 1

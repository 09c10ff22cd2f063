"""GigE Vision packets into the engine: each line judged once in its place, or lost, and no old line for a new one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from fake_gige import ADDRESS, FakeCamera, loopback_only, numbered_lines, numbers_of
from webs import make_plan, settings

from acl_runtime.detection.brief import Answer
from acl_runtime.inspection.web import inspect_web
from acl_runtime.sources.block import LineSource
from acl_runtime.sources.lines import open_line_source
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Event, Judged
from acl_runtime.web.ring import LineRing, Reader


@dataclass(frozen=True)
class Shape:
    """Of a camera's blocks, and the tiles that they are judged in."""

    width: int = 1024
    height: int = 64
    tile: int = 48

    def open_camera(self) -> LineSource:
        sizes = (("Width", str(self.width)), ("Height", str(self.height)), ("ExposureTimeAbs", "10"))
        return open_line_source(
            f"aravis:{ADDRESS}?packet=3000&buffers=32", [*sizes, ("AcquisitionFrameRate", "200")]
        )

    def plan(self) -> WebPlan:
        return make_plan(self.width, tile=self.tile, overlap=self.tile // 4, image_size=self.tile)


LARGE, SMALL = Shape(), Shape(256, 8, 16)  # blocks of 26 packets, and of one
BLOCKS = 150  # their numbers pass 65535 meanwhile
Seen = list[tuple[int, npt.NDArray[np.uint8]]]


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    with loopback_only():
        yield


@dataclass
class Pausing:
    """A network that finds nothing, and hangs for a while now and then."""

    size: int
    pause_s: float = 0.0
    calls: int = 0

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
        self.calls += 1
        if self.pause_s and self.calls % 80 == 0:
            time.sleep(self.pause_s)
        return [(-5.0, np.zeros((self.size, self.size), np.float32))] * len(tiles)


def make_engine(shape: Shape, seen: Seen, pause_s: float = 0.0) -> WebEngine:
    return WebEngine(
        shape.plan(),
        Pausing(shape.tile, pause_s),
        settings(flush_after_s=30.0, max_batch=32),
        see_lines=lambda first, lines: seen.append((first, lines.copy())),
    )


def check_account(engine: WebEngine, events: Sequence[Event]) -> None:
    """Each line once, judged or lost."""
    spans = sorted((event.first, event.stop) for event in events if isinstance(event, (Judged, Lost)))
    assert [first for first, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == engine.exposed == engine.tally.accounted


def check_places(seen: Seen, fake: FakeCamera, shape: Shape) -> None:
    """Each judged line is in its place, and none of a buffer's last use; all are of this camera."""
    first, lines = seen[0]
    origin = int(numbers_of(lines)[0]) - first
    for first, lines in seen:
        truth = np.empty((len(lines), shape.width), np.uint8)
        numbered_lines(fake.web, origin + first, truth)
        np.testing.assert_array_equal(lines, truth)


@pytest.mark.parametrize(
    ("lost", "shape", "pause_s", "ring_lines"),
    [
        (0.0, LARGE, 0.0, 20_000),
        (0.005, LARGE, 0.5, 1500),
        (0.1, SMALL, 0.0, 20_000),
        (0.3, SMALL, 0.0, 20_000),
    ],
)
def test_every_line_is_judged_once_in_its_place_or_lost(
    lost: float, shape: Shape, pause_s: float, ring_lines: int
) -> None:
    fake = FakeCamera("ENG01", shape.width, shape.height, lost=lost)
    seen: Seen = []
    engine, ring = make_engine(shape, seen, pause_s), LineRing(ring_lines, waits=False)
    reader = Reader(shape.open_camera(), ring, shape.open_camera)
    events = [*inspect_web(engine, ring, reader, most_lines=BLOCKS * shape.height)]
    fake.close()
    check_account(engine, events)
    assert engine.exposed == BLOCKS * shape.height
    check_places(seen, fake, shape)
    assert sum(len(lines) for _, lines in seen) == engine.tally.judged > 0
    if pause_s:
        assert engine.tally.lost["too slow"] > 0
    if lost:
        missing = engine.tally.lost.get("packets", 0) + engine.tally.lost.get("blocks", 0)
        assert missing > lost * engine.exposed * (shape is SMALL)
        assert missing > 0


def test_a_camera_that_is_killed_and_started_again_leaves_a_hole_and_is_judged_on() -> None:
    """The new one counts its blocks and lines anew."""
    fakes = [FakeCamera("ENG02", SMALL.width, SMALL.height)]
    seen: Seen = []
    notes: list[str] = []
    events: list[Event] = []
    engine, ring = make_engine(SMALL, seen), LineRing(20_000, waits=False)
    reader = Reader(SMALL.open_camera(), ring, SMALL.open_camera, say=notes.append)

    def is_enough() -> bool:
        restarts = [event.stop for event in events if isinstance(event, Lost) and event.reason == "restart"]
        return bool(restarts) and engine.exposed > restarts[0] + 300

    for event in inspect_web(engine, ring, reader, stopped=is_enough):
        events.append(event)
        if len(fakes) == 1 and engine.tally.judged > 300:
            fakes[0].close()
            fakes.append(FakeCamera("ENG02", SMALL.width, SMALL.height))
            fakes[1].line = 1_000_000
    fakes[1].close()
    check_account(engine, events)
    (hole,) = [event for event in events if isinstance(event, Lost) and event.reason == "restart"]
    assert hole.estimated
    assert hole.stop - hole.first > 100  # at 1600 lines/s, as long as Aravis takes to notice
    before, after = (
        [each for each in seen if (each[0] >= hole.stop) == is_after] for is_after in (False, True)
    )
    check_places(before, fakes[0], SMALL)
    check_places(after, fakes[1], SMALL)
    assert int(numbers_of(after[0][1])[0]) >= 1_000_000
    assert ["does not answer any more" in notes[0], "is back" in notes[1]] == [True, True]

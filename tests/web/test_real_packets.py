"""GigE Vision packets into the engine: each line judged once in its place, or lost, and no old line for a new one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from fake_gige import ADDRESS, FakeCamera, loopback_only, numbered_lines, numbers_of
from webs import Brightness, make_plan, settings

from acl_runtime.detection.stages import Answer
from acl_runtime.inspection.web import inspect_web
from acl_runtime.sources.block import LineSource
from acl_runtime.sources.lines import open_line_source
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.records import Judged
from acl_runtime.web.ring import LineRing, Reader

WIDTH, HEIGHT = 1024, 64
LINES = 64 * 150  # the numbers of the blocks pass 65535 meanwhile


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    with loopback_only():
        yield


def open_camera() -> LineSource:
    return open_line_source(
        f"aravis:{ADDRESS}?packet=3000&buffers=32",
        [
            *(("Width", str(WIDTH)), ("Height", str(HEIGHT)), ("ExposureTimeAbs", "10")),
            ("AcquisitionFrameRate", "150"),
        ],
    )


class Pausing(Brightness):
    """A network that hangs for a while now and then."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self._pause_s = pause_s

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
        answers = [(-5.0, np.zeros((48, 48), np.float32))] * len(tiles)
        self.calls.append(len(tiles))
        if self._pause_s and len(self.calls) % 80 == 0:
            time.sleep(self._pause_s)
        return list(answers)


@pytest.mark.parametrize(
    ("lost", "pause_s", "ring_lines"),
    [(0.0, 0.0, 20_000), (0.005, 0.0, 20_000), (0.03, 0.0, 20_000), (0.005, 0.5, 1500)],
)
def test_every_line_is_judged_once_in_its_place_or_lost(lost: float, pause_s: float, ring_lines: int) -> None:
    fake = FakeCamera("ENG01", WIDTH, HEIGHT, lost=lost)
    seen: list[tuple[int, npt.NDArray[np.uint8]]] = []
    engine = WebEngine(
        make_plan(WIDTH),
        Pausing(pause_s),
        settings(flush_after_s=30.0, max_batch=32),
        see_lines=lambda first, lines: seen.append((first, lines.copy())),
    )
    ring = LineRing(ring_lines, waits=False)
    reader = Reader(open_camera(), ring, open_camera)
    events = [*inspect_web(engine, ring, reader, most_lines=LINES)]
    fake.close()
    spans = sorted((event.first, event.stop) for event in events if isinstance(event, (Judged, Lost)))
    assert [first for first, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == LINES == engine.tally.accounted
    first, lines = seen[0]
    origin = int(numbers_of(lines)[0]) - first
    for first, lines in seen:
        truth = np.empty((len(lines), WIDTH), np.uint8)
        numbered_lines(fake.web, origin + first, truth)
        np.testing.assert_array_equal(lines, truth)  # in its place, and none of a buffer's last use
    assert sum(len(lines) for _, lines in seen) == engine.tally.judged > 0
    if pause_s:
        assert engine.tally.lost["too slow"] > 0
    if lost:
        assert engine.tally.lost.get("packets", 0) + engine.tally.lost.get("blocks", 0) > 0

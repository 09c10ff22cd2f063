"""A station over a web: rolls without a line between them, and networks and cameras that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import SIDE, write_tiny_bundle
from recording_output import Recording
from sessions import Around
from stations import wait_until, write_station

from acl_runtime.backends.choose import open_session
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, SourceError
from acl_runtime.inspection.station.service import Station
from acl_runtime.inspection.station.station_file import CameraSection, StationSection, load_station
from acl_runtime.outputs.evidence.reader import Counts
from acl_runtime.outputs.evidence.store import EvidenceStore, Options
from acl_runtime.outputs.station import WebRecord
from acl_runtime.sources.block import Block, LineSource
from acl_runtime.sources.lines import open_line_source

TEXT = """
[[camera]]
name = "web"
source = "{source}"
[web]
mm_per_pixel = 0.1
max_size = 5
lanes = {{ left = [0, 8] }}
lane_max_size = {{ left = 4 }}
longest = 20
roll = "R-1"
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("web") / "bundle")


@dataclass
class Box:
    """What a test does to a station that runs."""

    output: Recording = field(default_factory=lambda: Recording("out"))
    breaks: list[BackendError] = field(default_factory=list)
    is_away: threading.Event = field(default_factory=threading.Event)
    calls: int = 0  # of the network
    pause_s: float = 0.0  # in each
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def records(self) -> list[WebRecord]:
        return [event for event in self.output.events if isinstance(event, WebRecord)]

    def of(self, name: str) -> list[Mapping[str, Any]]:
        return [each.record for each in self.records if each.record["event"] == name]

    def open_source(self, section: CameraSection) -> LineSource:
        if self.is_away.is_set():
            raise SourceError("the cable is out")
        return Breakable(open_line_source(section.source), self.is_away)

    def open_detector(self, section: StationSection) -> Detector:
        opened = load_bundle(section.bundle)
        session = open_session(opened)

        def call(images: np.ndarray) -> Mapping[str, np.ndarray]:
            self.calls += 1
            time.sleep(self.pause_s)
            if self.breaks:
                raise self.breaks.pop(0)
            return session(images)

        return Detector(
            opened,
            session=Around(session, call),
            threshold=section.threshold,
            tiling=Tiling(SIDE, SIDE // 4, None),
        )

    @contextmanager
    def running(self, path: Path) -> Iterator[Station]:
        failures: list[BaseException] = []
        station = Station(
            load_station(path),
            outputs=[self.output],
            open_source=self.open_source,
            open_detector=self.open_detector,
        )

        def run() -> None:
            try:
                station.run(self.stop.is_set, lambda: False)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield station
        finally:
            self.stop.set()
            thread.join(20)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


class Breakable:
    """A source that breaks when it is told that it is away."""

    def __init__(self, source: LineSource, is_away: threading.Event) -> None:
        self.name, self.width, self.height = source.name, source.width, source.height
        self.numbers, self.is_live = source.numbers, source.is_live
        self._source, self._is_away = source, is_away
        self.close: Callable[[], None] = source.close

    def read(self, timeout_s: float) -> Block | None:
        if self._is_away.is_set():
            raise SourceError("the cable is out")
        return self._source.read(timeout_s)


def lines_of(summary: Mapping[str, Any]) -> int:
    """Lines of a roll, every one accounted for."""
    lines = summary["lines"]
    assert lines["exposed"] == lines["judged"] + sum(lines["lost"].values()) + lines["outside"]
    assert lines["pending"] == 0
    return int(lines["exposed"])


@pytest.fixture
def box() -> Box:
    return Box()


def station_file(tmp_path: Path, bundle: Path, source: str, *, threshold: float = 0.5) -> Path:
    text = TEXT.format(source=source)
    return write_station(tmp_path, bundle, text, station=f"threshold = {threshold}", mode="web")


def test_rolls_follow_each_other_without_a_line_between_them(bundle: Path, tmp_path: Path, box: Box) -> None:
    path = station_file(tmp_path, bundle, f"drawn:3?width=168&lines={SIDE * 60}", threshold=0.01)  # all is NG
    box.pause_s = 0.004
    with box.running(path) as station:
        for count, name in ((1, "R-2"), (2, "R-3")):
            wait_until(lambda count=count: len(box.of("roll")) == count and box.calls > 15 * count, "calls")  # type: ignore[misc]
            station.begin_roll()
            station.set_part_id(name)
        wait_until(lambda: len(box.of("summary")) == 3, "the end of the web")
        wait_until(lambda: box.output.statuses[-1].state == "fault", "a word of its end")
    assert [roll["name"] for roll in box.of("roll")] == ["R-1", "R-2", "R-3"]
    assert sum(map(lines_of, box.of("summary"))) == SIDE * 60
    assert [each.number for each in box.records] == list(range(1, len(box.records) + 1))
    assert box.output.statuses[-2].faults[0].endswith("has ended")
    pictures = [each.picture for each in box.records if each.record["event"] == "defect"]
    assert pictures
    assert {each["rule"] for each in box.of("rule")} == {"larger than 5 mm", "larger than 4 mm in lane left"}
    assert all(picture is not None and picture.dtype == np.uint8 for picture in pictures)
    kept = keep(box.records, tmp_path / "evidence")
    assert kept.total(verdict="ng") == len(pictures) + len(box.of("rule"))
    assert kept.total(verdict="not judged") == len(box.of("gap"))


def keep(records: list[WebRecord], folder: Path) -> Counts:
    """What an evidence store makes of records."""
    store = EvidenceStore(Options(folder=folder, keep_free_gb=0.0, most_waiting=1000))
    for record in records:
        store(record)
    store.close(20)
    assert (store.dropped, store.problem) == (0, "")
    return store.reader.counts()


def test_a_network_that_fails_loses_lines_and_none_of_them_is_forgotten(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    path = station_file(tmp_path, bundle, f"drawn:3?width=168&lines={SIDE * 40}")
    box.breaks.append(BackendError("the GPU fell off the bus"))
    with box.running(path) as station:
        wait_until(lambda: len(box.of("summary")) == 2, "the end of the web")
        assert station.status().lines_lost > 0
    first, second = box.of("summary")
    assert lines_of(first) + lines_of(second) == SIDE * 40
    assert first["lines"]["lost"]["too slow"] > 0
    assert second["lines"]["judged"] > 0
    assert [roll["name"] for roll in box.of("roll")] == ["R-1", "R-1"]


def test_a_camera_that_is_away_is_a_fault_and_is_opened_again(bundle: Path, tmp_path: Path, box: Box) -> None:
    box.is_away.set()
    with box.running(station_file(tmp_path, bundle, "drawn:3?width=168&rate=20000")):
        wait_until(lambda: box.output.statuses and box.output.statuses[-1].state == "fault", "the fault")
        box.is_away.clear()
        wait_until(lambda: box.output.statuses[-1].state == "running", "the camera")
        wait_until(lambda: box.of("judged") or box.of("defect"), "something judged")
        box.is_away.set()
        wait_until(lambda: box.output.statuses[-1].state == "fault", "the fault")
        box.is_away.clear()
        wait_until(lambda: box.output.statuses[-1].state == "running", "the camera")
    (summary,) = box.of("summary")
    assert lines_of(summary) > SIDE
    assert box.output.statuses[-1].state == "offline"


def test_a_plc_that_disables_it_ends_the_roll(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(station_file(tmp_path, bundle, "drawn:3?width=168&rate=20000")) as station:
        wait_until(lambda: box.of("roll"), "a roll")
        station.set_enabled(False)
        wait_until(lambda: box.of("summary"), "its end")
        wait_until(lambda: box.output.statuses[-1].state == "ready", "ready")
        assert len(box.of("roll")) == 1
        station.set_enabled(True)
        wait_until(lambda: len(box.of("roll")) == 2, "another")
    assert len(box.of("summary")) == 2

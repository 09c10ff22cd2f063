"""A station in this process: real bundle, real threads, cameras and engines that fail when a test says so."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from graphs import write_tiny_bundle
from recording_output import Recording
from sessions import Around
from stations import PushedCamera, load, numbers_of, verdicts_of, wait_until, write_station

from acl_runtime.backends.choose import open_session
from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.inspection.station.outputs import KINDS
from acl_runtime.inspection.station.service import Station
from acl_runtime.inspection.station.station_file import CameraSection, StationFile, StationSection
from acl_runtime.outputs.station import StationStatus
from acl_runtime.sources.block import LineSource

GATE = '[gate]\noutputs = ["gate"]\n{}\n[[output]]\nkind = "recording"\nname = "gate"\npath = "x"\n'
CAMERA = '[[camera]]\nname = "top"\nsource = "drawn:1"\ndeadline_ms = 5000\n'


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "recording", "recording_output")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("service") / "bundle")


@dataclass
class Box:
    """What a test does to a station that runs."""

    cameras: dict[str, PushedCamera] = field(default_factory=dict)
    output: Recording = field(default_factory=lambda: Recording("out"))
    gate: Recording = field(default_factory=lambda: Recording("gate"))
    hold: threading.Event = field(default_factory=threading.Event)  # calls of the network wait for it
    breaks: list[BackendError] = field(default_factory=list)  # raised by the next calls of the network
    refuses: list[BackendError] = field(default_factory=list)  # raised by the next openings
    calls: list[int] = field(default_factory=list)  # images of each
    stop: threading.Event = field(default_factory=threading.Event)
    reload: threading.Event = field(default_factory=threading.Event)
    station: Station | None = None

    def open_source(self, section: CameraSection) -> LineSource:
        return self.cameras.setdefault(section.name, PushedCamera()).open(section)

    def open_detector(self, section: StationSection) -> Detector:
        if self.refuses:
            raise self.refuses.pop(0)
        opened = load_bundle(section.bundle)
        session = open_session(opened)

        def call(images: np.ndarray) -> Mapping[str, np.ndarray]:
            self.calls.append(len(images))
            assert self.hold.wait(20)
            if self.breaks:
                raise self.breaks.pop(0)
            return session(images)

        return Detector(opened, session=Around(session, call), threshold=section.threshold)

    def take_reload(self) -> bool:
        asked = self.reload.is_set()
        self.reload.clear()
        return asked

    @contextmanager
    def running(self, file: StationFile) -> Iterator[Station]:
        """A station that runs in a thread, until the block ends."""
        failures: list[BaseException] = []
        station = Station(
            file,
            outputs=[self.output, self.gate],
            open_source=self.open_source,
            open_detector=self.open_detector,
        )

        def run() -> None:
            try:
                station.run(self.stop.is_set, self.take_reload)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: _has_begun(station.status()) or failures, "its cameras")
        try:
            yield station
        finally:
            self.stop.set()
            thread.join(20)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


def _has_begun(status: StationStatus) -> bool:
    return status.state != "starting" and all(status.cameras.values())


def last_number(station: Station) -> int:
    return station._numbers.last


@pytest.fixture
def box() -> Box:
    made = Box()
    made.hold.set()
    return made


def test_cameras_share_the_engine_and_every_part_is_told_once(bundle: Path, tmp_path: Path, box: Box) -> None:
    file = load(tmp_path, bundle, CAMERA + CAMERA.replace("top", "side"))
    with box.running(file) as station:
        station.set_part_id("P-7")
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.calls, "the first call")
        for _ in range(2):
            box.cameras["top"].push()
            box.cameras["side"].push()
        wait_until(lambda: last_number(station) == 5, "five parts")
        box.hold.set()
        wait_until(lambda: len(box.output.parts) == 5, "five verdicts")
    assert box.calls[:2] == [1, 3]  # of both cameras together, as many as the bundle takes
    parts = box.output.parts
    assert sorted(numbers_of(parts)) == [1, 2, 3, 4, 5]
    assert {part.verdict for part in parts} <= {"ok", "ng"}
    first = {camera: next(part for part in parts if part.camera == camera) for camera in ("top", "side")}
    assert (first["top"].part_id, first["side"].part_id) == ("P-7", "P-7")
    assert [part.part_id for part in parts if part not in first.values()] == ["", "", ""]
    assert box.output.statuses[-1].state == "offline"
    assert box.output.statuses[-1].judged == 5


def test_a_part_is_not_judged_once_its_deadline_is_over_and_never_ok_afterwards(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    file = load(tmp_path, bundle, CAMERA.replace("5000", "60"))
    with box.running(file):
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.output.parts, "a verdict although the network hangs")
        assert verdicts_of(box.output) == [(1, "not judged", "not judged by the deadline")]
        assert 60 <= box.output.parts[0].latency_ms < 5000
        box.hold.set()
        box.cameras["top"].push()
        wait_until(lambda: len(box.output.parts) == 2, "the next")
    assert [part.number for part in box.output.parts] == [1, 2]
    assert box.output.statuses[-1].not_judged == 1


def test_a_network_that_fails_is_opened_again_and_parts_meanwhile_are_not_judged(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        box.breaks.append(BackendError("the GPU fell off the bus"))
        box.refuses += [BackendError("no GPU is there")] * 2
        box.cameras["top"].push()
        wait_until(lambda: len(box.output.parts) == 1, "the verdict of the part in hand")
        wait_until(lambda: station.status().state == "fault", "the fault")
        box.cameras["top"].push()
        wait_until(lambda: len(box.output.parts) == 2, "the verdict of one that came meanwhile")
        wait_until(lambda: not station.engine.problem, "the engine")
        box.cameras["top"].push()
        wait_until(lambda: len(box.output.parts) == 3, "a verdict again")
        wait_until(lambda: box.output.statuses[-1].state == "running", "the station")
    assert [part.verdict for part in box.output.parts[:2]] == ["not judged"] * 2
    assert box.output.parts[0].reason == "the network failed: the GPU fell off the bus"
    assert box.output.parts[2].verdict in ("ok", "ng")
    states = [status.state for status in box.output.statuses]
    assert states.index("running") < states.index("fault") < len(states) - 1 - states[::-1].index("running")


def test_a_camera_that_is_away_is_a_fault_until_it_is_back(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)):
        box.cameras["top"].break_down()
        wait_until(lambda: any(status.state == "fault" for status in box.output.statuses), "a fault")
        fault = next(status for status in box.output.statuses if status.state == "fault")
        assert (fault.cameras, fault.faults[0][:12]) == ({"top": False}, "camera top: ")
        box.cameras["top"].is_away = False
        wait_until(lambda: box.output.statuses[-1].state == "running", "its return")


def test_more_parts_than_may_wait_are_not_judged_at_once(bundle: Path, tmp_path: Path, box: Box) -> None:
    file = load(tmp_path, bundle, CAMERA, station="most_waiting = 2")
    with box.running(file) as station:
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.calls, "a call")
        for _ in range(3):
            box.cameras["top"].push()
        wait_until(lambda: last_number(station) == 4, "four parts")
        box.hold.set()
        wait_until(lambda: len(box.output.parts) == 4, "four verdicts")
    assert [part.verdict == "not judged" for part in box.output.parts] == [False, False, False, True]
    assert box.output.parts[3].reason == "too slow: 2 parts wait already"


def test_what_waits_at_the_stop_is_judged_and_the_rest_is_told(
    bundle: Path, tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        box.hold.clear()
        for _ in range(5):
            box.cameras["top"].push()
        wait_until(lambda: last_number(station) == 5, "five parts")
        threading.Timer(0.3, box.hold.set).start()
    assert [part.verdict == "not judged" for part in box.output.parts] == [False] * 5
    monkeypatch.setattr("acl_runtime.inspection.station.service.FINISH_S", 0.2)
    stuck = Box()
    (tmp_path / "other").mkdir()
    with stuck.running(load(tmp_path / "other", bundle, CAMERA)) as station:
        for _ in range(2):
            stuck.cameras["top"].push()
        wait_until(lambda: last_number(station) == 2, "two parts")
    stuck.hold.set()
    assert verdicts_of(stuck.output) == [
        (1, "not judged", "the station stopped"),
        (2, "not judged", "the station stopped"),
    ]
    assert stuck.output.statuses[-1].state == "offline"


def test_the_gate_fires_when_the_part_is_there_and_others_are_told_at_once(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    gate = GATE.format("distance_ms = 300")
    with box.running(load(tmp_path, bundle, CAMERA.replace("5000", "250") + gate)):
        pushed: list[float] = []
        for _ in range(3):
            box.cameras["top"].push()
            pushed.append(time.monotonic())
            time.sleep(0.02)  # parts are apart on the belt
        wait_until(lambda: len(box.output.parts) == 3, "verdicts")
        assert not box.gate.parts
        for number, at in enumerate(pushed, start=1):
            wait_until(lambda number=number: len(box.gate.parts) == number, "the gate")  # type: ignore[misc]
            late_s = time.monotonic() - at - 0.3
            assert -0.01 < late_s < 3.0
    assert numbers_of(box.gate.parts) == [1, 2, 3]
    assert [part.verdict for part in box.gate.parts] == [part.verdict for part in box.output.parts]


def test_the_gate_follows_the_encoder_and_rejects_where_nobody_knows_where_parts_are(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    gate = GATE.format("distance_counts = 200")
    with box.running(load(tmp_path, bundle, CAMERA + gate)):
        camera = box.cameras["top"]
        for number, counts in enumerate((0, 90, 180, 230), start=1):
            camera.push(encoder=counts)
            wait_until(lambda number=number: len(box.output.parts) == number, "a verdict")  # type: ignore[misc]
        assert numbers_of(box.gate.parts) == [1]
        camera.push()  # without a count
        wait_until(lambda: len(box.output.parts) == 5, "its verdict")
        camera.break_down()
        wait_until(lambda: len(box.gate.parts) == 5, "what is on the belt")
    assert numbers_of(box.gate.parts) == [1, 2, 3, 4, 5]
    assert box.gate.parts[0].verdict == box.output.parts[0].verdict
    assert {part.verdict for part in box.gate.parts[1:]} == {"not judged"}
    assert "no count of the encoder" in box.output.parts[4].reason


def test_a_part_that_is_at_the_gate_without_a_verdict_is_rejected_there(
    bundle: Path, tmp_path: Path, box: Box
) -> None:
    gate = GATE.format("distance_counts = 50")
    with box.running(load(tmp_path, bundle, CAMERA + gate)):
        box.hold.clear()
        for counts in (0, 60):
            box.cameras["top"].push(encoder=counts)
        wait_until(lambda: box.gate.parts, "the gate")
        box.hold.set()
        wait_until(lambda: len(box.output.parts) == 2, "the other")
    reason = "not judged before it was at the gate"
    assert verdicts_of(box.gate)[0] == verdicts_of(box.output)[0] == (1, "not judged", reason)


def test_a_plc_may_stop_and_start_it_and_reset_its_counters(bundle: Path, tmp_path: Path, box: Box) -> None:
    with box.running(load(tmp_path, bundle, CAMERA)) as station:
        station.set_enabled(False)
        wait_until(lambda: box.output.statuses[-1].state == "ready", "ready")
        box.cameras["top"].push()
        wait_until(box.cameras["top"].items.empty, "the frame to be passed over")
        station.set_enabled(True)
        wait_until(lambda: box.output.statuses[-1].state == "running", "running")
        box.cameras["top"].push()
        wait_until(lambda: box.output.parts, "a verdict")
        assert station.status().judged == 1
        station.reset_counters()
        assert station.status().judged == 0
    assert numbers_of(box.output.parts) == [1]


def test_a_file_that_is_read_again_is_logged_and_taken_over_where_it_can_be(
    bundle: Path, tmp_path: Path, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "acl")
    with box.running(load(tmp_path, bundle, CAMERA)):
        write_station(tmp_path, bundle, CAMERA.replace("5000", "60"), station="threshold = 0.25")
        box.reload.set()
        wait_until(lambda: "deadline_ms: 5000.0 becomes 60.0" in caplog.text, "the new deadline")
        assert "[station] threshold: None becomes 0.25 after a restart" in caplog.text
        box.hold.clear()
        box.cameras["top"].push()
        wait_until(lambda: box.output.parts, "the deadline")
        (tmp_path / "station.toml").write_text("nonsense")
        box.reload.set()
        wait_until(lambda: "the station goes on as before" in caplog.text, "a refusal")
        box.hold.set()


def test_systemd_hears_of_the_start_and_the_stop_and_the_watchdog_is_fed_only_while_the_loop_moves(
    bundle: Path, tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def listen() -> list[str]:
            try:
                while True:
                    heard.extend(systemd.recv(1000).decode().split("\n"))
            except BlockingIOError:
                return heard

        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        file = load(tmp_path, bundle, CAMERA, station="stuck_s = 0.3")
        with box.running(file) as station:
            wait_until(lambda: listen().count("WATCHDOG=1") > 1, "the watchdog")
            box.hold.clear()
            box.cameras["top"].push()
            wait_until(lambda: station.engine.stuck_s, "a hang")
            wait_until(lambda: "STATUS=fault" in listen(), "the fault")
            heard.clear()
            time.sleep(0.5)  # five periods
            assert "WATCHDOG=1" not in listen()
            box.hold.set()
            wait_until(lambda: "WATCHDOG=1" in listen(), "the watchdog again")
        listen()
    assert heard[-1] == "STOPPING=1"


def test_two_services_do_not_share_a_data_folder(bundle: Path, tmp_path: Path, box: Box) -> None:
    file = load(tmp_path, bundle, CAMERA)
    with box.running(file), ThreadPoolExecutor() as another:  # a thread counts as a process does
        refused = another.submit(Station, file).exception(20)
    assert isinstance(refused, InputError)
    assert "data: is in use by process" in str(refused)
    assert "run one service per data folder" in str(refused)


def run_until_it_fails(box: Box, file: StationFile) -> None:
    with box.running(file) as station:
        box.cameras["top"].push()
        wait_until(lambda: station._mode.failure is not None, "the failure")


def test_a_mistake_in_the_program_ends_it_with_its_traceback_and_the_outputs_know(
    bundle: Path, tmp_path: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("acl_runtime.inspection.station.part_book.PartBook.judge", wrong)
    file = load(tmp_path, bundle, CAMERA)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_until_it_fails(box, file)
    assert verdicts_of(box.output) == [(1, "not judged", "the station stopped")]
    assert box.output.statuses[-1].state == "offline"

"""The station: it starts with the machine, inspects for months, and never tells a PLC OK of what it did not judge."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from acl_runtime.bundle.bundle import MANIFEST
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Result
from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import UserError
from acl_runtime.files.locks import locked_folder
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera import open_camera
from acl_runtime.inspection.station.counters import Counters
from acl_runtime.inspection.station.judge import Engine, open_detector_of
from acl_runtime.inspection.station.notify import notify, watchdog_period_s
from acl_runtime.inspection.station.part_mode import PartMode
from acl_runtime.inspection.station.part_numbers import PartNumbers
from acl_runtime.inspection.station.proposal import Proposer
from acl_runtime.inspection.station.station_file import (
    CameraSection,
    StationFile,
    StationSection,
    changes,
    load_station,
)
from acl_runtime.inspection.station.status import find_faults, find_warnings, state_of
from acl_runtime.inspection.station.tellers import Tellers
from acl_runtime.inspection.station.thresholds import StationThresholds
from acl_runtime.inspection.station.web_line import WebLine
from acl_runtime.outputs.station import (
    BusyError,
    StationOutput,
    StationStatus,
    ThresholdsChange,
)
from acl_runtime.outputs.strip_view import StripView
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.block import LineSource
from acl_runtime.text.json_log import JsonLog

LOG = logging.getLogger("acl")
FINISH_S = 2.0  # what waits when it is told to stop is judged for so long
FLUSH_S = 5.0  # outputs may deliver what waits for so long
TICK_S = 0.05
STATUS_S = 1.0
_LIVE_KEYS = ("deadline_ms", "interval_ms", "level", "repeat_s")  # taken over without a restart


class Mode(Protocol):
    """Part mode or web mode, with its cameras."""

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread; None while all run."""
        ...

    @property
    def camera_problems(self) -> Mapping[str, str]:
        """Why each camera is away, by name; empty for one that is there."""
        ...

    @property
    def is_known(self) -> bool:
        """Whether the state of every camera is known."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def finish(self, within_s: float) -> None:
        """Read no more, judge what waits for so long at most, and tell the rest."""
        ...

    def close(self) -> None:
        """Wait until the cameras were given back."""
        ...

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to take parts."""
        ...

    def set_part_id(self, part_id: str) -> None:
        """Name the next part, or the roll."""
        ...

    def begin_roll(self) -> None:
        """End the roll and begin another."""
        ...

    def set_camera(self, section: CameraSection) -> None:
        """Take over what of a camera's section can be."""
        ...

    def inspect(self, frame: Frame) -> Result:
        """Judge a picture that is no part; see `StationControl`."""
        ...


class Station:
    """A station that is open; see `StationControl` for what a PLC may ask of it."""

    def __init__(
        self,
        file: StationFile,
        *,
        log: JsonLog | None = None,
        outputs: Sequence[StationOutput] = (),
        open_source: Callable[[CameraSection], LineSource] = open_camera,
        open_detector: Callable[[StationSection], Detector] = open_detector_of,
    ) -> None:
        """Open everything; a camera, PLC or broker that is away is waited for.

        Args:
            file: What the station is.
            log: Takes over a level and repeats that are read again.
            outputs: Further ones beside those of the file.
            open_source: Opens a camera.
            open_detector: Opens the engine.

        Raises:
            UserError: Something in the file, the bundle or this machine must be mended first.
        """
        self.file, self._log = file, log
        self._closing = ExitStack()
        self._enabled, self._is_stopping, self._is_open = True, False, False
        self._counters = Counters()
        self._tellers = Tellers(() if file.gate is None else file.gate.outputs)
        self._open_source, self._open_detector = open_source, open_detector
        self._told: StationStatus | None = None
        self._told_s = self._fed_s = -float("inf")
        try:
            self._open(file, outputs)
        except BaseException:
            self._closing.close()
            raise

    def _open(self, file: StationFile, outputs: Sequence[StationOutput]) -> None:
        section = file.station
        section.data.mkdir(parents=True, exist_ok=True)
        self._closing.enter_context(locked_folder(section.data, "run one service per data folder"))
        self._see_bundle()
        self.engine = Engine(section, open_detector=self._open_detector)
        self._closing.callback(self.engine.close)
        proposer = Proposer(section)
        self._closing.callback(proposer.drop)
        self.thresholds = StationThresholds(section, self.engine, proposer, self._note_thresholds)
        self._numbers = PartNumbers(section.data)
        self._closing.callback(self._numbers.close)
        self.strip = None if file.web is None else StripView()
        self._mode: Mode = self._make_mode(file)
        self._closing.callback(self._tellers.close, FLUSH_S)
        for output in outputs:
            self._tellers.add(output)
        self._tellers.open(file.outputs, self)

    def _see_bundle(self) -> None:
        manifest = self.file.station.bundle / MANIFEST
        self._bundle = sha256(manifest)[:8] if manifest.is_file() else ""

    def _note_thresholds(self, change: ThresholdsChange) -> None:
        self._see_bundle()
        self._told = None  # the next status has it
        self._tellers.note_thresholds(change)

    def _make_mode(self, file: StationFile) -> Mode:
        if file.web is None:
            return PartMode(
                self.engine,
                self._numbers,
                file,
                tellers=self._tellers,
                counters=self._counters,
                open_source=self._open_source,
            )
        return WebLine(
            self.engine,
            self._numbers,
            file.cameras[0],
            file.web,
            tell=self._tellers.tell,
            counters=self._counters,
            open_source=self._open_source,
            strip=self.strip,
        )

    def run(self, stopped: Callable[[], bool], reload: Callable[[], bool]) -> None:
        """Inspect until told to stop.

        Args:
            stopped: Asked again and again whether to end.
            reload: Asked whether to read the file again; true once for each time.

        Raises:
            BaseException: What ended a thread; outputs were told that the station is offline before.
        """
        try:
            self._mode.start()
            self._is_open = True
            notify("READY=1", "STATUS=inspecting")
            LOG.info("station %s: started", self.file.station.name)
            while not stopped() and self._mode.failure is None:
                self._tick()
                if reload():
                    self._read_again()
                time.sleep(TICK_S)
        finally:
            self._stop()
        if (failure := self._mode.failure) is not None:
            raise failure

    def _tick(self) -> None:
        self._numbers.keep_ahead()
        now, told, status = (
            time.monotonic(),
            self._told,
            self.status(),
        )  # a change of thresholds takes _told away
        is_news = told is None or (status.state, status.faults, status.cameras) != (
            told.state,
            told.faults,
            told.cameras,
        )
        if is_news or now - self._told_s >= STATUS_S:
            if is_news:
                LOG.info("state: %s%s", status.state, "".join(f"; {fault}" for fault in status.faults))
                notify(f"STATUS={status.state}")
            self._told, self._told_s = status, now
            self._tellers.tell(status)
        period = watchdog_period_s()
        if period is not None and now - self._fed_s >= period / 2 and self._is_alive():
            self._fed_s = now
            notify("WATCHDOG=1")

    def _is_alive(self) -> bool:
        """Whether the judging loop moved and the cameras' state is known: otherwise the watchdog is not fed."""
        return self._mode.is_known and not self.engine.stuck_s

    def _stop(self) -> None:
        """Stop reading, judge what waits, tell the rest, and say that it is offline."""
        self._is_stopping = True
        notify("STOPPING=1")
        LOG.info("station %s: stops", self.file.station.name)
        try:
            self._mode.finish(FINISH_S)
            self._tellers.tell(self.status())
        finally:
            self._closing.close()
        self._mode.close()
        LOG.info("station %s: is offline", self.file.station.name)

    def status(self) -> StationStatus:
        """How the station is now."""
        cameras = self._mode.camera_problems
        faults = find_faults(cameras, self.engine)
        return StationStatus(
            state=state_of(
                is_open=self._is_open,
                is_stopping=self._is_stopping,
                enabled=self._enabled,
                faults=faults,
                cameras=cameras,
            ),
            faults=faults,
            warnings=find_warnings(self._tellers, self._numbers, self.file.station.data, self.engine),
            cameras={name: not problem for name, problem in cameras.items()},
            **vars(self._counters.counts),
            dropped=self._tellers.dropped,
            bundle=self._bundle,
        )

    # What a PLC may ask for

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to take parts."""
        if enabled != self._enabled:
            LOG.info("the PLC %s the station", "enables" if enabled else "disables")
        self._enabled = enabled
        self._mode.set_enabled(enabled)

    def set_part_id(self, part_id: str) -> None:
        """Name the next part, or the roll that runs."""
        self._mode.set_part_id(part_id)

    def begin_roll(self) -> None:
        """End the roll and begin another; nothing in part mode."""
        self._mode.begin_roll()

    def reset_counters(self) -> None:
        """Set the counters to zero; numbers go on."""
        self._counters.reset()

    def inspect(self, frame: Frame) -> Result:
        """Judge a picture that is no part, when no part needs the engine; see `StationControl`."""
        if not self._is_open or self._is_stopping:
            raise BusyError("the station starts or stops; try again")
        return self._mode.inspect(frame)

    # The file, read again

    def _read_again(self) -> None:
        """Take over what can be of the file; say what cannot."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            file = load_station(self.file.path)
        except (UserError, OSError) as error:
            LOG.error("%s; the station goes on as before", error, extra={"again": True})
        else:
            self._take_over(file)
        try:
            self.thresholds.read_again()
        except (UserError, OSError) as error:
            LOG.error("%s; the station judges as before", error, extra={"again": True})
        notify("READY=1")

    def _take_over(self, file: StationFile) -> None:
        found = changes(self.file, file)
        if not found:
            LOG.info("%s: nothing changed", file.path)
        for key, old, new in found:
            is_live = key.rpartition(" ")[2] in _LIVE_KEYS
            values = (hide_password(repr(value)) for value in (old, new))
            LOG.warning("%s: %s becomes %s%s", key, *values, "" if is_live else " after a restart")
        ours = {camera.name: camera for camera in self.file.cameras}
        cameras = tuple(_with_times(ours[new.name], new) for new in file.cameras if new.name in ours)
        for camera in cameras:
            self._mode.set_camera(camera)
        if self._log is not None:
            LOG.setLevel(file.log.level.upper())
            self._log.repeat_s = file.log.repeat_s
        kept = {camera.name: camera for camera in cameras}
        self.file = replace(
            self.file, log=file.log, cameras=tuple(kept.get(each.name, each) for each in self.file.cameras)
        )


def _with_times(old: CameraSection, new: CameraSection) -> CameraSection:
    return replace(old, deadline_ms=new.deadline_ms, interval_ms=new.interval_ms)

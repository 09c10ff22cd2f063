"""Web mode: one line camera and one engine, roll after roll."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from typing import Any

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import BackendError, SourceError
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera import NOT_OPENED, SILENT_S
from acl_runtime.inspection.station.counters import Counters
from acl_runtime.inspection.station.judge import Engine
from acl_runtime.inspection.station.part_numbers import PartNumbers
from acl_runtime.inspection.station.station_file import CameraSection, WebSection
from acl_runtime.inspection.station.web_rolls import KeptReader, RollQueue
from acl_runtime.inspection.web import FINISH_S, inspect_web
from acl_runtime.inspection.web_files import WebRecorder
from acl_runtime.inspection.web_plan import describe_roll, load_correction, plan_settings
from acl_runtime.outputs.station import BusyError, WebRecord
from acl_runtime.outputs.strip_view import StripView
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.block import LineSource
from acl_runtime.web.account import Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Defect, Event
from acl_runtime.web.ring import PAUSES_S, READ_S, LineRing, Reader
from acl_runtime.web.rules import Rules
from acl_runtime.web.settings import WebSettings
from acl_runtime.web.summary import summarise

LOG = logging.getLogger("acl")


class WebLine:
    """The web of a station, from its lines to the outputs; see `Mode` of the service."""

    def __init__(
        self,
        engine: Engine,
        numbers: PartNumbers,
        camera: CameraSection,
        web: WebSection,
        *,
        tell: Callable[[WebRecord], None],
        counters: Counters,
        open_source: Callable[[CameraSection], LineSource],
        strip: StripView | None,
    ) -> None:
        """Say what is judged with what; `start` begins.

        Args:
            engine: Judges.
            numbers: Of the records.
            camera: Its section.
            web: The section of the web.
            tell: Called with each record.
            counters: Of the station.
            open_source: Opens the camera.
            strip: Shown the lines that are judged.
        """
        self._engine, self._numbers, self._camera, self._web = engine, numbers, camera, web
        self._tell, self._counters, self._open = tell, counters, partial(open_source, camera)
        self._roll, self._enabled, self._strip = "", True, strip
        self._next: str | None = web.roll  # name of the roll to come, once one is to come
        self._queue: RollQueue | None = None
        self._reader: Reader | None = None
        self._problem = NOT_OPENED
        self._beat_s = time.monotonic()
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guard, name="web", daemon=True)

    # What other threads ask for

    @property
    def camera_problems(self) -> Mapping[str, str]:
        """Why the camera is away, by its name; empty while it is there."""
        problem = self._problem if self._reader is None else self._reader.problem
        if self._queue is not None and self._queue.has_ended:
            problem = f"{hide_password(self._camera.source)}: has ended"
        return {self._camera.name: problem}

    @property
    def is_known(self) -> bool:
        """Whether the camera's state is known."""
        return self._reader is not None or time.monotonic() - self._beat_s < SILENT_S

    def start(self) -> None:
        """Begin to read and judge."""
        self._thread.start()

    def begin_roll(self) -> None:
        """End the roll and begin another."""
        self._next = ""
        if self._queue is not None:
            self._queue.end_roll()

    def set_part_id(self, name: str) -> None:
        """Name the roll that runs, or the one that is to come."""
        if self._next is None:
            self._roll = name
        else:
            self._next = name

    def set_enabled(self, enabled: bool) -> None:
        """Begin or stop to judge; stopping ends the roll."""
        if self._enabled and not enabled:
            self.begin_roll()
        self._enabled = enabled

    def finish(self, within_s: float) -> None:
        """Read no more, judge what waits for so long at most, and tell what the roll adds up to."""
        self._stopping.set()
        if self._reader is not None:
            self._reader.stop()
        self._thread.join(within_s + FINISH_S)
        self._engine.is_abandoned = self._thread.is_alive()

    def close(self) -> None:
        """Nothing more: the camera was given back with the last roll."""

    def set_camera(self, section: CameraSection) -> None:
        """Nothing: a web has no deadline and no interval."""

    def inspect(self, frame: Frame) -> Result:
        """Refuse: a web comes without pauses."""
        raise BusyError("the station has no time: a web comes without pauses; post to a station in part mode")

    # The thread

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:  # it is raised where the station waits
            self.failure = error

    def _run(self) -> None:
        source = self._open_patiently()
        if source is None:
            return
        ring = LineRing(max(self._web.ring, 2 * source.height), waits=not source.is_live)
        plan, settings = self._plan(source)
        self._queue = RollQueue(ring)
        self._reader = Reader(
            source, ring, self._open, counts_per_line=self._web.encoder_counts, say=partial(LOG.warning, "%s")
        )
        try:
            while not self._queue.has_ended:
                if self._enabled:
                    self._inspect_roll(ring, plan, settings)
                else:
                    self._pass_over()
        finally:
            self._reader.close()
        while not self._stopping.wait(READ_S):  # a recording has ended
            self._engine.beat()

    def _open_patiently(self) -> LineSource | None:
        for turn in range(1 << 62):
            self._beat_s = time.monotonic()
            self._engine.beat()
            try:
                return self._open()
            except (SourceError, OSError) as error:
                self._problem = str(error)
                LOG.error("camera %s: is away: %s", self._camera.name, error, extra={"again": True})
            if self._stopping.wait(PAUSES_S[min(turn, len(PAUSES_S) - 1)]):
                return None
        return None

    def _plan(self, source: LineSource) -> tuple[WebPlan, WebSettings]:
        web = self._web
        return plan_settings(
            self._engine.detector,
            source.width,
            mm_per_pixel=web.mm_per_pixel,
            mm_per_line=web.mm_per_line,
            lanes=web.lanes_of_web(),
            ignored=web.ignored(),
            background=web.background,
            edge_margin=web.edge_margin,
            longest=web.longest,
            flush_after=web.flush_after_s if source.is_live else math.inf,
            rows=web.rows,
            keeps_pictures=True,
        )

    def _pass_over(self) -> None:
        assert self._queue is not None
        self._engine.beat()
        with suppress(EOFError):
            self._queue.skip(READ_S)

    def _inspect_roll(self, ring: LineRing, plan: WebPlan, settings: WebSettings) -> None:
        """Judge a roll, or what of it is judged before the network fails."""
        assert self._queue is not None
        self._queue.begin_roll()
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._roll, self._next = self._next or started, None
        source = hide_password(self._camera.source)
        roll = describe_roll(self._roll, source, started, self._engine.detector, plan, settings)
        recorder, judge = WebRecorder(self._emit, roll), TileJudge(self._engine.detector.stages)
        width_mm = plan.width * settings.scale.mm_per_pixel
        rules = Rules(self._web.rules(), width_mm=width_mm, lanes=settings.lanes)
        see_lines = None if self._strip is None else self._strip.add
        if self._strip is not None:
            scale = settings.scale
            self._strip.begin(plan.width, lines_per_pixel=scale.mm_per_pixel / scale.mm_per_line)
        engine, failed = WebEngine(plan, judge, settings, see_lines=see_lines), None
        events = inspect_web(
            engine,
            self._queue,
            KeptReader(),
            correct=load_correction(self._web.flat_field),
            stopped=self._is_stopped,
        )
        try:
            for event in events:
                self._take(event, engine, recorder, rules)
        except BackendError as error:
            failed = error
            rest = Lost(first=engine.exposed, stop=self._queue.line, reason="too slow")
            left = engine.add(rest) if rest.first < rest.stop else ()
            for event in chain(engine.abandon(), left, engine.abandon()):
                self._take(event, engine, recorder, rules)
            self._next = self._roll
        summary = summarise(
            engine.tally,
            settings.scale,
            pending=engine.pending,
            kept_up=ring.kept_up,
            seconds=ring.seconds,
        )
        recorder.end(summary.as_dict())
        if failed is not None and not self._engine.reopen(failed, self._stopping):
            self._queue.has_ended = True

    def _is_stopped(self) -> bool:
        self._engine.beat()
        return self._stopping.is_set()

    def _take(self, event: Event, engine: WebEngine, recorder: WebRecorder, rules: Rules) -> None:
        if isinstance(event, Lost):
            self._counters.lose_lines(event.stop - event.first)
        self._counters.set_defects(engine.tally.defects)
        recorder(event)
        for alarm in rules.add(event) if isinstance(event, Defect) else ():
            recorder(alarm)

    def _emit(self, record: dict[str, Any], defect: Defect | None) -> None:
        pictures = None if defect is None else defect.pictures
        number = self._numbers.reserve(self._camera.name)
        self._tell(
            WebRecord(
                number=number,
                camera=self._camera.name,
                roll=self._roll,
                record=record,
                picture=None if pictures is None else pictures.pixels,
                anomaly_map=None if pictures is None else pictures.anomaly_map,
            )
        )
        self._numbers.told(number)

"""A camera of a station: a thread that reads frames, and opens the camera again when it went away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Protocol

import numpy as np

from acl_runtime.files.errors import FrameError, SourceError
from acl_runtime.images.frame import Frame
from acl_runtime.inspection.station.camera_clock import CameraClock
from acl_runtime.inspection.station.station_file import CameraSection
from acl_runtime.sources.address import hide_password
from acl_runtime.sources.block import Block, LineSource
from acl_runtime.sources.lines import open_line_source
from acl_runtime.web.account import LineAccount, Lines, Lost
from acl_runtime.web.ring import CLOSE_S, PAUSES_S

LOG = logging.getLogger("acl")
NOT_OPENED = "was not opened yet"
POLL_S = 0.05  # longest wait for a frame before the thread looks at the clock
SILENT_S = 30.0  # without a sign of the thread its camera's state is not known: a library hangs


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposure:
    """A part passed the camera.

    Attributes:
        camera: Its name.
        frame: What it saw; None where nothing came, or nothing whole.
        problem: Why there is no frame.
        exposed_ns: When, as `time.monotonic_ns`.
        encoder: Count of the encoder, where the camera sends it.
    """

    camera: str
    frame: Frame | None
    problem: str
    exposed_ns: int
    encoder: int | None = None


class Line(Protocol):
    """What takes the parts of a camera; called from the camera's thread."""

    def expose(self, exposure: Exposure) -> None:
        """Take a part."""
        ...

    def move(self, camera: str, counts: int) -> None:
        """Take the count of the encoder."""
        ...

    def lose_place(self, camera: str) -> None:
        """The encoder is away."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether a recording may be read on, which a camera would not wait for."""
        ...


class StationCamera:
    """Reads a camera, whatever becomes of it.

    Without an interval every frame is a part, and so is every frame that never came, as the camera's numbers tell. With
    one, a part is due each `interval_ms`: the first frame from then on, and it is a part without a frame where none
    comes before the next is due, or while the camera is away.
    """

    def __init__(
        self,
        section: CameraSection,
        line: Line,
        *,
        open_source: Callable[[CameraSection], LineSource],
    ) -> None:
        """Say what to read; `start` begins.

        Args:
            section: Of the station's file.
            line: Takes its parts.
            open_source: Opens the camera, see `open_camera`.
        """
        self.section, self._line = section, line
        self._open = open_source
        self.name = section.name
        self.problem = NOT_OPENED  # why it is away; empty while it is there
        self.failure: BaseException | None = None  # ended the thread
        self.beat_s = time.monotonic()  # last sign of the thread
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {self.name}", daemon=True)
        self._due_ns = 0  # of the next part, with an interval
        self._index = 0

    @property
    def is_there(self) -> bool:
        """Whether it gives frames, or would."""
        return not self.problem

    @property
    def is_known(self) -> bool:
        """Whether its state is known."""
        return time.monotonic() - self.beat_s < SILENT_S

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until the camera was given back; one that is gone may take seconds."""
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            self._due_ns = time.monotonic_ns()
            while not self._stopped.is_set():
                source = self._open_patiently()
                if source is None:
                    return
                try:
                    self._read(source)
                finally:
                    source.close()
        except BaseException as error:  # it is raised where the station waits
            self.failure = error

    def _open_patiently(self) -> LineSource | None:
        """The camera once it is there; None when it is told to stop."""
        for turn in range(1 << 62):
            try:
                source = self._open(self.section)
            except (SourceError, OSError) as error:
                self._be_away(str(error))
                self._wait(PAUSES_S[min(turn, len(PAUSES_S) - 1)])
            else:
                if turn or self.problem != NOT_OPENED:
                    LOG.warning("camera %s: is back", self.name, extra={"again": True})
                self.problem = ""
                return source
            if self._stopped.is_set():
                return None
        return None

    def _be_away(self, problem: str) -> None:
        if not self.problem or self.problem == NOT_OPENED:
            LOG.error("camera %s: is away: %s; it is opened again as soon as it is back", self.name, problem)
        self.problem = problem
        self._line.lose_place(self.name)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped.wait(min(left, POLL_S)):
            self._miss_parts("the camera is away")

    def _read(self, source: LineSource) -> None:
        """Read until it breaks, ends, or the thread is told to stop."""
        clock = CameraClock()
        account = LineAccount(height=1, numbers=source.numbers)  # a frame counts as a line
        while not self._stopped.is_set():
            self.beat_s = time.monotonic()
            if not source.is_live and not self._is_wanted():
                self._stopped.wait(POLL_S / 10)
                continue
            try:
                block = source.read(POLL_S)
            except (SourceError, EOFError) as error:
                self._be_away(str(error))
                self._tell_lost(account.finish(), time.monotonic_ns())
                self._wait(PAUSES_S[-1] if isinstance(error, EOFError) else PAUSES_S[0])
                return
            if block is None:
                self._miss_parts("no frame came")
            else:
                self._take_block(block, account, clock)

    def _is_wanted(self) -> bool:
        """Whether a recording is read on."""
        is_due = self.section.interval_ms is None or time.monotonic_ns() >= self._due_ns
        return is_due and self._line.has_room

    def _take_block(self, block: Block, account: LineAccount, clock: CameraClock) -> None:
        exposed_ns = clock.exposed_ns(block) if block.complete else block.received_ns
        if block.first_encoder is not None:
            self._line.move(self.name, block.first_encoder)
        step_ns = self._step_ns()
        if step_ns is not None:
            if block.complete and exposed_ns >= self._due_ns:
                self._miss_parts("no frame came", exposed_ns)
                self._due_ns += step_ns
                self._tell(block, exposed_ns)
            return
        for item in account.add(replace(block, lines=block.lines[:1])):
            if isinstance(item, Lines):
                self._tell(block, exposed_ns)
            else:
                self._tell_lost([item], exposed_ns)

    def _tell_lost(self, items: Iterable[Lines | Lost], exposed_ns: int) -> None:
        for item in items:
            if item.stop == item.first or not isinstance(item, Lost) or item.reason == "restart":
                continue  # how many passed while it was away nobody knows
            problem = "came incomplete" if item.reason == "packets" else "never came"
            for _ in range(item.stop - item.first):
                self._line.expose(self._without_frame(f"the frame {problem}", exposed_ns))

    def _tell(self, block: Block, exposed_ns: int) -> None:
        self._index += 1
        name = PurePath(f"{self.name}_{self._index:08d}")
        try:
            frame = Frame(hide_password(self.section.source), self._index, name, np.array(block.lines))
        except FrameError as error:
            self._line.expose(self._without_frame(str(error), exposed_ns))
            return
        self._line.expose(
            Exposure(
                camera=self.name, frame=frame, problem="", exposed_ns=exposed_ns, encoder=block.first_encoder
            )
        )

    def _without_frame(self, problem: str, exposed_ns: int) -> Exposure:
        return Exposure(camera=self.name, frame=None, problem=problem, exposed_ns=exposed_ns)

    def _miss_parts(self, problem: str, now_ns: int | None = None) -> None:
        """Tell the parts that were due, with an interval, and that no frame came of before the next was due."""
        self.beat_s = time.monotonic()
        step_ns = self._step_ns()
        if step_ns is None:
            return
        while (now_ns or time.monotonic_ns()) >= self._due_ns + step_ns and not self._stopped.is_set():
            due_ns, self._due_ns = self._due_ns, self._due_ns + step_ns
            self._line.expose(self._without_frame(problem, due_ns))

    def _step_ns(self) -> int | None:
        """The interval; another thread may change it at any time."""
        interval_ms = self.section.interval_ms
        return None if interval_ms is None else round(interval_ms * 1e6)

    def set_section(self, section: CameraSection) -> None:
        """Take over an interval of a file that was read again."""
        if section.interval_ms != self.section.interval_ms:
            self._due_ns = time.monotonic_ns()
        self.section = section


def open_camera(section: CameraSection) -> LineSource:
    """Open the camera of a section.

    Raises:
        InputError: What is said of it is not what it must be.
        SourceError: It is away.
    """
    return open_line_source(section.source, section.pairs)

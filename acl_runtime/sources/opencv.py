"""`opencv:NUMBER`, `rtsp://…`, `http://…` and `gst:PIPELINE`: area cameras that OpenCV reads."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.sources.address import Address, hide_password, read_options
from acl_runtime.sources.block import Block, check_lines

LOG = logging.getLogger("acl")
LAST_CAMERA = 2**31 - 1  # OpenCV takes a C int


@dataclass(frozen=True, kw_only=True)
class OpenCVOptions:
    """Options of `opencv:NUMBER?...`; addresses of the net and pipelines have none, and take the defaults.

    Attributes:
        open_s: Seconds until the first frame must be there.
        wait_s: Seconds between frames after which the camera counts as gone; 0 for ever, as a triggered one needs.
        buffers: Frames that wait for a slow reader; newer ones then push the oldest out.
    """

    open_s: float = 15.0
    wait_s: float = 10.0
    buffers: int = 2


@dataclass
class _Queue:
    """Frames between the thread that OpenCV may block and the reader."""

    buffers: int
    changed: threading.Condition = field(default_factory=threading.Condition)
    frames: deque[tuple[np.ndarray, int]] = field(default_factory=deque)  # and when they came, in ns
    problem: str = ""  # why no more come
    is_closed: bool = False
    passed_over: int = 0


class OpenCVSource:
    """An area camera, each of whose frames is a block; see `LineSource`.

    OpenCV's calls wait for a frame as long as they like, so they are made in a thread of their own: `read` waits no
    longer than it is told. Frames that were pushed out are no gap in the numbers, because such a camera runs free; how
    many they were is said at the end.
    """

    numbers: range | None = None
    is_live = True

    def __init__(self, address: Address, options: OpenCVOptions | None = None) -> None:
        """Open the camera and wait for its first frame.

        Args:
            address: Such as of `opencv:0`.
            options: For an address that can hold none; None for the defaults.

        Raises:
            InputError: The number or an option is not what it must be.
            SourceError: The camera gives no frame, or this OpenCV cannot read such a one.
        """
        self.name = hide_password(address.text)
        self._options = options or read_options(OpenCVOptions, address.pairs, self.name)
        self._queue = _Queue(max(1, self._options.buffers))
        self._number = 0
        self._last_s = time.monotonic()  # when there was a frame
        place, backend = _place(address)
        threading.Thread(
            target=_pump, args=(place, backend, self._queue, self._options), name="acl-opencv", daemon=True
        ).start()
        if not self._wait(self._options.open_s):
            self.close()
            raise SourceError(
                f"{self.name}: {self._queue.problem or 'gives no frame'}; check that it is connected"
            )
        first = self._queue.frames[0][0]
        check_lines(first)
        self.height, self.width = first.shape[:2]

    def read(self, timeout_s: float) -> Block | None:
        """The next frame, or None if none arrived in time.

        Raises:
            SourceError: The camera is gone.
        """
        if not self._wait(timeout_s):
            silent_s = time.monotonic() - self._last_s
            if self._queue.problem or 0 < self._options.wait_s < silent_s:
                problem = self._queue.problem or f"gave no frame for {silent_s:.0f} s"
                raise SourceError(f"{self.name}: {problem}; check that it is connected")
            return None
        with self._queue.changed:
            frame, came_ns = self._queue.frames.popleft()
        if frame.shape[:2] != (self.height, self.width):
            size = f"{frame.shape[1]}×{frame.shape[0]}"
            raise SourceError(f"{self.name}: changed its frames to {size} pixels; open it again")
        self._last_s, self._number = came_ns / 1e9, self._number + 1
        return Block(lines=frame, number=self._number - 1, complete=True, received_ns=came_ns)

    def close(self) -> None:
        """Stop; may be called twice. The camera itself is given back when the call that waits for a frame returns."""
        with self._queue.changed:
            passed_over, self._queue.passed_over = self._queue.passed_over, 0
            self._queue.is_closed = True
            self._queue.problem = self._queue.problem or "is closed"
            self._queue.frames.clear()
        if passed_over:
            LOG.warning(
                "%s: %d frames were passed over: they came faster than they were read",
                self.name,
                passed_over,
                extra={"again": True},
            )

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a frame; whether there is one."""
        queue = self._queue
        with queue.changed:
            queue.changed.wait_for(lambda: queue.frames or queue.problem, timeout_s)
            return bool(queue.frames)


def _place(address: Address) -> tuple[int | str, int]:
    """What OpenCV opens, and with which of its backends."""
    if address.scheme == "gst":
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                f"{address.text}: this OpenCV {cv2.__version__} was built without GStreamer; use one that was built "
                "with it, such as JetPack's or Debian's python3-opencv"
            )
        return address.name, cv2.CAP_GSTREAMER
    if address.scheme != "opencv":
        return address.text, cv2.CAP_FFMPEG if cv2.videoio_registry.hasBackend(
            cv2.CAP_FFMPEG
        ) else cv2.CAP_ANY
    if not (address.name.isascii() and address.name.isdecimal() and int(address.name) <= LAST_CAMERA):
        raise InputError(
            f"{address.text}: must name a camera's number, such as opencv:0, got {address.name!r}"
        )
    return int(address.name), cv2.CAP_ANY


def _pump(place: int | str, backend: int, queue: _Queue, options: OpenCVOptions) -> None:
    """Put frames into the queue until the camera stops or the queue is closed."""
    limits: list[int] = []
    if backend == cv2.CAP_FFMPEG:
        open_ms, wait_ms = round(1000 * options.open_s), round(1000 * options.wait_s)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait_ms]
    capture = cv2.VideoCapture(place, backend, limits)
    try:
        while capture.isOpened() and not queue.is_closed:
            is_read, frame = capture.read()
            if not is_read:
                break
            with queue.changed:
                while len(queue.frames) >= queue.buffers:
                    queue.frames.popleft()
                    queue.passed_over += 1
                queue.frames.append((frame, time.monotonic_ns()))
                queue.changed.notify_all()
    except cv2.error as error:
        queue.problem = f"OpenCV cannot read it ({' '.join(str(error).split())})"
    finally:
        capture.release()
        with queue.changed:
            queue.problem = queue.problem or "gives no frame"
            queue.changed.notify_all()

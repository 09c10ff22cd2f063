"""A picture that is no part of the station, such as one that was posted, on its way through the station's engine."""

from __future__ import annotations

import threading

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import BackendError
from acl_runtime.images.frame import Frame
from acl_runtime.outputs.station import BusyError

PATIENCE_S = 10.0  # of whoever asks


class Guests:
    """One picture at a time; every method but `take` and `answer` is called with the lock of `changed`."""

    def __init__(self, changed: threading.Condition) -> None:
        """Begin without; `changed` wakes whoever judges."""
        self._changed = changed
        self._frame: Frame | None = None
        self._is_begun = False
        self._answer: Result | BackendError | None = None
        self._most_pixels = 0  # of the cameras' frames

    def see(self, frame: Frame | None) -> None:
        """Learn how large the frames of the station are."""
        if frame is not None:
            height, width = frame.size
            self._most_pixels = max(self._most_pixels, height * width)

    @property
    def waiting(self) -> bool:
        """Whether a picture waits for the engine."""
        return self._frame is not None and not self._is_begun

    def inspect(self, frame: Frame, *, problem: str, each_ms: float, deadline_ms: float) -> Result:
        """Judge a picture, and wait for it.

        A part that comes meanwhile waits for one call of the network at most; where its deadline would not allow
        that, nothing is judged for guests.

        Args:
            frame: The picture.
            problem: Why the engine has no time; empty if it has.
            each_ms: Time that the network takes for a part; 0 before the first.
            deadline_ms: Shortest of a part.

        Raises:
            BusyError: The engine has no time for it.
            BackendError: The network failed.
        """
        height, width = frame.size
        if not problem and self._frame is not None:
            problem = "another picture is being judged"
        if not problem and 2 * each_ms > deadline_ms:
            problem = f"a picture takes {each_ms:.0f} ms, and a part has {deadline_ms:g}"
        if not problem and 0 < self._most_pixels < height * width:
            problem = f"{width}×{height} pixels are more than those of a part, and would make parts late"
        if problem:
            raise BusyError(f"the station has no time: {problem}; try again, or use another box")
        self._frame, self._is_begun, self._answer = frame, False, None
        self._changed.notify_all()
        try:
            if not self._changed.wait_for(lambda: self._answer is not None, PATIENCE_S):
                raise BusyError("the station has no time: parts came first; try again, or use another box")
            answer = self._answer
        finally:
            self._frame = None
        assert answer is not None
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def take(self) -> Frame | None:
        """The picture that waits, to be judged now."""
        if not self.waiting:
            return None
        self._is_begun = True
        return self._frame

    def answer(self, frame: Frame, result: Result) -> None:
        """Say what came out, if somebody still waits for it."""
        with self._changed:
            if self._frame is frame:
                self._answer = result
                self._changed.notify_all()

    def fail(self, error: BackendError) -> None:
        """Say that nothing came out, if a picture was being judged."""
        with self._changed:
            if self._frame is not None and self._is_begun:
                self._answer = error
                self._changed.notify_all()

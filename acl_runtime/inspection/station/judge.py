"""The engine of a station: opened, opened again after it failed, and watched while it works."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from acl_runtime.bundle.bundle import Bundle, check_judges, is_same_besides, load_bundle
from acl_runtime.calibration.monitor import DriftMonitor, monitor_of
from acl_runtime.calibration.record import FOLDER
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, BundleError
from acl_runtime.inspection.station.station_file import StationSection
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_file import load_memory
from acl_runtime.web.ring import PAUSES_S

LOG = logging.getLogger("acl")
OPENING_S = 600.0  # an engine of a large model takes minutes to load


class Engine:
    """A detector that is there, or being opened; used by one thread, watched by others."""

    def __init__(
        self, section: StationSection, *, open_detector: Callable[[StationSection], Detector]
    ) -> None:
        """Open it for the first time.

        Raises:
            UserError: The bundle or the backend is not what it must be.
        """
        self._section, self._open = section, open_detector
        self.problem = ""  # why nothing is judged; empty while it works
        self.drift: DriftMonitor | None = None
        self.is_abandoned = False  # a call of it did not return in time: it is not closed, the process ends
        self._beat_s, self._patience_s = time.monotonic(), OPENING_S
        self.detector = self._open(section)
        self.drift = monitor_of(self.detector)
        self._next = deque[tuple[Bundle, Memory | None, DriftMonitor | None]](maxlen=1)
        self.beat()

    def beat(self) -> None:
        """Say that the loop moved."""
        self._beat_s, self._patience_s = time.monotonic(), self._section.stuck_s

    @property
    def stuck_after_s(self) -> float:
        """Seconds that a call of the network may take before it is said to be stuck."""
        return self._section.stuck_s

    @property
    def stuck_s(self) -> float:
        """Seconds since the loop moved, if these are more than are allowed; else 0."""
        silent_s = time.monotonic() - self._beat_s
        return silent_s if silent_s > self._patience_s else 0.0

    def take_over(self, bundle: Bundle) -> None:
        """Judge with the calibration that the bundle has by now, from the next frame on; from any thread."""
        memory = load_memory(bundle)
        self._next.append((bundle, memory, monitor_of(self.detector.with_calibration(bundle, memory))))

    def renew(self) -> None:
        """Take over a calibration that waits; between frames, by the thread that judges."""
        if self._next:
            bundle, memory, drift = self._next.pop()
            self.detector, self.drift = self.detector.with_calibration(bundle, memory), drift

    def reopen(self, error: BackendError, stopped: threading.Event) -> bool:
        """Close what failed and open it again, for as long as it takes; False when told to stop.

        The calibration stays the one that it had: rules, a web's settings and what the page shows are of that one.
        """
        before = self.detector
        self.problem = str(error)
        LOG.error("the network failed: %s; it is opened again", error, extra={"again": True})
        self._close_detector()
        for turn in range(1 << 62):
            self._beat_s, self._patience_s = time.monotonic(), OPENING_S
            try:
                opened = self._open(self._section)
            except BackendError as again:
                self.problem = str(again)
            else:
                if not is_same_besides(FOLDER, before.bundle.manifest, opened.bundle.manifest):
                    opened.close()
                    raise BundleError(
                        f"{before.bundle.path}: was replaced since it was loaded; restart the station"
                    )
                self.detector = before.with_session(opened.session)
                self.problem = ""
                LOG.warning("the network works again", extra={"again": True})
                self.beat()
                return True
            if stopped.wait(PAUSES_S[min(turn, len(PAUSES_S) - 1)]):
                return False
        return False

    def close(self) -> None:
        """Give back what it holds, unless a call still uses it."""
        if not self.is_abandoned:
            self._close_detector()

    def _close_detector(self) -> None:
        try:
            self.detector.close()
        except BackendError as error:  # what failed may fail to close
            LOG.warning("%s", error)


def open_detector_of(section: StationSection) -> Detector:
    """The detector that a station's file asks for."""
    bundle = load_bundle(section.bundle)
    check_judges(bundle)
    return Detector(
        bundle,
        backend=section.backend,
        provider=section.provider,
        triton=section.triton,
        threshold=section.threshold,
        fast_resize=section.fast_resize,
        maps=section.maps,
        time_limit_s=section.time_limit_s,
    )

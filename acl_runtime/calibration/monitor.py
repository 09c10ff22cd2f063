"""Notice when frames no longer look like those that the thresholds were measured on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from acl_runtime.calibration.record import read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Result, Verdict
from acl_runtime.images.appearance import Appearance, measure_appearance
from acl_runtime.images.frame import BadFrame

LOG = logging.getLogger("acl")

WINDOW = 32  # frames that are looked at together: a single odd frame is a matter of the verdict
BEGINS, ENDS = 1 / 2, 1 / 4  # share of them beyond the usual at which a change begins, and at which it ends
TAIL = 0.025  # share of the calibration's frames below, and above, what counts as usual
_CAUSES = {  # quantity, and whether it is above -> what is seen, and what to do
    ("brightness", False): ("darker", "check the light and the exposure, or calibrate again"),
    ("brightness", True): ("brighter", "check the light and the exposure, or calibrate again"),
    ("sharpness", False): ("less sharp", "check focus, dirt on the lens and vibration, or calibrate again"),
    ("sharpness", True): ("sharper, or noisier", "check the exposure and the gain, or calibrate again"),
    ("score", False): ("scored lower", "if this is another product or view, calibrate again"),
    ("score", True): ("scored higher", "if the parts are good, the picture has changed: calibrate again"),
    ("peak", False): ("lower in the peak of the map", "if this is another product or view, calibrate again"),
    ("peak", True): (
        "higher in the peak of the map",
        "if the parts are good, the picture has changed: calibrate again",
    ),
}
QUANTITIES = tuple(dict.fromkeys(quantity for quantity, _ in _CAUSES))


@dataclass(frozen=True)
class Usual:
    """Where nearly all frames of the calibration lay."""

    low: float
    high: float


def monitor_of(detector: Detector) -> DriftMonitor | None:
    """A monitor against the calibration in the detector's bundle; None where nothing was measured.

    Scores and peaks are compared only if frames are cut as they were then.
    """
    record = read_record(detector.bundle)
    if record is None or not record.images:
        return None
    quantities = record.good.quantities
    if detector.tiling != record.tiling:
        quantities = {name: quantities[name] for name in ("brightness", "sharpness")}
    return DriftMonitor(quantities)


def measure_quantities(verdict: Verdict, appearance: Appearance) -> dict[str, float]:
    """What is watched of a frame, by the names in `QUANTITIES`."""
    return {
        "brightness": appearance.brightness,
        "sharpness": appearance.sharpness,
        "score": verdict.score,
        "peak": verdict.peak,
    }


class DriftMonitor:
    """Remembers the last frames; says when most of them lie on one side of what was usual, and when no more.

    With more than half of `WINDOW` frames beyond a quantile that 1 in 40 passes, chance is out of the
    question, and a quantity that merely stays at one end of the usual is not reported. It is over when no more
    than a quarter lie there, so that a change at the limit is told once.
    """

    def __init__(self, calibration: Mapping[str, Sequence[float]], *, window: int = WINDOW) -> None:
        """Learn what is usual.

        Args:
            calibration: Values of each quantity over the frames of the calibration.
            window: Frames to remember; nothing is said before there are as many.
        """
        self._usual = {name: _usual(values) for name, values in calibration.items()}
        self._recent: deque[Mapping[str, float]] = deque(maxlen=window)
        self._unusual: dict[str, bool] = {}  # quantity -> whether it is above

    @property
    def unusual(self) -> tuple[str, ...]:
        """Quantities that are unlike the calibration's now."""
        return tuple(self._unusual)

    def watch(self, result: Result) -> Result:
        """Return a result with what is unlike the calibration; what has changed since the last one is said."""
        if isinstance(result, BadFrame):
            return result
        for message in self.add(measure_quantities(result.verdict, measure_appearance(result.frame.frame))):
            LOG.warning("%s", message, extra={"again": True})
        return replace(result, unusual=self.unusual)

    def add(self, quantities: Mapping[str, float]) -> list[str]:
        """Take in a frame's quantities; sentences on what has changed since the last frame, mostly none."""
        self._recent.append(quantities)
        if len(self._recent) < (self._recent.maxlen or 0):
            return []
        before, self._unusual = self._unusual, self._find_unusual()
        began = [self._describe(name) for name, above in self._unusual.items() if before.get(name) != above]
        ended = [f"the frames are as usual in {name} again" for name in before if name not in self._unusual]
        return began + ended

    def _find_unusual(self) -> dict[str, bool]:
        found = {}
        for name, usual in self._usual.items():
            values = np.array([quantities[name] for quantities in self._recent])
            for above, outside in ((False, values < usual.low), (True, values > usual.high)):
                limit = ENDS if self._unusual.get(name) == above else BEGINS
                if outside.mean() > limit:
                    found[name] = above
        return found

    def _describe(self, name: str) -> str:
        seen, remedy = _CAUSES[name, self._unusual[name]]
        usual = self._usual[name]
        median = float(np.median([quantities[name] for quantities in self._recent]))
        return (
            f"the last {len(self._recent)} frames are {seen} than those of the calibration ({name} {median:.3g}, "
            f"usual {usual.low:.3g} to {usual.high:.3g}); {remedy}"
        )


def _usual(values: Sequence[float]) -> Usual:
    """The calibration's values without the `TAIL` at either end; the extremes where there are few."""
    ordered = np.sort(np.asarray(values, np.float64))
    cut = int(TAIL * len(ordered))
    return Usual(float(ordered[cut]), float(ordered[len(ordered) - 1 - cut]))

"""Why a detector's thresholds may not mean what the user thinks."""

from __future__ import annotations

from acl_runtime.backends.session import backend_in_record
from acl_runtime.calibration.record import read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.scoring.rule import bundle_rule


def find_mismatches(detector: Detector) -> list[str]:
    """What speaks against the bundle's thresholds on these frames and this machine, in sentences; mostly none."""
    calibration = detector.bundle.manifest.calibration
    if detector.rule != bundle_rule(calibration):
        return []  # the user's own
    record = read_record(detector.bundle)
    if record is None:
        return ["the thresholds are the default, measured on nothing: run acl calibrate with good parts"]
    if detector.tiling != calibration.tiling:
        return ["the thresholds were measured on frames cut otherwise: calibrate with this tiling"]
    if detector.fast_resize != record.fast_resize:
        then, now = ("with", "without") if record.fast_resize else ("without", "with")
        return [f"the thresholds were measured {then} --fast-resize: calibrate {now} it, or run {then} it"]
    backend = backend_in_record(record.backend, record.provider)
    if (backend, record.provider) != (detector.backend, detector.provider):
        return [
            f"the thresholds were measured with {backend} {record.provider}, this is {detector.backend} "
            f"{detector.provider}: scores differ in their last digits; calibrate here"
        ]
    return []

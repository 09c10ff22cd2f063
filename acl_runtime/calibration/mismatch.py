"""Find differences between how a bundle's thresholds were measured and how they are used now."""

from __future__ import annotations

from acl_runtime.calibration.record import check_calibration, read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.scoring.rule import bundle_rule


def find_mismatches(detector: Detector) -> list[str]:
    """Return what speaks against the bundle's thresholds on these frames and this machine, in sentences; mostly none.

    Raises:
        BundleError: The manifest's thresholds are not those of the calibration's record.
    """
    calibration = detector.bundle.manifest.calibration
    check_calibration(detector.bundle)
    if detector.rule != bundle_rule(calibration):
        return []  # the user's own
    record = read_record(detector.bundle)
    if record is None:
        return ["the threshold is the default, an arbitrary 0.5: run acl calibrate with good parts"]
    if detector.tiling != calibration.tiling:
        return ["the thresholds were measured on frames cut otherwise: calibrate with this tiling"]
    if detector.fast_resize != record.fast_resize:
        then, now = ("with", "without") if record.fast_resize else ("without", "with")
        return [f"the thresholds were measured {then} --fast-resize: calibrate {now} it, or run {then} it"]
    if (record.backend, record.provider) != (detector.backend, detector.provider):
        return [
            f"the thresholds were measured with {record.backend} {record.provider}, this is {detector.backend} "
            f"{detector.provider}: scores differ in their last digits; calibrate here"
        ]
    return []

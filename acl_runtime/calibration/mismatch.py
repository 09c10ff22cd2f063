"""Find differences between how a bundle's thresholds were measured and how they are used now."""

from __future__ import annotations

from acl_runtime.calibration.record import CalibrationRecord, check_calibration, read_record
from acl_runtime.detection.detector import Detector
from acl_runtime.images.decode import ReadSettings
from acl_runtime.scoring.rule import bundle_rule


def find_mismatches(detector: Detector, reading: ReadSettings | None = None) -> list[str]:
    """Return what speaks against the bundle's thresholds on these frames and this machine, in sentences; mostly none.

    Args:
        detector: Whose thresholds, and how it judges.
        reading: How image files become frames; None where there are no files.

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
    return _reading_mismatch(record, reading) or _computing_mismatch(record, detector)


def _reading_mismatch(record: CalibrationRecord, reading: ReadSettings | None) -> list[str]:
    if reading is None or record.exif is None:
        return []
    then, now = (_reading_words(each.bits, exif=each.exif) for each in (record, reading))
    if then == now:
        return []
    return [f"the thresholds were measured on images read {then}, these are read {now}: calibrate {now}"]


def _computing_mismatch(record: CalibrationRecord, detector: Detector) -> list[str]:
    if detector.fast_resize != record.fast_resize:
        then, now = ("with", "without") if record.fast_resize else ("without", "with")
        return [f"the thresholds were measured {then} --fast-resize: calibrate {now} it, or run {then} it"]
    if (record.backend, record.provider) != (detector.backend, detector.provider):
        return [
            f"the thresholds were measured with {record.backend} {record.provider}, this is {detector.backend} "
            f"{detector.provider}: scores differ in their last digits; calibrate here"
        ]
    return []


def _reading_words(bits: int | None, *, exif: bool | None) -> str:
    words = "without --bits" if bits is None else f"with --bits {bits}"
    return f"{words} and {'with' if exif else 'without'} --exif"

"""Measure a bundle's thresholds on a stretch of good web, whose segments stand for parts."""

from __future__ import annotations

import numpy as np

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.change import check_same, check_writable, put_into_force
from acl_runtime.calibration.conformal import LEAST_IMAGES, Demand, needed_images
from acl_runtime.calibration.images import Judged
from acl_runtime.calibration.new_record import SegmentUnit, make_record
from acl_runtime.calibration.record import (
    CalibrationRecord,
    JudgedImages,
    next_record_name,
)
from acl_runtime.calibration.thresholds import find_thresholds
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import locked_folder


def calibrate_segments(
    detector: Detector,
    segments: JudgedImages,
    unit: SegmentUnit,
    *,
    max_overkill: float = Demand.max_overkill,
    confidence: float = Demand.confidence,
    hidden_defects: int = Demand.hidden_defects,
    seed: int = 0,
) -> CalibrationRecord:
    """Find the thresholds from segments of good web, and write them into the detector's bundle.

    A segment's values are the largest score of any tile and the largest map value on it, so that it is rejected exactly
    when `acl web` tells a defect on it. What is promised holds for segments that are alike, as stretches of one product
    are; neighbours share tiles at their border, and defects of the web itself come in groups: the more rolls they are
    from, the better.

    Args:
        detector: Judged them: same bundle, tiling, resize, backend and precision as later.
        segments: Their values; the sources say where they lie.
        unit: What they are.
        max_overkill: Largest share of good segments that may be rejected.
        confidence: Confidence level of the promise.
        hidden_defects: Number of segments that may be defective in truth.
        seed: Seed of the draw of the scale segments.

    Raises:
        InputError: They are too few, or the bundle is held by another process or was changed. Nothing was written.
    """
    demand = Demand(max_overkill, confidence, hidden_defects)
    count = len(segments.source)
    if count < (least := max(LEAST_IMAGES, 3 * hidden_defects)):
        needed = needed_images(max_overkill, confidence=confidence, hidden_defects=hidden_defects)
        raise InputError(
            f"segments of good web must be at least {least}, got {count} of {unit.mm / 1000:g} m that were judged from "
            f"end to end; for what was asked give {needed * unit.mm / 1000:g} m"
        )
    check_writable(detector.bundle)
    with locked_folder(detector.bundle.path):
        detector = detector.with_memory(None).with_ignore(None)
        found = find_thresholds(np.array(segments.score), np.array(segments.peak), demand, seed=seed)
        bundle = load_bundle(detector.bundle.path)
        check_same(detector.bundle, bundle)
        name = next_record_name(bundle.path)
        good = Judged(
            images=segments, pictures=(), digests={each: each for each in segments.source}, copies=0
        )
        record = make_record(detector, None, bundle, demand, found, good, None, seed, None, unit)
        put_into_force(bundle, name, record)
    return record

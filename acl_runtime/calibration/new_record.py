"""The record of a calibration: thresholds, what they promise, and the evidence they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

import numpy as np

from acl_runtime.bundle.bundle import Bundle
from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.effect import count_escapes, count_rejected
from acl_runtime.calibration.findings import find_picture_findings, find_score_findings
from acl_runtime.calibration.images import Judged
from acl_runtime.calibration.record import (
    FORMAT,
    FORMAT_VERSION,
    CalibrationRecord,
    Finding,
    MemoryImages,
    read_record,
    tool_versions,
)
from acl_runtime.calibration.report import make_segment_statement, make_statement
from acl_runtime.calibration.thresholds import Thresholds, find_region_threshold
from acl_runtime.detection.detector import Detector
from acl_runtime.images.decode import ReadSettings
from acl_runtime.scoring.rule import bundle_rule


@dataclass(frozen=True)
class SegmentUnit:
    """Stretches of web in the place of images."""

    mm: float  # length of each
    left_out: int = 0  # that were not judged from end to end


def make_record(
    detector: Detector,
    reading: ReadSettings | None,
    bundle: Bundle,
    demand: Demand,
    found: Thresholds,
    good: Judged,
    defective: Judged | None,
    seed: int,
    memory: MemoryImages | None,
    segment: SegmentUnit | None = None,
) -> CalibrationRecord:
    """Put together the record of thresholds that were measured, on images or on segments of a web.

    Args:
        detector: Judged them.
        reading: How the images were read; None for a web.
        bundle: As it is before the thresholds are in force.
        demand: What was asked.
        found: The thresholds.
        good: Images, or segments, that calibrated.
        defective: Images that are known to be defective.
        seed: Of the draw of the scale images.
        memory: Of the record, where there is one.
        segment: What segments are; None for images.
    """
    rule, scale_images = found.rule, int(found.sets_scales.sum())
    kind: Literal["score", "score or peak"] = "score" if rule.peak_threshold is None else "score or peak"
    images, before = len(good.digests), bundle.manifest.calibration
    return CalibrationRecord(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        statement=make_statement(
            demand,
            promised=found.promised_overkill,
            calibrating=images - scale_images,
            scale_images=scale_images,
            copies=good.copies,
            remembered=0 if memory is None else len(memory.sources),
            peak_decides=rule.peak_threshold is not None,
        )
        if segment is None
        else make_segment_statement(
            demand,
            found.promised_overkill,
            segment.mm,
            calibrating=images - scale_images,
            scale_segments=scale_images,
            left_out=segment.left_out,
            peak_decides=rule.peak_threshold is not None,
        ),
        rule=kind,
        score_threshold=rule.score_threshold,
        map_threshold=1.0 if rule.peak_threshold is None else rule.peak_threshold,
        region_threshold=find_region_threshold(np.array(good.images.peak), rule),
        tiling=detector.tiling,
        fast_resize=detector.fast_resize,
        bits=None if reading is None else reading.bits,
        exif=None if reading is None else reading.exif,
        max_overkill=demand.max_overkill,
        promised_overkill=found.promised_overkill,
        confidence=demand.confidence,
        hidden_defects=demand.hidden_defects,
        segment_mm=None if segment is None else segment.mm,
        images=images,
        scale_images=scale_images,
        copies=good.copies,
        rejected=count_rejected(rule, good.images),
        escapes=None if defective is None else count_escapes(rule, defective.images),
        findings=_find(detector, bundle, demand, found, good, memory)
        if segment is None
        else find_score_findings(good.images, found, demand, None),
        seed=seed,
        backend=detector.backend,
        provider=detector.provider,
        precision=bundle.manifest.precision,
        tools=tool_versions(),
        good=good.images,
        sets_scales=tuple(found.sets_scales.tolist()),
        defective=None if defective is None else defective.images,
        memory=memory,
        ignore=None,
        unlabelled=None,
        by_hand=None,
        previous=before.record,
        previous_calibration=before,
    )


def _find(
    detector: Detector,
    bundle: Bundle,
    demand: Demand,
    found: Thresholds,
    good: Judged,
    memory: MemoryImages | None,
) -> tuple[Finding, ...]:
    """Find what the user must look at; the calibration before is asked where its scores mean the same."""
    record = read_record(bundle)
    is_alike = record is not None and (
        record.tiling,
        record.fast_resize,
        record.memory,
        record.ignore,
        detector.stages.ignore,
    ) == (detector.tiling, detector.fast_resize, memory, None, None)
    previous = (record, bundle_rule(bundle.manifest.calibration)) if record is not None and is_alike else None
    return (
        *find_picture_findings(good.images.source, good.pictures, demand),
        *find_score_findings(good.images, found, demand, previous),
    )

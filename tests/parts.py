"""Pictures of good and of defective parts for tests, and a calibration on numbers instead of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from graphs import DEFAULT_CALIBRATION, drawn_frame

from acl_runtime.calibration.record import CalibrationRecord, Escapes, JudgedImages

COLORS = {"good": (255, 0, 128), "defective": (0, 255, 128)}  # the tiny graph scores them low and high


def draw_parts(root: Path, *, good: int, defective: int) -> Path:
    """Write `good/<number>.png` and `defective/<number>.png` and return the folder."""
    seed = 0
    for kind, count in (("good", good), ("defective", defective)):
        (root / kind).mkdir(parents=True)
        for number in range(count):
            frame = np.array(COLORS[kind]) + (drawn_frame(seed).astype(int) - 128) // 2
            cv2.imwrite(str(root / kind / f"{number}.png"), np.clip(frame, 0, 255).astype(np.uint8))
            seed += 1
    return root


def judged(scores: Sequence[float], peaks: Sequence[float], name: str = "part") -> JudgedImages:
    """Images with these values that all look the same."""
    sources = tuple(f"{name}{number}.png" for number in range(len(scores)))
    return JudgedImages(
        source=sources,
        score=tuple(scores),
        peak=tuple(peaks),
        brightness=(0.5,) * len(scores),
        sharpness=(0.1,) * len(scores),
    )


def make_record(
    good: JudgedImages, defective: JudgedImages | None = None, *, threshold: float, peak: float | None = None
) -> CalibrationRecord:
    """A record of these images and thresholds; which are missed goes by the score alone."""
    return CalibrationRecord(
        format="anomalyclip-calibration",
        format_version=6,
        created="2025-01-01T00:00:00+00:00",
        statement="the promise.",
        rule="score" if peak is None else "score or peak",
        score_threshold=threshold,
        map_threshold=1.0 if peak is None else peak,
        region_threshold=None,
        tiling=None,
        fast_resize=False,
        bits=None,
        exif=False,
        max_overkill=0.01,
        promised_overkill=0.02,
        confidence=0.95,
        segment_mm=None,
        hidden_defects=0,
        images=len(good.source),
        scale_images=1,
        copies=0,
        rejected=sum(score >= threshold for score in good.score),
        escapes=None if defective is None else _count_escapes(defective, threshold),
        findings=(),
        seed=0,
        backend="onnxruntime",
        provider="CPUExecutionProvider",
        precision="fp32",
        tools={"python": "3"},
        good=good,
        sets_scales=(True, *(False,) * (len(good.source) - 1)),
        defective=defective,
        memory=None,
        ignore=None,
        unlabelled=None,
        by_hand=None,
        previous=None,
        previous_calibration=DEFAULT_CALIBRATION,
    )


def promised(record: CalibrationRecord) -> float:
    """The share that a record promises, which was measured."""
    assert record.promised_overkill is not None
    return record.promised_overkill


def _count_escapes(defective: JudgedImages, threshold: float) -> Escapes:
    scored = zip(defective.source, defective.score, strict=True)
    missed = tuple(source for source, score in scored if score < threshold)
    return Escapes(images=len(defective.source), missed=len(missed), sources=missed)

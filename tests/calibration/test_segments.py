"""Thresholds from good web: the promise per segment and per 100 m, and the record that keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import write_tiny_bundle
from parts import judged, promised

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.calibration.conformal import Demand, needed_images
from acl_runtime.calibration.new_record import SegmentUnit
from acl_runtime.calibration.record import check_calibration, read_record
from acl_runtime.calibration.report import make_segment_statement, report_lines
from acl_runtime.calibration.segments import calibrate_segments
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.rule import bundle_rule

TILING = Tiling(56, 14, None)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def good_web(count: int, seed: int = 0) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    return rng.beta(2, 20, count).tolist(), rng.beta(2, 30, count).tolist()


def test_the_thresholds_and_their_evidence_are_in_the_bundle(bundle: Path) -> None:
    scores, peaks = good_web(319)
    with Detector(bundle, tiling=TILING) as detector:
        record = calibrate_segments(detector, judged(scores, peaks, "m"), SegmentUnit(1000.0, left_out=2))
    loaded = load_bundle(bundle)
    check_calibration(loaded)
    assert read_record(loaded) == record
    assert (record.segment_mm, record.images, record.tiling) == (1000.0, 319, TILING)
    assert promised(record) <= 0.01
    rule = bundle_rule(loaded.manifest.calibration)
    rejected = sum(map(rule.is_anomalous, scores, peaks))
    assert rejected == record.rejected <= 0.01 * 319 + 20
    assert record.statement == (
        "With 299 good segments of 1 m (20 others only put score and peak on one scale): at most 1 % of good segments "
        "have a false alarm, which is 1 in 100 m on average, at 95 % confidence. 2 segments were not judged from end "
        "to end, and left out."
    )
    assert f"{rejected} of these 319 good segments are rejected" in "\n".join(report_lines(record))
    with Detector(bundle) as later:
        assert later.tiling == TILING


def test_later_good_web_keeps_the_promise_as_often_as_it_says(bundle: Path) -> None:
    """At most 5 % of segments, at 90 % confidence: the rest is the draw of the calibration."""
    demand = {"max_overkill": 0.05, "confidence": 0.9}
    kept = []
    with Detector(bundle, tiling=TILING) as detector:
        for seed in range(25):
            count = needed_images(0.05, confidence=0.9)
            record = calibrate_segments(
                Detector(bundle, tiling=TILING, session=detector.session),
                judged(*good_web(count, seed)),
                SegmentUnit(1000.0),
                seed=seed,
                **demand,  # type: ignore[arg-type]
            )
            rule = bundle_rule(load_bundle(bundle).manifest.calibration)
            later = good_web(4000, 1000 + seed)
            kept.append(np.mean([*map(rule.is_anomalous, *later)]) <= promised(record))
    assert sum(kept) >= 20  # of 25 at 90 %: fewer in one of 300 runs


def test_too_little_web_is_told_with_the_metres_that_are_needed(bundle: Path) -> None:
    with (
        Detector(bundle, tiling=TILING) as detector,
        pytest.raises(
            InputError,
            match="segments of good web must be at least 20, got 7 of 0.5 m that were judged from end to end; for what "
            "was asked give 159.5 m",
        ),
    ):
        calibrate_segments(detector, judged(*good_web(7)), SegmentUnit(500.0))
    assert load_bundle(bundle).manifest.calibration.record is None


@pytest.mark.parametrize(
    ("segment_mm", "words"),
    [
        (1000.0, "which is 12 in 100 m on average"),
        (500.0, "which is 24 in 100 m on average"),
        (10_000.0, "which is 1.2 in 100 m on average"),
    ],
)
def test_the_promise_is_said_per_100_m_and_what_it_would_take(segment_mm: float, words: str) -> None:
    statement = make_segment_statement(Demand(), 0.1199, segment_mm, calibrating=24, scale_segments=6)
    assert words in statement
    assert f"give {319 * segment_mm / 1000:g} m of good web or more" in statement

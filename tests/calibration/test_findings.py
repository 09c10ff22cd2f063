"""What a user must look at is found, named and told with its figures; an ordinary calibration is told little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle
from parts import COLORS, draw_parts, judged, make_record
from scipy.special import expit

from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.change import restore_previous
from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.findings import find_picture_findings, find_score_findings
from acl_runtime.calibration.pictures import look_at
from acl_runtime.calibration.record import Finding, JudgedImages
from acl_runtime.calibration.thresholds import find_thresholds
from acl_runtime.detection.detector import Detector
from acl_runtime.scoring.rule import Rule
from acl_runtime.sources.files import list_sources


def find(scores: np.ndarray, peaks: np.ndarray, demand: Demand | None = None) -> dict[str, Finding]:
    """Findings about log-odds of good parts, by kind."""
    demand = demand or Demand()
    good = judged(expit(scores).tolist(), expit(peaks).tolist())
    found = find_thresholds(np.array(good.score), np.array(good.peak), demand, seed=0)
    return {finding.kind: finding for finding in find_score_findings(good, found, demand, None)}


def normal(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(-3, 1.5, count), rng.normal(-4, 1, count)


@pytest.mark.parametrize("count", [30, 60, 300])
def test_good_parts_of_one_kind_are_told_their_highest_only(count: int) -> None:
    kinds = [frozenset(find(*normal(count, seed))) for seed in range(20)]
    assert kinds.count(frozenset(["highest"])) >= 19


def test_the_highest_are_named_with_their_values_and_what_they_cost() -> None:
    scores, peaks = normal(60)
    scores[7], peaks[11] = 2.0, 1.5
    finding = find(scores, peaks)["highest"]
    assert set(finding.images[:2]) == {"part7.png", "part11.png"}
    assert len(finding.images) == 5
    assert "if one is defective, leave it out and calibrate again: " in finding.text
    assert f"part7.png (score {expit(2.0):.3f}, peak " in finding.text
    assert "; without the first NG would begin at score 0." in finding.text


def test_defects_among_good_parts_are_a_gap_and_the_thresholds_without_them_are_told() -> None:
    scores, peaks = normal(46)
    clean = find_thresholds(expit(scores), expit(peaks), Demand(), seed=0).rule
    rows = [3, 20, 41]
    scores[rows], peaks[rows] = (8.0, 8.5, 9.0), (1.0, 2.0, 0.5)
    finding = find(scores, peaks)["gap"]
    assert set(finding.images) == {f"part{row}.png" for row in rows}
    assert finding.text.startswith(
        "3 of 46 good images lie far above the other 43: part41.png (score 0.99988, peak"
    )
    told = float(finding.text.split("without them NG would begin at score ")[1].split(" ")[0])
    assert told == pytest.approx(clean.score_threshold, abs=0.2)


def test_two_groups_are_told_where_no_gap_is_between_them() -> None:
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.normal(-6, 1, 40), rng.normal(4, 1.5, 20)])
    finding = find(scores, scores * 0.5 - 1)["two groups"]
    assert set(finding.images) == {f"part{row}.png" for row in range(40, 60)}
    assert "20 of 60 good images lie in a group of their own above the other 40" in finding.text


def test_a_threshold_that_never_decides_is_told_with_the_highest_good_part() -> None:
    rng = np.random.default_rng(0)
    scores, peaks = rng.normal(-3, 1, 60), rng.normal(-9, 3.0, 60).clip(-14, -5)
    scores[np.argmax(scores)] = 12.0
    finding = find(scores, peaks)["idle threshold"]
    assert finding.text.startswith("the map peak will practically never decide: its threshold is 1 - ")
    assert f"the highest good part has {expit(peaks.max()):.4f}" in finding.text


def test_black_frames_are_told_and_promise_nothing() -> None:
    rng = np.random.default_rng(0)
    frames = [np.abs(rng.normal(0, 1, (90, 120))).astype(np.uint8) for _ in range(60)]
    sources = [f"{number}.png" for number in range(60)]
    black, copies = find_picture_findings(sources, [look_at(frame) for frame in frames], Demand())
    assert black.kind == "dark"
    assert black.text.startswith("60 of 60 good images are nearly black: 0.png, 1.png, ")
    assert copies.kind == "near copies"
    assert copies.text.startswith("59 of 60 good images look nearly like another (1.png like 0.png, ")
    assert copies.text.endswith(
        "1 distinct part is left, which is too few to promise anything (20 are needed)"
    )
    white = find_picture_findings(sources[:1], [look_at(255 - frames[0])], Demand())
    assert [finding.kind for finding in white] == ["saturated"]


def test_the_promise_of_the_distinct_parts_is_told() -> None:
    frames = [drawn_frame(number // 2) for number in range(80)]  # each part twice
    for number, frame in enumerate(frames):
        frame[0, 0] = number
    sources = [f"{number}.png" for number in range(80)]
    (copies,) = find_picture_findings(sources, [look_at(frame) for frame in frames], Demand())
    assert copies.images == tuple(sources[1::2])
    assert copies.text.endswith("40 distinct parts are left, which can promise no less than 8.9 % overkill")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=40, defective=12)


def kinds_and_texts(findings: tuple[Finding, ...]) -> Mapping[str, str]:
    return {finding.kind: finding.text for finding in findings}


def test_the_calibration_before_is_asked_about_these_images(tmp_path: Path, images: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    sources = list_sources([images / "good"])
    first = calibrate_bundle(Detector(bundle), sources)
    assert set(kinds_and_texts(first.findings)) == {"highest"}
    again = kinds_and_texts(calibrate_bundle(Detector(bundle), sources).findings)
    assert again["before"].endswith(
        f"the calibration before, of {first.created[:10]}, would reject {first.rejected} of these 40 good images"
    )
    (tmp_path / "worse").mkdir()
    for number in range(24):  # other parts, which that calibration rejects
        frame = np.array(COLORS["defective"]) + (drawn_frame(500 + number).astype(int) - 128) // 2
        cv2.imwrite(str(tmp_path / "worse" / f"{number}.png"), np.clip(frame, 0, 255).astype(np.uint8))
    restore_previous(bundle)
    worse = calibrate_bundle(Detector(bundle), list_sources([tmp_path / "worse"]))
    told = kinds_and_texts(worse.findings)["before"]
    assert "would reject 24 of these 24 good images, where it promised at most 8.9 %" in told
    assert told.endswith("or these are not all good")


def test_a_calibration_of_another_tiling_or_with_a_memory_is_not_asked(tmp_path: Path, images: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    sources = list_sources([images / "good"])
    calibrate_bundle(Detector(bundle), sources)
    with_memory = calibrate_bundle(Detector(bundle), sources, memory=4)
    assert "before" not in kinds_and_texts(with_memory.findings)
    assert "before" not in kinds_and_texts(calibrate_bundle(Detector(bundle), sources).findings)


def test_defective_images_among_the_good_ones_are_named(tmp_path: Path, images: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    defective = list_sources([images / "defective"])[:2]
    record = calibrate_bundle(Detector(bundle), [*list_sources([images / "good"]), *defective])
    told = {finding.kind: finding for finding in record.findings}
    assert set(told["gap"].images) == {source.path for source in defective}
    assert set(told["highest"].images[:2]) == {source.path for source in defective}


def test_a_finding_moves_no_threshold() -> None:
    good: JudgedImages = judged([0.1] * 25, [0.2] * 25)
    found = find_thresholds(np.array(good.score), np.array(good.peak), Demand(), seed=0)
    before = replace(make_record(good, threshold=0.05))
    findings = find_score_findings(good, found, Demand(), (before, Rule(0.05, None)))
    assert "would reject 25 of these 25" in kinds_and_texts(findings)["before"]

"""Thresholds that a person set: no promise is stated, the ones before come back, nobody's change is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from console import acl, assert_one_line
from graphs import edit_manifest, write_tiny_bundle
from parts import draw_parts

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.change import ChangedError, adopt, restore_previous, set_by_hand, take_back
from acl_runtime.calibration.monitor import monitor_of
from acl_runtime.calibration.record import ByHand, check_calibration, read_record, record_from_json
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BundleError, InputError
from acl_runtime.images.ignore import load_ignore
from acl_runtime.scoring.rule import Rule, bundle_rule
from acl_runtime.sources.files import Source, list_sources

ANA = ByHand(by="Ana", parts=1000, changed=12)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=24, defective=4)


@pytest.fixture(scope="module")
def measured(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle, for tests to copy."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("by-hand") / "bundle")
    calibrate_bundle(Detector(bundle), good(images), defective=list_sources([str(images / "defective")]))
    return bundle


@pytest.fixture
def bundle(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "bundle"))


def good(images: Path) -> list[Source]:
    return list_sources([str(images / "good")])


def test_a_threshold_set_by_hand_says_who_when_what_was_before_and_that_nothing_is_promised(
    bundle: Path,
) -> None:
    before = load_bundle(bundle)
    promise = before.manifest.calibration.source
    now = set_by_hand(Detector(before), Rule(0.999, None), ANA)
    loaded = load_bundle(bundle)
    assert loaded == now
    check_calibration(loaded)
    record = read_record(loaded)
    assert record is not None
    assert (record.by_hand, record.promised_overkill) == (ANA, None)
    assert record.previous_calibration == before.manifest.calibration
    assert record.escapes is not None
    assert record.escapes.missed == 4  # nothing reaches 0.999
    assert bundle_rule(loaded.manifest.calibration) == Rule(0.999, None)
    assert Detector(bundle).rule == Rule(0.999, None)
    said = loaded.manifest.calibration.source
    assert said.startswith(
        f"Set by hand on {record.created[:10]} {record.created[11:16]} UTC by Ana, no promise"
    )
    assert said.endswith("12 of the last 1000 parts would have another verdict.")
    told = acl("info", bundle).stdout
    assert said in told
    assert "Before: score" in told
    assert "(calibrations/0001.json)" in told
    assert promise not in told
    assert "at most" not in told.partition("thresholds")[2].partition("\n")[0]


def test_it_is_taken_back_by_the_command_one_by_one(bundle: Path) -> None:
    measured = load_bundle(bundle).manifest.calibration
    for score in (0.9, 0.8):
        set_by_hand(Detector(bundle), Rule(score, 0.7), ANA)
    first = acl("restore", bundle).stdout
    assert "anomalous from score 0.900 or map peak 0.700 again: Set by hand on" in first
    assert "as calibrated" not in first
    assert acl("restore", bundle).stdout.rstrip().endswith(measured.source)
    assert load_bundle(bundle).manifest.calibration == measured


def test_a_bundle_that_was_never_calibrated_takes_thresholds_too_and_watches_no_drift(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    set_by_hand(Detector(bundle), Rule(0.7, 0.6), ByHand(by="Ana", parts=0, changed=0))
    detector = Detector(bundle)
    assert detector.rule == Rule(0.7, 0.6)
    assert monitor_of(detector) is None
    assert acl("info", bundle).exit_code == 0
    assert restore_previous(bundle).source == "default"


def test_a_calibration_after_one_by_hand_has_its_promise_again(bundle: Path, images: Path) -> None:
    set_by_hand(Detector(bundle), Rule(0.01, None), ANA)
    record = calibrate_bundle(Detector(bundle), good(images))
    assert record.by_hand is None
    assert record.promised_overkill is not None
    (finding,) = [each for each in record.findings if each.kind == "before"]
    assert "would reject" in finding.text
    assert "promised" not in finding.text


@pytest.mark.parametrize("rule", [Rule(0.0, None), Rule(0.5, 0.0)])
def test_a_threshold_that_would_reject_everything_is_refused(bundle: Path, rule: Rule) -> None:
    before = load_bundle(bundle)
    with pytest.raises(InputError, match="must lie above 0 and up to 1, got 0"):
        set_by_hand(Detector(before), rule, ANA)
    assert load_bundle(bundle) == before


def test_the_second_of_two_who_change_at_once_is_told_and_the_first_stays(bundle: Path) -> None:
    ana, ben = Detector(bundle), Detector(bundle)
    set_by_hand(ana, Rule(0.9, None), ANA)
    with pytest.raises(
        ChangedError, match=r"was calibrated meanwhile \(calibrations/0002\.json is in force\)"
    ):
        set_by_hand(ben, Rule(0.1, None), replace(ANA, by="Ben"))
    with pytest.raises(ChangedError, match="load that first"):
        take_back(ben.bundle)
    assert load_bundle(bundle).manifest.calibration.score_threshold == 0.9


def test_a_bundle_that_was_replaced_meanwhile_is_left_alone(bundle: Path) -> None:
    detector = Detector(bundle)
    shutil.rmtree(bundle)
    write_tiny_bundle(bundle, head="embeddings")
    other = load_bundle(bundle)
    with pytest.raises(BundleError, match="was replaced since it was loaded"):
        set_by_hand(detector, Rule(0.9, None), ANA)
    assert load_bundle(bundle) == other


def test_a_bundle_of_the_same_files_that_judges_otherwise_is_another_one(bundle: Path) -> None:
    detector = Detector(bundle)
    edit_manifest(bundle, lambda document: document.update(blur_sigma=8.0))
    with pytest.raises(BundleError, match="was replaced since it was loaded"):
        set_by_hand(detector, Rule(0.9, None), ANA)


def test_what_was_measured_on_a_copy_is_adopted_with_its_memory_and_mask_and_taken_back(
    tmp_path: Path, images: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    before = load_bundle(bundle)
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    record = calibrate_bundle(Detector(copy), good(images), memory=3, ignored=["0,0 30,0 30,20 0,20"])
    set_by_hand(Detector(bundle), Rule(0.9, None), ANA)
    with pytest.raises(ChangedError, match="was calibrated otherwise since this was measured"):
        adopt(load_bundle(bundle), copy)
    restore_previous(bundle)
    adopt(before, copy)  # as 0002, since 0001 was the one by hand
    loaded = load_bundle(bundle)
    check_calibration(loaded)
    assert loaded.manifest.calibration.record == "calibrations/0002.json"
    assert loaded.manifest.calibration.memory == "calibrations/0002.npz"
    assert loaded.manifest.calibration.source == record.statement
    assert loaded.manifest.calibration.ignore == "calibrations/0002.ignore.png"
    stages = Detector(bundle).stages
    assert stages.memory is not None
    assert stages.ignore is not None
    assert restore_previous(bundle) == before.manifest.calibration


def test_a_copy_of_another_bundle_is_not_adopted(bundle: Path, tmp_path: Path, images: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", head="embeddings")
    calibrate_bundle(Detector(other), good(images))
    with pytest.raises(InputError, match="is no copy of"):
        adopt(load_bundle(bundle), other)


def test_a_program_of_before_refuses_the_record_in_a_sentence(bundle: Path) -> None:
    """It looks at the version first, so the new key is never met."""
    set_by_hand(Detector(bundle), Rule(0.9, None), ANA)
    document = json.loads((bundle / "calibrations" / "0002.json").read_text())
    document["format_version"] += 1
    with pytest.raises(
        ValueError, match=r"^is of format version 7, newer than 6; upgrade anomalyclip-deploy$"
    ):
        record_from_json(json.dumps(document))


def test_the_command_says_in_one_line_that_nothing_was_before(tmp_path: Path) -> None:
    assert_one_line(acl("restore", write_tiny_bundle(tmp_path / "bundle")), "nothing was before them")


def test_the_mask_of_what_was_measured_is_adopted_too(tmp_path: Path, images: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    calibrate_bundle(Detector(copy), good(images), ignored=["60,0 119,0 119,44 60,44"])
    adopt(load_bundle(bundle), copy)
    ours, theirs = load_ignore(load_bundle(bundle)), load_ignore(load_bundle(copy))
    assert ours is not None
    assert theirs is not None
    assert (ours.mask == theirs.mask).all()


def test_a_memory_without_which_nothing_judges_is_not_taken_back(tmp_path: Path, images: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", head="embeddings")
    edit_manifest(bundle, lambda document: document["prompts"].update(method="memory"))
    calibrate_bundle(Detector(bundle), good(images), memory=4, memory_kind="place")
    before = load_bundle(bundle)
    with pytest.raises(InputError, match="cannot judge without a memory of good parts"):
        take_back(before)
    assert load_bundle(bundle) == before

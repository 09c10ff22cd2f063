"""The evidence of a calibration is read as strictly as the manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import write_tiny_bundle
from parts import judged, make_record

from acl_runtime.bundle.bundle import load_bundle, replace_manifest
from acl_runtime.calibration.change import restore_previous
from acl_runtime.calibration.mismatch import find_mismatches
from acl_runtime.calibration.monitor import DriftMonitor
from acl_runtime.calibration.record import (
    CalibrationRecord,
    Escapes,
    check_calibration,
    record_from_json,
    record_to_json,
    to_calibration,
    write_record,
)
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BundleError
from acl_runtime.scoring.memory_file import load_memory

SAMPLES = Path(__file__).parents[1] / "samples" / "calibrations"

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def record() -> CalibrationRecord:
    rng = np.random.default_rng(0)
    good = judged(rng.uniform(0, 0.5, 40).tolist(), rng.uniform(0, 0.3, 40).tolist())
    return make_record(good, judged([0.4, 0.9], [0.2, 0.8], "bad"), threshold=0.5)


def test_the_keys_of_the_record_are_these(record: CalibrationRecord) -> None:
    document = json.loads(record_to_json(record))
    assert sorted(document) == sorted(
        [
            *("format", "format_version", "created", "statement", "rule", "score_threshold", "map_threshold"),
            *(
                "ignore",
                "unlabelled",
                "tiling",
                "fast_resize",
                "bits",
                "exif",
                "max_overkill",
                "promised_overkill",
                "confidence",
                "hidden_defects",
            ),
            *(
                "images",
                "scale_images",
                "copies",
                "rejected",
                "escapes",
                "seed",
                "backend",
                "provider",
                "precision",
            ),
            *("region_threshold", "findings", "segment_mm", "by_hand"),
            *("tools", "good", "sets_scales", "defective", "memory", "previous", "previous_calibration"),
        ]
    )
    assert document["format"] == "anomalyclip-calibration"
    assert sorted(document["good"]) == ["brightness", "peak", "score", "sharpness", "source"]
    assert sorted(document["escapes"]) == ["images", "missed", "sources"]
    assert record_from_json(record_to_json(record)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="zip"), "is no calibration"),
        (lambda d: d.update(format_version=7, more=1), "newer than 6; upgrade anomalyclip-deploy"),
        (lambda d: d.pop("statement"), "calibration lacks the key 'statement'"),
        (lambda d: d.update(images=3), "good and sets_scales must be 3 long, as images says, got 40 and 40"),
        (lambda d: d["good"]["peak"].pop(), r"good\.peak must be as long as good\.source, got 39"),
        (lambda d: d["good"]["score"].__setitem__(0, "1"), r"calibration\.good\.score\[0\] must be a finite"),
    ],
)
def test_a_record_that_is_none_is_refused(record: CalibrationRecord, change: Edit, message: str) -> None:
    document = json.loads(record_to_json(record))
    change(document)
    with pytest.raises(ValueError, match=message):
        record_from_json(json.dumps(document))
    with pytest.raises(ValueError, match="is not valid JSON"):
        record_from_json("{")


def test_drift_can_be_watched_from_a_record(record: CalibrationRecord) -> None:
    monitor = DriftMonitor(record.good.quantities, window=4)
    usual = {name: float(np.median(values)) for name, values in record.good.quantities.items()}
    assert [monitor.add(usual) for _ in range(8)] == [[]] * 8


@pytest.mark.parametrize(
    ("version", "has_memory"), [("version-1", False), ("version-2-first", True), ("version-2", True)]
)
def test_records_of_older_versions_are_read(version: str, has_memory: bool) -> None:
    """They were written by the versions of that time; the first files of version 2 lacked `fast_resize`."""
    first, second = (
        record_from_json((SAMPLES / version / name).read_bytes()) for name in ("0001.json", "0002.json")
    )
    assert (first.images, first.escapes, first.memory) == (24, Escapes(images=2, missed=0, sources=()), None)
    assert (first.previous, first.previous_calibration.source) == (None, "default")
    assert (second.previous, second.previous_calibration.source) == (
        "calibrations/0001.json",
        first.statement,
    )
    assert (second.memory is not None) is has_memory
    for record in (first, second):
        assert record.backend == "onnxruntime"
        assert (record.fast_resize, record.region_threshold, record.findings) == (False, None, ())
        assert record_from_json(record_to_json(record)) == record


def test_a_record_of_version_3_is_read_and_how_its_images_were_read_is_not_known() -> None:
    first, second = (
        record_from_json((SAMPLES / "version-3" / name).read_bytes()) for name in ("0001.json", "0002.json")
    )
    assert (first.images, first.memory, second.images) == (24, None, 21)
    assert second.memory is not None
    for record in (first, second):
        assert record.region_threshold is not None
        assert record.findings
        assert (record.bits, record.exif) == (None, None)
        assert record_from_json(record_to_json(record)) == record


def test_a_record_of_version_4_is_of_images() -> None:
    """It knew how images were read, and no web."""
    first, second = (
        record_from_json((SAMPLES / "version-4" / name).read_bytes()) for name in ("0001.json", "0002.json")
    )
    assert (first.images, second.images, second.previous) == (24, 24, "calibrations/0001.json")
    for record in (first, second):
        assert record.segment_mm is None
        assert record.exif is False
        assert record_from_json(record_to_json(record)) == record


def test_a_record_of_version_5_was_measured() -> None:
    """It knew a web, and nobody who sets thresholds by hand."""
    first, second = (
        record_from_json((SAMPLES / "version-5" / name).read_bytes()) for name in ("0001.json", "0002.json")
    )
    assert (first.images, first.segment_mm) == (24, None)
    assert (second.images, second.segment_mm, second.previous) == (40, 1000.0, "calibrations/0001.json")
    for record in (first, second):
        assert record.by_hand is None
        assert record.promised_overkill is not None
        assert record_from_json(record_to_json(record)) == record


@pytest.mark.parametrize("version", ["version-2-first", "version-2", "version-3"])
def test_a_patch_memory_of_an_older_version_still_judges(version: str, tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", head="embeddings"))
    shutil.copytree(SAMPLES / version, bundle.path / "calibrations")
    record = record_from_json((bundle.path / "calibrations" / "0002.json").read_bytes())
    calibration = to_calibration(record, "calibrations/0002.json")
    names = [f"calibrations/{name}" for name in ("0001.json", "0002.json", "0002.npz")]
    replace_manifest(bundle, replace(bundle.manifest, calibration=calibration), added=names)
    loaded = load_bundle(bundle.path)
    check_calibration(loaded)
    memory = load_memory(loaded)
    assert memory is not None
    assert record.memory is not None
    assert memory.kinds == ("patches",)
    assert memory.nearest is not None
    assert memory.nearest.patch_embeddings.shape[1] == record.memory.patches
    assert (record.memory.kind, record.memory.images) == ("patches", len(record.memory.sources))
    assert restore_previous(bundle.path).record == "calibrations/0001.json"
    check_calibration(load_bundle(bundle.path))


@pytest.mark.parametrize(
    "change", [{"score_threshold": 0.9}, {"map_threshold": 1.0}, {"rule": "score"}, {"region_threshold": 0.9}]
)
def test_thresholds_that_were_edited_are_told_from_measured_ones(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    check_calibration(bundle)  # the default has no record
    record = make_record(judged([0.1, 0.2, 0.6], [0.1, 0.2, 0.3]), threshold=0.5, peak=0.4)
    name = "calibrations/0001.json"
    write_record(bundle.path, name, record)
    calibration = to_calibration(record, name)
    replace_manifest(bundle, replace(bundle.manifest, calibration=calibration), added=[name])
    measured = load_bundle(bundle.path)
    check_calibration(measured)
    replace_manifest(measured, replace(measured.manifest, calibration=replace(calibration, **change)))
    key, value = next(iter(change.items()))
    message = rf"manifest\.json: calibration\.{key} must be .*, as measured in {name}, got {value!r}; calibrate again"
    with pytest.raises(BundleError, match=message):
        check_calibration(load_bundle(bundle.path))
    with pytest.raises(BundleError, match=message):
        find_mismatches(Detector(bundle.path))

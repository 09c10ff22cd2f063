"""Bundles that were written by the code of earlier versions are read, and judge as they did then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from graphs import drawn_frame

from acl_runtime import Detector
from acl_runtime.bundle.bundle import load_bundle, load_golden, load_text_embeddings, replace_manifest
from acl_runtime.calibration.change import restore_previous
from acl_runtime.calibration.record import read_record
from acl_runtime.commands.describe import describe


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_bundle_of_an_old_version_judges_as_it_did(version: int) -> None:
    folder = SAMPLES / f"version_{version}"
    assert json.loads((folder / "manifest.json").read_text())["format_version"] == version
    then = json.loads((SAMPLES / f"version_{version}.json").read_text())
    bundle = load_bundle(folder)
    calibration = bundle.manifest.calibration
    for key in ("score_threshold", "map_threshold", "source"):
        assert getattr(calibration, key) == then[key]
    detector = Detector(bundle, provider="CPUExecutionProvider")
    for seed, expected in zip((1, 2), then["verdicts"], strict=True):
        verdict = detector(drawn_frame(seed))
        assert verdict.score == pytest.approx(expected["score"], abs=1e-6)
        assert verdict.is_anomalous == expected["is_anomalous"]
        assert float(verdict.anomaly_map.max()) == pytest.approx(expected["peak"], abs=1e-6)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_its_parts_are_read_and_it_is_described(version: int) -> None:
    bundle = load_bundle(SAMPLES / f"version_{version}")
    assert len(load_golden(bundle)["images"]) == 2
    assert load_text_embeddings(bundle).shape == (1, 2, 6)
    has_heads = "not recorded by the version that made the bundle" not in describe(bundle)
    assert has_heads == (version == 5)
    record = read_record(bundle)
    if version == 1:
        assert record is None
    else:
        assert record is not None
        assert record.score_threshold == bundle.manifest.calibration.score_threshold
        assert (record.memory is not None) == (version in (4, 5))


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_its_calibration_is_restored_and_the_manifest_becomes_one_of_now(
    version: int, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SAMPLES / f"version_{version}", tmp_path / "b"))
    assert restore_previous(folder).source == "default"
    document = json.loads((folder / "manifest.json").read_text())
    assert (document["format_version"], document["calibration"]["score_threshold"]) == (6, 0.5)
    assert "checksum" in document
    bundle = load_bundle(folder)
    replace_manifest(bundle, bundle.manifest)
    assert load_bundle(folder).manifest == bundle.manifest
    frame = drawn_frame(1)
    again = Detector(folder, provider="CPUExecutionProvider")(frame)
    assert np.isfinite(again.score)


def test_info_says_when_and_on_what_the_thresholds_were_measured() -> None:
    record = read_record(load_bundle(SAMPLES / "version_2"))
    assert record is not None
    line = next(
        line for line in describe(load_bundle(SAMPLES / "version_2")).splitlines() if "thresholds" in line
    )
    assert (
        f"of {record.created[:10]}, 24 good images in parts/good, for a demonstration: they say nothing"
        in line
    )
    assert record.statement in line

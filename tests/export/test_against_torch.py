"""The torch model is judged by the same evaluation as its export: the verdicts agree, and the drift has its sign."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import BUNDLE_SIZE
from folders import draw_category
from graphs import drawn_frame
from sessions import Around
from typer.testing import CliRunner, Result

from acl_export.config import Head
from acl_export.torch_session import TorchSession
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.bundle.bundle import (
    TEXT_EMBEDDINGS,
    Bundle,
    load_bundle,
    load_text_embeddings,
    write_manifest,
)
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.cli import app
from acl_runtime.data.datasets import load_sample, read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.run import EvalSettings, run_evaluation
from acl_runtime.sources.files import list_sources
from acl_train.weights import Weights

TILES = Tiling(60, 20, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good and two defective parts, all different."""
    folder = tmp_path_factory.mktemp("parts") / "nut"
    draw_category(folder)
    for seed, path in enumerate(sorted(folder.glob("test/*/*.png"))):
        cv2.imwrite(str(path), drawn_frame(seed))
    for mask in folder.glob("ground_truth/*/*.png"):
        cv2.imwrite(str(mask), np.pad(np.full((30, 30), 255, np.uint8), ((20, 40), (30, 60))))
    return folder


def acl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table_rows(text: str, label: str) -> list[list[float]]:
    """The numbers of the drift table's lines that begin with `label`."""
    lines = re.findall(rf"^  {label} .*$", text, re.MULTILINE)
    return [[float(number) for number in line.split()[1:]] for line in lines]


@pytest.mark.parametrize("tiling", [None, TILES], ids=["whole", "tiles"])
@pytest.mark.parametrize("head", Head)
def test_torch_and_its_export_agree_by_the_same_rule(
    bundles: dict[Head, Path],
    data: Path,
    clip_path: Path,
    tmp_path: Path,
    head: Head,
    tiling: Tiling | None,
) -> None:
    bundle = shutil.copytree(bundles[head], tmp_path / "bundle")
    (tmp_path / "good").mkdir()
    for seed in range(20):
        cv2.imwrite(str(tmp_path / "good" / f"{seed}.png"), drawn_frame(100 + seed))
    record = calibrate_bundle(
        Detector(bundle, tiling=tiling), list_sources([tmp_path / "good"]), max_overkill=0.5, confidence=0.5
    )
    assert record.rule == "score or peak"
    detector = Detector(bundle)
    reference = Detector(detector.bundle, session=TorchSession.of_bundle(detector.bundle, str(clip_path)))
    assert (detector.rule, detector.tiling) == (reference.rule, reference.tiling)
    assert detector.tiling == tiling
    for sample in read_dataset(data).samples:
        frame = load_sample(sample)
        ours, theirs = detector(frame), reference(frame)
        assert abs(ours.score - theirs.score) < 1e-4
        assert np.abs(ours.anomaly_map - theirs.anomaly_map).max() < 1e-4
        assert ours.anomaly_map.shape == ((BUNDLE_SIZE, BUNDLE_SIZE) if tiling is None else (90, 120))
        assert ours.is_anomalous == theirs.is_anomalous
        assert (ours.threshold, ours.peak_threshold) == (theirs.threshold, theirs.peak_threshold)


def test_torch_and_its_export_remember_alike(
    bundles: dict[Head, Path], data: Path, clip_path: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(bundles[Head.embeddings], tmp_path / "bundle")
    (tmp_path / "good").mkdir()
    for seed in range(24):
        cv2.imwrite(str(tmp_path / "good" / f"{seed}.png"), drawn_frame(100 + seed))
    calibrate_bundle(Detector(bundle), list_sources([tmp_path / "good"]), memory=4)
    detector = Detector(bundle)
    reference = Detector(detector.bundle, session=TorchSession.of_bundle(detector.bundle, str(clip_path)))
    for sample in read_dataset(data).samples:
        frame = load_sample(sample)
        ours, theirs, alone = detector(frame), reference(frame), detector.with_memory(None)(frame)
        assert abs(ours.score - theirs.score) < 1e-4 < abs(ours.score - alone.score)
        assert np.abs(ours.anomaly_map - theirs.anomaly_map).max() < 1e-3
        assert np.abs(ours.anomaly_map - alone.anomaly_map).max() > 0.01
    golden = GoldenImages(detector.bundle).compare(detector.session, batch=2)  # of the graph, memory or none
    assert max(golden.image_logits, golden.anomaly_map) < 1e-3


@pytest.mark.parametrize("options", [(), ("--tile", 60, "--overlap", 20)], ids=["whole", "tiles"])
@pytest.mark.parametrize("head", Head)
def test_the_command_prints_the_drift_of_every_metric(
    bundles: dict[Head, Path], data: Path, clip_path: Path, head: Head, options: tuple[object, ...]
) -> None:
    done = acl(
        "eval", bundles[head], data, "--against", "torch", "--weights", clip_path, "--json", "-", *options
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    (ours, *_), (theirs, *_), (drift, *_) = (
        table_rows(done.stderr, label) for label in ("bundle", "torch", "difference")
    )
    metrics = [value for value in rows[0].values() if isinstance(value, float)]
    assert ours == [pytest.approx(100 * value, abs=6e-4) for value in metrics]
    assert theirs == [pytest.approx(value, abs=1) for value in ours]
    assert len(drift) == 7
    found = re.search(r"largest difference of a score (\S+), of a map (\S+)", done.stderr)
    assert found is not None
    assert 0 < float(found[1]) < 1e-4
    assert 0 < float(found[2]) < 1e-4


def test_every_image_is_judged_once_by_each(bundles: dict[Head, Path], data: Path) -> None:
    bundle = load_bundle(bundles[Head.map])
    seen = []

    def session(name: str, swapped: bool) -> Detector:
        inner = Detector(bundle).session

        def judge(images: np.ndarray) -> dict[str, np.ndarray]:
            seen.append(name)
            outputs = inner(images)
            logits, maps = outputs["image_logits"], outputs["anomaly_maps"]
            return {"image_logits": -logits, "anomaly_maps": 1 - maps} if swapped else dict(outputs)

        return Detector(bundle, session=Around(inner, judge))

    ours, theirs = session("bundle", False), session("reference", True)
    calls: list[tuple[str, int, int]] = []
    result = run_evaluation(
        ours, [data], EvalSettings(), reference=theirs, progress=lambda *at: calls.append(at)
    )
    assert seen == 4 * ["bundle", "reference"]
    judging = [call for call in calls if call[0] == "judging nut"]
    assert judging == [("judging nut", number, 4) for number in (1, 2, 3, 4)]
    (mine, *_), (other, *_), (drift, *_) = (
        table_rows(result.text, label) for label in ("bundle", "torch", "difference")
    )
    auroc = result.evaluations[0].rows[0]["pixel_auroc"]  # of a map upside down it is the rest to 1
    assert abs(auroc - 0.5) > 0.01
    assert mine[3] == pytest.approx(100 * auroc, abs=1e-3)
    assert other[3] == pytest.approx(100 - mine[3], abs=2e-3)
    assert drift[3] == pytest.approx(mine[3] - other[3], abs=2e-3)
    alone = run_evaluation(ours, [data], EvalSettings())
    assert alone.evaluations[0].rows == result.evaluations[0].rows
    assert result.text.startswith(alone.text)
    assert "difference  " not in alone.text


def test_the_drift_of_swapped_prompts_has_the_sign_of_bundle_less_torch(
    bundles: dict[Head, Path], data: Path, clip_path: Path, tmp_path: Path
) -> None:
    """The map head has the right texts in its graph; torch reads those of the bundle, which are swapped here."""
    bundle = shutil.copytree(bundles[Head.map], tmp_path / "bundle")
    loaded = load_bundle(bundle)
    np.save(bundle / TEXT_EMBEDDINGS, load_text_embeddings(loaded)[0, ::-1])
    write_manifest(bundle, loaded.manifest)
    done = acl("eval", bundle, data, "--against", "torch", "--weights", clip_path)
    assert done.exit_code == 0
    ours, theirs, drift = (table_rows(done.stdout, label)[0] for label in ("bundle", "torch", "difference"))
    right = acl("eval", bundles[Head.map], data, "--against", "torch", "--weights", clip_path)
    assert ours == table_rows(right.stdout, "bundle")[0]
    assert theirs[3] == pytest.approx(100 - ours[3], abs=0.01)
    assert abs(ours[3] - theirs[3]) > 1
    assert drift == [pytest.approx(a - b, abs=2e-3) for a, b in zip(ours, theirs, strict=True)]


def test_other_weights_are_refused_with_the_remedy(
    bundles: dict[Head, Path], data: Path, weights: Weights, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    state = dict(weights.state)
    state["visual.proj"] = state["visual.proj"] + 1
    save_file(state, tmp_path / "other.safetensors")
    command = ("eval", bundles[Head.map], data, "--against", "torch")
    refused = acl(*command, "--weights", tmp_path / "other.safetensors")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert "error: weights must be those the bundle was exported from" in refused.stderr
    assert f"clip_tiny.pt, sha256 {weights.sha256[:12]}), got other.safetensors, sha256" in refused.stderr
    assert refused.stderr.splitlines()[-1].endswith("; pass --weights FILE")
    missing = acl(*command)
    assert missing.exit_code == 1
    assert "clip_tiny.pt: no such file" in missing.stderr


def make_bundle(path: Path, quick_gelu: bool | None) -> Bundle:
    """The same bundle, but its manifest says something else about the activation."""
    bundle = load_bundle(path)
    backbone = replace(bundle.manifest.backbone, quick_gelu=quick_gelu)
    return Bundle(bundle.path, replace(bundle.manifest, backbone=backbone))


def test_an_activation_that_the_manifest_does_not_know_is_as_the_weights_say(
    bundles: dict[Head, Path], clip_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, BUNDLE_SIZE, BUNDLE_SIZE, 3), dtype=np.uint8)
    known, unknown, other = (
        TorchSession.of_bundle(make_bundle(bundles[Head.map], quick_gelu), str(clip_path))(images)[
            "anomaly_maps"
        ]
        for quick_gelu in (True, None, False)
    )
    np.testing.assert_array_equal(known, unknown)
    assert np.abs(known - other).max() > 1e-3

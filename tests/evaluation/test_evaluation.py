"""A data set's metrics and curves are those of its verdicts, category by category."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from folders import draw_category
from graphs import drawn_frame, write_tiny_bundle
from PIL import Image
from sklearn.metrics import auc

from acl_runtime.data.datasets import Dataset, load_mask, load_sample, read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import CURVE_POINTS, CategoryEvaluation, evaluate_dataset, thin
from acl_runtime.evaluation.metrics import evaluate
from acl_runtime.evaluation.rows import dataset_notes
from acl_runtime.evaluation.tables import json_document

METRICS = ["image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle"))


def draw_dataset(root: Path) -> Dataset:
    """Two categories of two good and two defective parts each, all different, in MVTec AD's layout."""
    for category in ("nut", "bolt"):
        draw_category(root / category)
    for seed, path in enumerate(sorted(root.glob("*/test/*/*.png"))):
        cv2.imwrite(str(path), drawn_frame(seed, height=8, width=12))
    return read_dataset(root)


def test_metrics_are_those_of_the_verdicts_in_either_form(detector: Detector, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path)
    exact = evaluate_dataset(dataset, detector, exact=True)
    streamed = evaluate_dataset(dataset, detector)
    assert [one.category for one in exact.categories] == list(dataset.categories) == ["bolt", "nut"]
    for one, other in zip(exact.categories, streamed.categories, strict=True):
        samples = [dataset.samples[index] for index in one.indices]
        assert {sample.category for sample in samples} == {one.category}
        verdicts = [detector(load_sample(sample)) for sample in samples]
        assert one.scores.tolist() == [verdict.score for verdict in verdicts]
        assert one.peaks.tolist() == [verdict.anomaly_map.max() for verdict in verdicts]
        assert one.is_anomalous.tolist() == [verdict.is_anomalous for verdict in verdicts]
        assert one.labels.tolist() == [sample.label for sample in samples]
        maps = np.stack([verdict.anomaly_map for verdict in verdicts])
        masks = np.stack([load_mask(sample, height=56, width=56) for sample in samples])
        assert one.metrics == evaluate(one.scores, one.labels, maps, masks)
        assert other.metrics == {name: pytest.approx(value, abs=1e-9) for name, value in one.metrics.items()}
        assert None not in one.metrics.values()


def test_rows_end_with_the_mean_of_the_categories(detector: Detector, tmp_path: Path) -> None:
    rows = evaluate_dataset(draw_dataset(tmp_path), detector).rows
    assert all(list(row) == ["dataset", "category", "images", *METRICS] for row in rows)
    assert [(row["category"], row["images"]) for row in rows] == [("bolt", 4), ("nut", 4), ("mean", 8)]
    assert {row["dataset"] for row in rows} == {tmp_path.name}
    for name in METRICS:
        assert rows[-1][name] == pytest.approx((rows[0][name] + rows[1][name]) / 2)
    json.dumps(rows, allow_nan=False)


def test_categories_are_put_together_wherever_their_images_are(detector: Detector, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path)
    mixed = replace(dataset, samples=dataset.samples[::2] + dataset.samples[1::2])
    evaluation = evaluate_dataset(mixed, detector)
    assert [one.indices for one in evaluation.categories] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    rows = evaluate_dataset(dataset, detector).rows
    for row, expected in zip(evaluation.rows, rows, strict=True):
        assert row == {**row, **{name: pytest.approx(expected[name]) for name in METRICS}}


def test_curves_have_the_areas_of_the_metrics(detector: Detector, tmp_path: Path) -> None:
    for one in evaluate_dataset(draw_dataset(tmp_path), detector).categories:
        for curve, name in ((one.image_roc, "image_auroc"), (one.pixel_roc, "pixel_auroc")):
            assert curve is not None
            assert auc(curve.x, curve.y) == pytest.approx(one.metrics[name], abs=2e-3)
            assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert one.pro is not None
        assert one.pro.x[-1] < 0.3
        assert (np.diff([one.pro.x, one.pro.y]) >= 0).all()
        assert auc(one.pro.x, one.pro.y) / np.ptp(one.pro.x) == pytest.approx(one.metrics["aupro"])


def test_thinned_curves_keep_their_ends_and_their_shape() -> None:
    x = np.sort(np.random.default_rng(0).random(20_000)) ** 3
    x[0], x[-1] = 0, 1
    curve = thin(x, x**0.1)
    assert 400 < len(curve.x) <= CURVE_POINTS
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (0, 1, 1)
    assert (np.abs(np.interp(x, curve.x, curve.y) - x**0.1)).max() < 2 / CURVE_POINTS
    few = thin(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert few.x.tolist() == [0, 0, 1]


def test_without_masks_pixels_are_left_out(detector: Detector, tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    for mask in (tmp_path / "nut" / "ground_truth" / "hole").iterdir():
        mask.unlink()
    (one,) = evaluate_dataset(read_dataset(tmp_path), detector).categories
    assert [name for name, value in one.metrics.items() if value is None] == METRICS[3:]
    assert one.image_roc is not None
    assert one.pixel_roc is one.pro is None


def test_a_category_of_one_class_is_not_in_the_mean(detector: Detector, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path)
    good = tuple(sample for sample in dataset.samples if sample.category == "bolt" or not sample.label)
    evaluation = evaluate_dataset(replace(dataset, samples=good), detector)
    bolt, nut, mean = evaluation.rows
    assert {nut[name] for name in METRICS} == {None}
    assert [mean[name] for name in METRICS] == [bolt[name] for name in METRICS]
    assert (nut["images"], mean["images"]) == (2, 6)
    assert evaluation.categories[1].image_roc is None


def verdict(anomaly_map: np.ndarray, score: float, peak: float) -> Verdict:
    return Verdict(
        score=score,
        peak=peak,
        is_anomalous=score >= 0.5,
        margin=0.0,
        threshold=0.5,
        peak_threshold=None,
        regions=(),
        anomaly_map=anomaly_map,
        latency_ms={},
    )


def judge_of_any_size(frame: np.ndarray) -> Verdict:
    """A map of half the frame's size and a little more where the frame is bright."""
    height, width = frame.shape[:2]
    grey = frame if frame.ndim == 2 else frame.mean(axis=2)
    resized = np.asarray(cv2.resize(grey.astype(np.float32) / 300, (width // 2 + 1, height // 2)), np.float32)
    return verdict(resized, float(resized.mean()), float(resized.max()))


@pytest.mark.parametrize("exact", [True, False])
def test_maps_of_any_size_meet_masks_of_their_size(tmp_path: Path, exact: bool) -> None:
    dataset = draw_dataset(tmp_path)
    for path in (tmp_path / "nut").glob("*/hole/10*.png"):
        with Image.open(path) as picture:
            picture.resize((30, 18)).save(path)
    nut: CategoryEvaluation = evaluate_dataset(dataset, judge_of_any_size, exact=exact).categories[1]
    verdicts = [judge_of_any_size(load_sample(dataset.samples[index])) for index in nut.indices]
    maps = [verdict.anomaly_map for verdict in verdicts]
    assert {one.shape for one in maps} == {(4, 7), (9, 16)}
    masks = [
        load_mask(dataset.samples[index], height=one.shape[0], width=one.shape[1])
        for index, one in zip(nut.indices, maps, strict=True)
    ]
    expected = evaluate(nut.scores, nut.labels, maps, masks)
    assert nut.metrics == {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()}


def test_each_image_is_judged_once_and_counted(detector: Detector, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path)
    seen: list[tuple[int, ...]] = []
    done: list[tuple[int, int]] = []

    def judge(frame: np.ndarray) -> Verdict:
        seen.append(frame.shape)
        return detector(frame)

    upper = tuple(replace(sample, rows=(0, 4)) for sample in dataset.samples)
    evaluate_dataset(replace(dataset, samples=upper), judge, progress=lambda *at: done.append(at))
    assert seen == 8 * [(4, 12, 3)]
    assert done == [(number, 8) for number in range(1, 9)]


def test_faint_pixels_of_a_mask_count_where_they_are_asked_for(detector: Detector, tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path)
    for path in tmp_path.glob("*/ground_truth/*/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        mask[-2:, -2:] = 20
        cv2.imwrite(str(path), mask)
    faint, clear = (evaluate_dataset(dataset, detector, mask_above=above).rows[0] for above in (0, 127))
    assert faint["pixel_auroc"] != clear["pixel_auroc"]
    assert faint["image_auroc"] == clear["image_auroc"]


def judge_closely(frame: np.ndarray) -> Verdict:
    """Half of the map's values are next to each other, the others of all magnitudes."""
    rng = np.random.default_rng(int(frame.sum()))
    near = np.float32(0.02) + np.float32(2e-6) * rng.random((400, 400), np.float32)
    far = np.exp(rng.uniform(-85, -1, near.shape)).astype(np.float32)
    anomaly_map = np.where(rng.random(near.shape) < 0.5, near, far)
    return verdict(anomaly_map, 0.5, 0.5)


def test_a_pixel_auroc_that_may_be_off_is_noted(detector: Detector, tmp_path: Path) -> None:
    dataset = replace(draw_dataset(tmp_path), notes=("Drawn.",))
    plain = evaluate_dataset(dataset, detector)
    assert plain.notes == ("Drawn.",)
    assert plain.auroc_error == 0
    close = evaluate_dataset(dataset, judge_closely)
    assert close.auroc_error == max(one.auroc_error for one in close.categories) > 0.01
    (drawn, note) = dataset_notes(close)
    assert drawn == "Drawn."
    assert f"the pixel AUROC may be off by up to {close.auroc_error:.1g}" in note
    assert note.endswith("measure again with --exact.")
    assert note in [each["note"] for each in json_document([close], settings={})["notes"]]
    assert evaluate_dataset(dataset, judge_closely, exact=True).notes == ("Drawn.",)

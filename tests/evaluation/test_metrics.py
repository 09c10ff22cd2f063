"""Metrics equal scikit-learn's and the published code's, ties and all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import label as label_regions
from sklearn import metrics as sklearn_metrics

from acl_runtime.evaluation.metrics import (
    ExactCounts,
    aupro,
    auroc,
    average_precision,
    evaluate,
    f1_max,
    to_metrics,
)
from acl_runtime.evaluation.ranking import rank, roc_points

FIXTURES = Path(__file__).parents[1] / "golden" / "fixtures"
GOLDEN = json.loads((FIXTURES / "metrics.json").read_text())


def golden(name: str) -> dict[str, Any]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return dict(arrays)


def relabelled_aupro(
    maps: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
    *,
    steps: int,
    fpr_limit: float,
) -> float:
    """The published definition as it is written: mark and measure anew at every threshold."""
    pixels = np.concatenate([one.ravel() for one in maps])
    good = ~np.concatenate([one.ravel() for one in masks])
    step = pixels.dtype.type((pixels.max() - pixels.min()) / pixels.dtype.type(steps))
    regions = [label_regions(mask, connectivity=2) for mask in masks]  # type: ignore[no-untyped-call]
    curve = []
    for threshold in np.arange(pixels.min(), pixels.max(), step):
        recalls = [
            (maps[image][regions[image] == region] > threshold).mean()
            for image in range(len(maps))
            for region in range(1, regions[image].max() + 1)
        ]
        curve.append(((pixels[good] > threshold).mean(), np.mean(recalls)))
    fpr, pro = np.array([point for point in curve if point[0] < fpr_limit]).T
    return float(sklearn_metrics.auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), pro))


def draw_case(seed: int, *, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Maps (6, 24, 32) float32 of noise, brighter on random blocks, and masks of those blocks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 24, 32), np.bool_)
    for image in range(2, 6):
        for top, left in rng.integers(0, 20, size=(3, 2)):
            masks[image, top : top + 4, left : left + 4] = True
    maps = (rng.random(masks.shape) + 0.6 * masks).astype(np.float32)
    return (maps if levels is None else np.floor(maps * levels) / np.float32(levels)), masks


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_ranking_metrics_equal_scikit_learns(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for count in range(4, 60):
        labels = np.resize([0, 1, 0, 0, 1], count)
        scores = rng.integers(0, levels, count).astype(np.float32)
        precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
        assert auroc(scores, labels) == pytest.approx(
            sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
        )
        expected = sklearn_metrics.average_precision_score(labels, scores)
        assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)
        assert f1_max(scores, labels) == pytest.approx(f1.max(), abs=1e-12)


def test_ranking_metrics_see_only_the_order() -> None:
    maps, masks = draw_case(0)
    for metric in (auroc, average_precision, f1_max):
        assert metric(np.exp(3 * maps.astype(np.float64)), masks) == metric(maps, masks)


def test_auroc_of_the_opposite_is_its_complement() -> None:
    maps, masks = draw_case(1, levels=7)
    assert auroc(-maps, masks) == pytest.approx(1 - auroc(maps, masks), abs=1e-12)
    assert auroc(maps, ~masks) == pytest.approx(1 - auroc(maps, masks), abs=1e-12)


def test_scores_that_are_all_equal_tell_nothing() -> None:
    labels = np.array([0, 1, 1, 0])
    assert auroc(np.full(4, 0.5), labels) == 0.5
    assert average_precision(np.full(4, 0.5), labels) == 0.5


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_alone_has_no_ranking(labels: list[int]) -> None:
    scores = np.array([0.1, 0.2, 0.3])
    for metric in (auroc, average_precision, f1_max):
        assert math.isnan(metric(scores, np.array(labels)))


@pytest.mark.parametrize("maps", ["float32_maps", "float64_maps", "smoothed_maps"])
def test_metrics_equal_the_published_code(maps: str) -> None:
    arrays = golden("metrics")
    pixels = arrays["maps_smoothed" if maps == "smoothed_maps" else "maps"]
    pixels = pixels.astype(np.float64) if maps == "float64_maps" else pixels
    values = evaluate(arrays["scores"], arrays["labels"], pixels, arrays["masks"])
    expected = GOLDEN[maps]
    assert values["aupro"] == pytest.approx(expected["pixel-aupro"], abs=1e-9)
    assert values["pixel_auroc"] == pytest.approx(expected["pixel-auroc"], abs=1e-12)
    assert values["image_auroc"] == pytest.approx(expected["image-auroc"], abs=1e-12)
    assert values["image_ap"] == pytest.approx(expected["image-ap"], abs=1e-12)


def test_aupro_follows_the_published_code_in_steps_and_limit() -> None:
    arrays = golden("metrics")
    maps, masks = arrays["maps"], arrays["masks"]
    for steps, expected in GOLDEN["pro_max_step"].items():
        assert aupro(maps, masks, steps=int(steps)) == pytest.approx(expected, abs=1e-9)
    for limit, expected in GOLDEN["pro_expect_fpr"].items():
        assert aupro(maps, masks, fpr_limit=float(limit)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["mini_70_last", "mini_70_multi"])
def test_metrics_of_a_published_run_are_reproduced(name: str) -> None:
    arrays = golden(name)
    expected = json.loads((FIXTURES / f"{name}.json").read_text())["metrics"]
    for index, category in enumerate(("01", "02", "03")):
        part = slice(6 * index, 6 * index + 6)
        keys = ("score", "label", "anomaly_map", "mask")
        values = evaluate(*(arrays[key][part] for key in keys))
        for metric, published in expected[category].items():
            ours = metric.replace("pixel-aupro", "aupro").replace("-", "_")
            assert values[ours] == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("levels", [None, 3, 40])
@pytest.mark.parametrize("fpr_limit", [0.05, 0.3, 1.0])
def test_aupro_equals_marking_anew_at_every_threshold(levels: int | None, fpr_limit: float) -> None:
    maps, masks = draw_case(3, levels=levels)
    maps[0, 0] = 2  # so that rounded maps, too, leave a curve below the lowest limit
    maps[0, 1] = 1.9
    slow = relabelled_aupro(maps, masks, steps=50, fpr_limit=fpr_limit)
    assert aupro(maps, masks, steps=50, fpr_limit=fpr_limit) == pytest.approx(slow, abs=1e-9)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    masks = np.zeros((1, 20, 20), np.bool_)
    masks[0, :2, :2] = masks[0, 2:6, 2:6] = True
    maps = np.random.default_rng(0).random((1, 20, 20)).astype(np.float32)
    maps[0, :2, :2] += 1  # only the small block is found: 4 of 20 pixels, not one of two regions
    slow = relabelled_aupro(maps, masks, steps=200, fpr_limit=0.3)
    assert aupro(maps, masks) == pytest.approx(slow, abs=1e-9)
    assert aupro(maps, masks) < 0.45


def test_the_curve_ends_before_the_limit() -> None:
    maps = np.array([[[1, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0.7]]], np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[0, 0, -1] = True  # three of the ten good pixels, 0.3 of them, lie above 0.4
    inside = aupro(maps, masks, fpr_limit=0.3)
    assert inside == relabelled_aupro(maps, masks, steps=200, fpr_limit=0.3)
    assert inside < aupro(maps, masks, fpr_limit=0.31)


def test_aupro_is_undefined_without_a_curve() -> None:
    maps, masks = draw_case(4)
    assert math.isnan(aupro(maps, np.zeros_like(masks)))
    assert math.isnan(aupro(maps, np.ones_like(masks)))
    assert math.isnan(aupro(np.full_like(maps, 0.2), masks))
    assert math.isnan(aupro(masks.astype(np.float32), masks))  # perfect maps of 0 and 1


def test_evaluate_leaves_out_what_is_undefined() -> None:
    scores, labels = np.array([0.1, 0.9, 0.4, 0.3]), np.array([0, 1, 1, 0])
    values = evaluate(scores, labels)
    assert values == {
        "image_auroc": 1.0,
        "image_ap": 1.0,
        "image_f1max": 1.0,
        "pixel_auroc": None,
        "pixel_ap": None,
        "pixel_f1max": None,
        "aupro": None,
    }
    assert evaluate(scores, np.ones(4))["image_auroc"] is None
    json.dumps(values, allow_nan=False)


def test_numbers_that_are_not_finite_are_refused() -> None:
    maps, masks = draw_case(5)
    maps[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="maps must be finite, got 1 that are not"):
        aupro(maps, masks)
    with pytest.raises(ValueError, match="scores must be finite, got 1 that are not"):
        auroc(np.array([np.inf, 0.0]), np.array([1, 0]))


@pytest.mark.parametrize("levels", [None, 4])
def test_the_roc_curve_is_scikit_learns(levels: int | None) -> None:
    maps, masks = draw_case(7, levels=levels)
    points = roc_points(rank(maps, masks))
    assert points is not None
    fpr, tpr, _ = sklearn_metrics.roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    assert {*zip(*np.round(points, 12), strict=True)} <= {*zip(*np.round((fpr, tpr), 12), strict=True)}
    assert sklearn_metrics.auc(*points) == pytest.approx(auroc(maps, masks), abs=1e-12)
    assert (np.diff(points) >= 0).all()
    assert roc_points(rank(maps, np.zeros_like(masks))) is None


def test_maps_may_differ_in_size() -> None:
    maps, masks = draw_case(8)
    cut = [24, 20, 24, 10, 7, 24]
    short_maps = [one[:rows] for one, rows in zip(maps, cut, strict=True)]
    short_masks = [one[:rows] for one, rows in zip(masks, cut, strict=True)]
    values = evaluate(np.arange(6), np.array([0, 0, 1, 1, 1, 1]), short_maps, short_masks)
    pixels, marked = (np.concatenate([one.ravel() for one in many]) for many in (short_maps, short_masks))
    assert values["pixel_auroc"] == auroc(pixels, marked)
    slow = relabelled_aupro(short_maps, short_masks, steps=200, fpr_limit=0.3)
    assert values["aupro"] == pytest.approx(slow, abs=1e-9)


def test_images_added_one_by_one_are_counted_as_all_at_once() -> None:
    maps, masks = draw_case(9)
    scores, labels = maps.max(axis=(1, 2)), masks.max(axis=(1, 2))
    counts = ExactCounts()
    for score, label, anomaly_map, mask in zip(scores, labels, maps, masks, strict=True):
        counts.add(float(score), int(label), anomaly_map, mask)
    assert to_metrics(counts.counts()) == evaluate(scores, labels, maps, masks)
    counts.add(0.5, 0)
    with pytest.raises(ValueError, match="maps must be given for all images or for none, got 6 for 7"):
        counts.counts()


def test_shapes_that_differ_are_named() -> None:
    maps, masks = draw_case(6)
    with pytest.raises(ValueError, match="maps must be one or more and as many as masks, got 6 and 5"):
        aupro(maps, masks[:5])
    with pytest.raises(ValueError, match=r"must be \(height, width\), got \(24, 32\) and \(24, 31\)"):
        aupro(maps, masks[:, :, 1:])
    with pytest.raises(ValueError, match="maps must have one dtype, got float32, float64"):
        aupro([maps[0], maps[1].astype(np.float64)], masks[:2])
    with pytest.raises(ValueError, match=r"scores and labels must have one shape, got \(2,\) and \(3,\)"):
        auroc(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="maps and masks must be given together"):
        evaluate(np.zeros(2), np.array([0, 1]), maps=maps)

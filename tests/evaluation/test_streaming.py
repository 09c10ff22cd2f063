"""Metrics from one image after the other equal those of all maps at once, in memory that stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from acl_runtime.evaluation.histogram import HALF, WAITING, Histogram, common_bins, to_keys, undecided_share
from acl_runtime.evaluation.metrics import evaluate, to_metrics
from acl_runtime.evaluation.streaming import StreamingCounts

FIXTURES = Path(__file__).parents[1] / "golden" / "fixtures"
FEW = 2**16  # bins: a third of the pixels below, so that values are merged as in a category of large maps


@dataclass(frozen=True)
class Case:
    """Images of one category: scores (N,), labels (N,), and N maps and masks of (H, W) each."""

    scores: np.ndarray
    labels: np.ndarray
    maps: Sequence[np.ndarray] | np.ndarray
    masks: Sequence[np.ndarray] | np.ndarray


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def draw_case(kind: str, *, seed: int = 0, images: int = 12) -> Case:
    """Smooth noise, higher on blobs that the masks hold in two images of three; then made to look like `kind`."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, 96, 96), np.uint8)
    for image in (index for index in range(images) if index % 3):
        for _ in range(rng.integers(1, 4)):
            column, row = (int(place) for place in rng.integers(8, 88, 2))
            cv2.circle(masks[image], (column, row), int(rng.integers(2, 12)), 1, -1)
    noise = [cv2.GaussianBlur(one, (0, 0), 5) for one in rng.standard_normal((images, 96, 96))]
    blobs = [cv2.GaussianBlur(one.astype(np.float64), (0, 0), 2) for one in masks]
    logits = np.stack(noise) * 15 + 2 * np.stack(blobs)
    make: dict[str, Callable[[], np.ndarray]] = {
        "like a network's": lambda: sigmoid(logits - 2),
        "random": lambda: rng.random(logits.shape, np.float32),
        "tied": lambda: np.round(sigmoid(logits) * 20).astype(np.float32) / np.float32(20),
        "saturated": lambda: sigmoid(30 * (logits - 1.2)),
        "narrow": lambda: sigmoid(1e-5 * logits),
        "tiny": lambda: sigmoid(logits - 60),
        "partly tied": lambda: np.where(rng.random(logits.shape) < 0.5, np.float32(0.3), sigmoid(logits - 2)),
        "narrow, with outliers": lambda: np.where(
            rng.random(logits.shape) < 0.5,
            np.float32(0.02) + np.float32(2e-6) * np.tanh(logits).astype(np.float32),
            np.exp(rng.uniform(-85, -1, logits.shape)).astype(np.float32),  # over all magnitudes
        ),
        "0 and 1 too": lambda: np.clip(sigmoid(logits) * 3 - 1, 0, 1).astype(np.float32),
    }
    maps = make[kind]()
    scores = maps.max(axis=(1, 2)).astype(np.float64)
    return Case(scores, (np.arange(images) % 3 > 0).astype(int), maps, masks > 0)


KINDS = ["like a network's", "random", "tied", "saturated", "narrow", "tiny", "partly tied", "0 and 1 too"]


def stream(case: Case, *, order: Sequence[int] | None = None, limit: int | None = None) -> StreamingCounts:
    counts = StreamingCounts() if limit is None else StreamingCounts(limit=limit)
    for index in range(len(case.scores)) if order is None else order:
        counts.add(float(case.scores[index]), int(case.labels[index]), case.maps[index], case.masks[index])
    return counts


def assert_close(counts: StreamingCounts, case: Case, *, within: float) -> None:
    exact = evaluate(case.scores, case.labels, case.maps, case.masks)
    streamed = to_metrics(counts.counts())
    assert None not in exact.values()
    assert streamed == {name: pytest.approx(value, abs=within) for name, value in exact.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_few_values_are_counted_exactly(kind: str) -> None:
    case = draw_case(kind)
    assert_close(stream(case), case, within=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_values_are_merged_with_little_loss(kind: str, seed: int) -> None:
    case = draw_case(kind, seed=seed, images=24)
    counts = stream(case, limit=FEW)
    is_merged = kind not in ("tied", "narrow")
    assert (len(np.unique(np.concatenate([*case.maps])[~np.concatenate([*case.masks])])) > FEW) == is_merged
    assert_close(counts, case, within=1e-4 if is_merged else 1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "narrow, with outliers"])
@pytest.mark.parametrize("limit", [FEW, 2**12, 2**18])
def test_the_error_of_the_auroc_is_within_what_is_said(kind: str, limit: int) -> None:
    case = draw_case(kind, images=24)
    counts = stream(case, limit=limit).counts()
    exact = evaluate(case.scores, case.labels, case.maps, case.masks)["pixel_auroc"]
    streamed = to_metrics(counts)["pixel_auroc"]
    assert exact is not None
    assert streamed is not None
    assert abs(streamed - exact) <= counts.auroc_error + 1e-12
    if limit == 2**18 or kind == "tied":  # no values are merged
        assert counts.auroc_error == 0
    elif kind not in ("narrow, with outliers", "partly tied"):  # a heavy value has a bin with others
        assert counts.auroc_error < (1e-4 if limit == FEW else 1e-3)


def test_values_that_are_close_beside_outliers_are_merged_and_it_is_said() -> None:
    case = draw_case("narrow, with outliers", images=24)
    counts = stream(case, limit=FEW).counts()
    exact = evaluate(case.scores, case.labels, case.maps, case.masks)["pixel_auroc"]
    streamed = to_metrics(counts)["pixel_auroc"]
    assert exact is not None
    assert streamed is not None
    assert abs(streamed - exact) > 1e-2
    assert counts.auroc_error < 20 * abs(streamed - exact)


def test_pairs_in_one_bin_are_undecided_unless_it_holds_one_value() -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(0, 40, size).astype(np.float32) / np.float32(64) for size in (300, 200)]
    histograms = [Histogram(limit=9) for _ in values]
    for histogram, each in zip(histograms, values, strict=True):
        histogram.add(each)
    one, other = common_bins(*histograms)
    assert undecided_share(one, other) == undecided_share(other, one)
    cells = [
        np.searchsorted(bins.low, to_keys(each), side="right") - 1
        for bins, each in zip((one, other), values, strict=True)
    ]
    edges = [bins.low[cell] for bins, cell in zip((one, other), cells, strict=True)]
    members: dict[int, list[float]] = {}
    for edge, value in zip(np.concatenate(edges).tolist(), np.concatenate(values).tolist(), strict=True):
        members.setdefault(edge, []).append(value)
    slow = sum(a == b and len(set(members[a])) > 1 for a in edges[0].tolist() for b in edges[1].tolist()) / (
        300 * 200
    )
    assert undecided_share(one, other) == pytest.approx(slow)
    assert 0 < slow < 1


@pytest.mark.parametrize("limit", [None, FEW])
def test_the_order_of_images_does_not_matter(limit: int | None) -> None:
    case = draw_case("like a network's")
    metrics = to_metrics(stream(case, limit=limit).counts())
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(case.scores)).tolist()
        shuffled = to_metrics(stream(case, order=order, limit=limit).counts())
        assert shuffled == {name: pytest.approx(value, abs=1e-12) for name, value in metrics.items()}


@pytest.mark.parametrize("maps", ["maps", "maps_smoothed"])
def test_metrics_equal_the_published_codes(maps: str) -> None:
    with np.load(FIXTURES / "metrics.npz") as arrays:
        case = Case(arrays["scores"], arrays["labels"], arrays[maps], arrays["masks"] > 0)
    expected = json.loads((FIXTURES / "metrics.json").read_text())
    published = expected["float32_maps" if maps == "maps" else "smoothed_maps"]
    metrics = to_metrics(stream(case).counts())
    assert metrics["aupro"] == pytest.approx(published["pixel-aupro"], abs=1e-9)
    assert metrics["pixel_auroc"] == pytest.approx(published["pixel-auroc"], abs=1e-12)
    assert metrics["image_auroc"] == pytest.approx(published["image-auroc"], abs=1e-12)
    assert metrics["image_ap"] == pytest.approx(published["image-ap"], abs=1e-12)
    assert_close(stream(case), case, within=1e-9)


@pytest.mark.parametrize("limit", [None, FEW])
def test_maps_may_differ_in_size(limit: int | None) -> None:
    case = draw_case("like a network's")
    sizes = np.random.default_rng(0).integers(40, 97, (12, 2))
    maps, masks = (
        [one[:height, :width] for one, (height, width) in zip(many, sizes, strict=True)]
        for many in (case.maps, case.masks)
    )
    ragged = Case(case.scores, case.labels, maps, masks)
    assert_close(stream(ragged, limit=limit), ragged, within=1e-12 if limit is None else 1e-4)


def test_memory_does_not_grow_with_the_maps() -> None:
    limit, sizes = 1000, []
    counts = StreamingCounts(limit=limit)
    for seed in range(4):
        case = draw_case("random", seed=seed)
        for image in zip(case.scores.tolist(), case.labels.tolist(), case.maps, case.masks, strict=True):
            counts.add(*image)
        counts.counts()
        sizes.append(held_bytes(counts))
    images = 16 * 2 * len(case.scores) * len(sizes)  # a score and a label each, in lists
    assert max(sizes) < 3 * 16 * limit + images + 1000  # three histograms of 16 bytes a bin
    assert case.maps[0].size > 9 * limit


def held_bytes(thing: object) -> int:
    """Bytes of every array and number that an object holds, directly or not."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.base is None else held_bytes(thing.base)
    if isinstance(thing, (list, tuple)):
        return 8 * len(thing) + sum(held_bytes(one) for one in thing)
    if hasattr(thing, "__dict__"):
        return sum(held_bytes(one) for one in vars(thing).values())
    return 8  # a number


def test_what_waits_to_be_merged_is_bounded() -> None:
    histogram = Histogram(limit=1000)
    largest = 0
    for seed in range(60):
        histogram.add(np.random.default_rng(seed).random(300, np.float32))
        largest = max(largest, held_bytes(histogram))
    assert 1000 * 16 < largest < 1000 * 16 + (WAITING * 1000 + 300) * 4 + 2000  # the bins, and what waits


def test_metrics_without_a_meaning_are_none() -> None:
    case = draw_case("like a network's")
    unmarked = np.zeros_like(case.masks)
    nothing = dict.fromkeys(("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"))
    for masks in (unmarked, ~unmarked):
        metrics = to_metrics(stream(Case(case.scores, case.labels, case.maps, masks)).counts())
        assert metrics == {**metrics, **nothing}
    constant = [np.full_like(one, 0.2) for one in case.maps]
    metrics = to_metrics(stream(Case(case.scores, case.labels, constant, case.masks)).counts())
    assert metrics["aupro"] is None
    assert metrics["pixel_auroc"] == 0.5
    perfect = [one.astype(np.float32) for one in case.masks]
    metrics = to_metrics(stream(Case(case.scores, case.labels, perfect, case.masks)).counts())
    assert metrics["aupro"] is None
    assert metrics["pixel_auroc"] == 1
    good_only = to_metrics(stream(case, order=[0, 3, 6]).counts())
    assert set(good_only.values()) == {None}


def test_images_without_masks_have_image_metrics_only() -> None:
    counts = StreamingCounts()
    for score, label in ((0.1, 0), (0.9, 1), (0.4, 1), (0.3, 0)):
        counts.add(score, label)
    assert to_metrics(counts.counts()) == evaluate(np.array([0.1, 0.9, 0.4, 0.3]), np.array([0, 1, 1, 0]))
    with pytest.raises(ValueError, match="masks must be given for all images or for none, got both"):
        counts.add(0.5, 0, np.zeros((2, 2), np.float32), np.zeros((2, 2), np.bool_))


def test_maps_that_cannot_be_counted_are_refused() -> None:
    counts = StreamingCounts()
    mask = np.zeros((2, 3), np.bool_)
    with pytest.raises(ValueError, match=r"must be float32 in 0..1, got float64 in 0.0..0.0"):
        counts.add(0.5, 0, np.zeros((2, 3)), mask)
    with pytest.raises(ValueError, match=r"must be float32 in 0..1, got float32 in 1.5..1.5"):
        counts.add(0.5, 0, np.full((2, 3), 1.5, np.float32), mask)
    with pytest.raises(ValueError, match=r"must be \(height, width\), got \(3, 2\) and \(2, 3\)"):
        counts.add(0.5, 0, np.zeros((3, 2), np.float32), mask)
    with pytest.raises(ValueError, match="maps must be finite, got 6 that are not"):
        counts.add(0.5, 0, np.full((2, 3), np.nan, np.float32), mask)
    with pytest.raises(ValueError, match="anomaly_map and mask must be given together"):
        counts.add(0.5, 0, np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
        Histogram(limit=0)


def test_keys_are_in_the_order_of_the_values_and_tell_all_apart() -> None:
    edges = np.array([0, 1e-45, 1e-38, 1e-9, 0.25, 0.5, 0.75, 1 - 1e-6, 1], np.float32)
    around = [np.nextafter(edges, np.float32(toward)) for toward in (-1, 2)]
    values = np.unique(np.clip(np.concatenate([edges, *around]), 0, 1))
    keys = to_keys(values).astype(np.int64)
    assert (np.diff(keys) > 0).all()
    upper = values[values >= 0.5]
    assert {*(to_keys(upper).astype(np.int64) + to_keys(1 - upper)).tolist()} == {2 * int(HALF)}
    assert to_keys(np.array([-0.0, 0.0], np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("limit", [10**6, 200])
def test_weights_above_a_threshold_equal_those_summed_one_by_one(limit: int) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random(5000, np.float32) ** 4, rng.random(5000)
    histogram = Histogram(limit=limit)
    histogram.add(values, weights)
    thresholds = np.concatenate([[0], values[:50], rng.random(50) ** 4, [values.max(), 1, 1 + 1e-7]])
    slow = [weights[values > threshold].sum() for threshold in thresholds]
    off = 1e-9 if limit > 5000 else 10  # of 2500, where 5000 values share 200 bins
    np.testing.assert_allclose(histogram.above(thresholds), slow, atol=off)
    assert histogram.bins().weights.sum() == pytest.approx(weights.sum())
    assert len(histogram.bins().low) == 5000 if limit > 5000 else 100 < len(histogram.bins().low) <= 200

"""A data set's metrics and curves, category by category, from what a detector says about its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from acl_runtime.data.datasets import Dataset, load_mask, load_sample
from acl_runtime.data.samples import Sample
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.metrics import MEAN, Counts, ExactCounts, to_metrics
from acl_runtime.evaluation.overlap import FPR_LIMIT, Overlap
from acl_runtime.evaluation.ranking import Ranking, roc_points
from acl_runtime.evaluation.streaming import StreamingCounts

CURVE_POINTS = 512  # most points of a curve
AUROC_ERROR = 1e-4  # of a pixel AUROC: from here on the reader is told
Judge = Callable[[np.ndarray], Verdict]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Curve:
    """A rising curve."""

    x: npt.NDArray[np.float64]  # (P,) ascending, P at most CURVE_POINTS
    y: npt.NDArray[np.float64]  # (P,) ascending


@dataclass(frozen=True)
class CategoryEvaluation:
    """One category; N images.

    Attributes:
        category: Its name.
        indices: Of its images in `dataset.samples`.
        metrics: As of `to_metrics`: 0 to 1, None where one is not defined.
        scores: (N,) float64, the images' scores.
        peaks: (N,) float64, the maps' largest values.
        labels: (N,) int64, 0 good, 1 defective.
        is_anomalous: (N,) bool, the verdicts.
        image_roc: True positive rate (y) by false positive rate (x) of images; None like its metrics.
        pixel_roc: The same of pixels.
        pro: Mean per-region overlap (y) by false positive rate (x) of pixels, as far as AUPRO goes, not
            stretched; None like AUPRO.
        auroc_error: By which the pixel AUROC may be off at most; 0 where it is exact, and without one.
    """

    category: str
    indices: tuple[int, ...]
    metrics: Mapping[str, float | None]
    scores: npt.NDArray[np.float64]
    peaks: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    is_anomalous: npt.NDArray[np.bool_]
    image_roc: Curve | None
    pixel_roc: Curve | None
    pro: Curve | None
    auroc_error: float


@dataclass(frozen=True)
class DatasetEvaluation:
    """A data set, judged."""

    dataset: Dataset
    categories: tuple[CategoryEvaluation, ...]

    @property
    def auroc_error(self) -> float:
        """By which the pixel AUROC of a category may be off at most."""
        return max(one.auroc_error for one in self.categories)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know, sentences; those of the data set first."""
        if self.auroc_error <= AUROC_ERROR:
            return self.dataset.notes
        note = (
            "So many of the maps' values lie so close together that the pixel AUROC may be off by up to "
            f"{self.auroc_error:.1g}, and pixel AP and F1-max as well; measure again with --exact."
        )
        return (*self.dataset.notes, note)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per category and, last, their mean, not weighted, over those where a metric is defined.

        The keys are dataset, category, images and the metrics.
        """
        name = self.dataset.name
        rows = [
            {"dataset": name, "category": one.category, "images": len(one.indices), **one.metrics}
            for one in self.categories
        ]
        metrics = self.categories[0].metrics
        mean = {metric: _mean([one.metrics[metric] for one in self.categories]) for metric in metrics}
        return [*rows, {"dataset": name, "category": MEAN, "images": len(self.dataset.samples), **mean}]


class _Tally:
    """What one judge said about a category's images."""

    def __init__(self, dataset: Dataset, *, exact: bool, mask_above: int) -> None:
        self._has_masks, self._mask_above = dataset.has_masks, mask_above
        self._counts = ExactCounts() if exact else StreamingCounts()
        self._images: list[tuple[float, float, int, bool]] = []

    def add(self, sample: Sample, verdict: Verdict) -> None:
        anomaly_map, mask = None, None
        if self._has_masks:
            anomaly_map = verdict.anomaly_map
            mask = load_mask(
                sample, height=anomaly_map.shape[0], width=anomaly_map.shape[1], above=self._mask_above
            )
        self._counts.add(verdict.score, sample.label, anomaly_map, mask)
        self._images.append((verdict.score, verdict.peak, sample.label, verdict.is_anomalous))

    def conclude(self, category: str, indices: tuple[int, ...]) -> CategoryEvaluation:
        return _conclude(category, indices, self._images, self._counts.counts())


def evaluate_dataset(
    dataset: Dataset,
    judge: Judge,
    *,
    exact: bool = False,
    mask_above: int = 0,
    progress: Progress = lambda done, total: None,
) -> DatasetEvaluation:
    """Judge every image once, category by category, and measure how well the verdicts tell defects.

    Args:
        dataset: N images; without masks there are no metrics and curves of pixels.
        judge: Takes a frame; called in the order of the categories' `indices`.
        exact: Keep all maps of a category in memory at a time, and count exactly; see `StreamingCounts` for
            how close the counts are otherwise.
        mask_above: Grey level above which a mask's pixel is a defect.
        progress: Called after each image with the number of images done, and N.
    """
    (evaluation,) = evaluate_together(dataset, [judge], exact=exact, mask_above=mask_above, progress=progress)
    return evaluation


def evaluate_together(
    dataset: Dataset,
    judges: Sequence[Judge],
    *,
    exact: bool = False,
    mask_above: int = 0,
    progress: Progress = lambda done, total: None,
    compare: Callable[[Sequence[Verdict]], None] = lambda verdicts: None,
) -> list[DatasetEvaluation]:
    """As `evaluate_dataset` for several judges in one pass, an evaluation for each.

    Args:
        dataset: As there.
        judges: Each is called with every frame.
        exact: As there; then the maps of all judges are kept.
        mask_above: As there.
        progress: As there.
        compare: Called with the judges' verdicts on each frame.
    """
    found: list[list[CategoryEvaluation]] = [[] for _ in judges]
    done = 0
    for category in dataset.categories:
        indices = tuple(index for index, one in enumerate(dataset.samples) if one.category == category)
        tallies = [_Tally(dataset, exact=exact, mask_above=mask_above) for _ in judges]
        for sample in (dataset.samples[index] for index in indices):
            frame = load_sample(sample)
            verdicts = [judge(frame) for judge in judges]
            for tally, verdict in zip(tallies, verdicts, strict=True):
                tally.add(sample, verdict)
            compare(verdicts)
            done += 1
            progress(done, len(dataset.samples))
        for categories, tally in zip(found, tallies, strict=True):
            categories.append(tally.conclude(category, indices))
    return [DatasetEvaluation(dataset, tuple(categories)) for categories in found]


def thin(x: np.ndarray, y: np.ndarray) -> Curve:
    """A rising curve in `CURVE_POINTS` points at most, both ends among them, evenly spaced along x + y.

    Args:
        x: (P,) float64, ascending.
        y: (P,) float64, ascending.
    """
    if len(x) <= CURVE_POINTS:
        return Curve(x, y)
    way = x + y
    kept = np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], CURVE_POINTS)))
    return Curve(x[kept], y[kept])


def _conclude(
    category: str, indices: tuple[int, ...], images: Sequence[tuple[float, float, int, bool]], counts: Counts
) -> CategoryEvaluation:
    scores, peaks, labels, is_anomalous = zip(*images, strict=True)
    metrics = to_metrics(counts)
    return CategoryEvaluation(
        category,
        indices,
        metrics,
        np.array(scores, np.float64),
        np.array(peaks, np.float64),
        np.array(labels, np.int64),
        np.array(is_anomalous, np.bool_),
        _roc(counts.image),
        None if counts.pixel is None else _roc(counts.pixel),
        None if metrics["aupro"] is None else _pro(counts.overlap),
        counts.auroc_error,
    )


def _roc(ranking: Ranking) -> Curve | None:
    points = roc_points(ranking)
    return None if points is None else thin(*points)


def _pro(overlap: Overlap | None) -> Curve | None:
    if overlap is None:
        return None
    kept = overlap.fpr < FPR_LIMIT  # as AUPRO cuts it
    return thin(overlap.fpr[kept][::-1], overlap.pro[kept][::-1])


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None

"""A data set's metrics and curves, category by category, from what a detector says about its images."""

from __future__ import annotations

import logging
import math
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
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.images.frame import BadFrame
from acl_runtime.text.names import printable

CURVE_POINTS = 512  # most points of a curve
AUROC_ERROR = 1e-4  # of a pixel AUROC: from here on the reader is told
NAMED = 3  # bad frames that a note names
LOG = logging.getLogger("acl")
Detect = Callable[[np.ndarray], Verdict]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Curve:
    """A rising curve."""

    x: npt.NDArray[np.float64]  # (P,) ascending, P at most CURVE_POINTS
    y: npt.NDArray[np.float64]  # (P,) ascending


@dataclass(frozen=True, kw_only=True)
class CategoryEvaluation:
    """One category: N images that were judged.

    Attributes:
        category: Its name.
        indices: Positions of its images in `dataset.samples`.
        metrics: See `to_metrics`: 0 to 1, None where one is not defined.
        scores: (N,) float64, the images' scores.
        peaks: (N,) float64, the maps' largest values.
        labels: (N,) int64, 0 good, 1 defective.
        is_anomalous: (N,) bool, the verdicts.
        image_roc: True positive rate (y) by false positive rate (x) of images; None like its metrics.
        pixel_roc: The same for pixels.
        pro: Mean per-region overlap (y) by false positive rate (x) of pixels, as far as AUPRO goes, not
            stretched; None like AUPRO.
        auroc_error: Largest error of the pixel AUROC; 0 where it is exact or undefined.
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
    categories: tuple[CategoryEvaluation, ...]  # those of which at least one image was judged
    bad: tuple[BadFrame, ...] = ()  # images that could not be judged, and are in no figure

    @property
    def images(self) -> int:
        """How many images were judged."""
        return len(self.dataset.samples) - len(self.bad)

    @property
    def auroc_error(self) -> float:
        """Largest error of a category's pixel AUROC."""
        return max(one.auroc_error for one in self.categories)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know, a sentence each; those of the data set first."""
        return (*self.dataset.notes, *self._bad_notes, *self._error_notes)

    @property
    def _bad_notes(self) -> list[str]:
        if not self.bad:
            return []
        more = f"; and {len(self.bad) - NAMED} more" if len(self.bad) > NAMED else ""
        named = "; ".join(frame.problem for frame in self.bad[:NAMED])
        return [
            f"{len(self.bad)} of {len(self.dataset.samples)} images could not be judged and are in no figure: "
            f"{named}{more}"
        ]

    @property
    def _error_notes(self) -> list[str]:
        if self.auroc_error <= AUROC_ERROR:
            return []
        return [
            "So many of the maps' values lie so close together that the pixel AUROC may be off by up to "
            f"{self.auroc_error:.1g}, and pixel AP and F1-max as well; measure again with --exact."
        ]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per category and, last, their unweighted mean over those where a metric is defined.

        The keys are dataset, category, images and the metrics.
        """
        name = self.dataset.name
        rows = [
            {"dataset": name, "category": one.category, "images": len(one.indices), **one.metrics}
            for one in self.categories
        ]
        metrics = self.categories[0].metrics
        mean = {metric: _mean([one.metrics[metric] for one in self.categories]) for metric in metrics}
        return [*rows, {"dataset": name, "category": MEAN, "images": self.images, **mean}]


class _Tally:
    """What one detector said about a category's images."""

    def __init__(self, dataset: Dataset, *, exact: bool, mask_above: int, settings: ReadSettings) -> None:
        self._has_masks, self._mask_above, self._settings = dataset.has_masks, mask_above, settings
        self._counts = ExactCounts() if exact else StreamingCounts()
        self._images: list[tuple[float, float, int, bool]] = []

    def add(self, sample: Sample, verdict: Verdict) -> None:
        anomaly_map, mask = None, None
        if self._has_masks:
            anomaly_map = verdict.anomaly_map
            height, width = anomaly_map.shape
            mask = load_mask(
                sample, height=height, width=width, above=self._mask_above, settings=self._settings
            )
        self._counts.add(verdict.score, sample.label, anomaly_map, mask)
        self._images.append((verdict.score, verdict.peak, sample.label, verdict.is_anomalous))

    def conclude(self, category: str, indices: tuple[int, ...]) -> CategoryEvaluation:
        return _conclude(category, indices, self._images, self._counts.counts())


def evaluate_dataset(
    dataset: Dataset,
    detect: Detect,
    *,
    exact: bool = False,
    mask_above: int = 0,
    settings: ReadSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> DatasetEvaluation:
    """Judge every image once, category by category, and measure how well the verdicts tell defects.

    Args:
        dataset: N images; without masks there are no metrics and curves of pixels.
        detect: Returns the verdict of a frame; called in the order of the categories' `indices`.
        exact: Keep all maps of a category in memory at a time, and count exactly; see `StreamingCounts` for
            how close the counts are otherwise.
        mask_above: Grey level above which a mask's pixel is a defect.
        settings: How pictures are read, and what was noted about files before.
        progress: Called after each image with the number of images done, and N.

    Raises:
        InputError: No image could be judged, or a mask does not fit its image.
    """
    (evaluation,) = evaluate_together(
        dataset, [detect], exact=exact, mask_above=mask_above, settings=settings, progress=progress
    )
    return evaluation


def evaluate_together(
    dataset: Dataset,
    detectors: Sequence[Detect],
    *,
    exact: bool = False,
    mask_above: int = 0,
    settings: ReadSettings | None = None,
    progress: Progress = lambda done, total: None,
    compare: Callable[[Sequence[Verdict]], None] = lambda verdicts: None,
) -> list[DatasetEvaluation]:
    """Do as `evaluate_dataset` for several detectors in one pass; an image that one cannot judge counts for none.

    Args:
        dataset: The images.
        detectors: Each is called with every frame.
        exact: Keep the maps of all detectors, see `evaluate_dataset`.
        mask_above: Grey level above which a mask's pixel is a defect.
        settings: How pictures are read, and what was noted about files before.
        progress: Called after each image with the number of images done, and of all.
        compare: Called with the detectors' verdicts on each frame.
    """
    settings = settings or ReadSettings()
    found: list[list[CategoryEvaluation]] = [[] for _ in detectors]
    bad: list[BadFrame] = []
    done = 0
    for category in dataset.categories:
        judged = []
        tallies = [_Tally(dataset, exact=exact, mask_above=mask_above, settings=settings) for _ in detectors]
        for index in [index for index, one in enumerate(dataset.samples) if one.category == category]:
            verdicts = _judge(dataset.samples[index], index, detectors, settings)
            if isinstance(verdicts, BadFrame):
                bad.append(verdicts)
            else:
                judged.append(index)
                for tally, verdict in zip(tallies, verdicts, strict=True):
                    tally.add(dataset.samples[index], verdict)
                compare(verdicts)
            done += 1
            progress(done, len(dataset.samples))
        for categories, tally in zip(found, tallies, strict=True) if judged else ():
            categories.append(tally.conclude(category, tuple(judged)))
    if bad and not found[0]:
        raise InputError(f"{dataset.root}: none of its {len(bad)} images could be judged; {bad[0].problem}")
    return [DatasetEvaluation(dataset, tuple(categories), tuple(bad)) for categories in found]


def _judge(
    sample: Sample, index: int, detectors: Sequence[Detect], settings: ReadSettings
) -> list[Verdict] | BadFrame:
    """Return the detectors' verdicts on an image; where it cannot be judged, say so and return why."""
    try:
        frame = load_sample(sample, settings)
        verdicts = [detect(frame) for detect in detectors]
        if not all(math.isfinite(value) for each in verdicts for value in (each.score, each.peak)):
            raise FrameError("its score is not finite; run acl doctor on the bundle")
    except (FrameError, OSError, MemoryError) as error:
        bad = BadFrame(str(sample.path), index, _problem(sample, error))
        LOG.warning("bad frame: %s", bad.problem, extra={"again": True})
        return bad
    return verdicts


def _problem(sample: Sample, error: Exception) -> str:
    """Say what is wrong with which file, on one line."""
    said = (
        (error.strerror if isinstance(error, OSError) else None)
        or str(error)
        or "takes more memory than there is"
    )
    return printable(said if str(sample.path) in said else f"{sample.path}: {said}")


def thin(x: np.ndarray, y: np.ndarray) -> Curve:
    """Thin a rising curve to `CURVE_POINTS` points at most, both ends among them, evenly spaced along x + y.

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
        category=category,
        indices=indices,
        metrics=metrics,
        scores=np.array(scores, np.float64),
        peaks=np.array(peaks, np.float64),
        labels=np.array(labels, np.int64),
        is_anomalous=np.array(is_anomalous, np.bool_),
        image_roc=_roc(counts.image),
        pixel_roc=None if counts.pixel is None else _roc(counts.pixel),
        pro=None if metrics["aupro"] is None else _pro(counts.overlap),
        auroc_error=counts.auroc_error,
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

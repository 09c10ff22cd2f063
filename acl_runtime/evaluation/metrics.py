"""How well scores and anomaly maps tell defects from good parts: the published code's metrics, in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from acl_runtime.evaluation.overlap import Arrays, Overlap, aupro, check_maps, overlap_area, overlap_curve
from acl_runtime.evaluation.ranking import Ranking, auroc, average_precision, f1_max, rank, ranking_metrics

__all__ = [
    "MEAN",
    "METRICS",
    "Counts",
    "aupro",
    "auroc",
    "average_precision",
    "count",
    "evaluate",
    "f1_max",
    "to_metrics",
]

METRICS = {  # columns of an eval row, and their headings
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1max": "Pixel F1-max",
    "aupro": "AUPRO",
}
MEAN = "mean"  # category of the row that averages the others


@dataclass(frozen=True)
class Counts:
    """What all metrics and curves of a category follow from; None where there are no masks."""

    image: Ranking
    pixel: Ranking | None
    overlap: Overlap | None  # None, too, without any defective pixel or good one, and for constant maps
    auroc_error: float = 0.0  # the pixel AUROC is off by this at most, where values were merged


class ExactCounts:
    """Keeps images as they come, maps and all, and counts them exactly."""

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._maps: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []

    def add(
        self,
        score: float,
        label: int,
        anomaly_map: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Add one image.

        Args:
            score: Higher for a defect.
            label: 0 or 1.
            anomaly_map: (H, W) float32, its size its own; None where there are no masks.
            mask: (H, W) bool, True on a defect; None where there are no masks.
        """
        self._scores.append(score)
        self._labels.append(label)
        self._maps += [] if anomaly_map is None else [anomaly_map]
        self._masks += [] if mask is None else [mask]

    def counts(self) -> Counts:
        """What the metrics and curves of the images so far follow from."""
        scores, labels = np.array(self._scores), np.array(self._labels)
        return count(scores, labels, self._maps or None, self._masks or None)


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    maps: Arrays | None = None,
    masks: Arrays | None = None,
) -> dict[str, float | None]:
    """All metrics of one category; arguments as for `count`, result as for `to_metrics`."""
    return to_metrics(count(scores, labels, maps, masks))


def count(
    scores: np.ndarray,
    labels: np.ndarray,
    maps: Arrays | None = None,
    masks: Arrays | None = None,
) -> Counts:
    """Count one category, all of whose maps are in memory.

    Args:
        scores: (N,) float, higher for a defect.
        labels: (N,) bool or 0/1.
        maps: N of (H, W) float32, or None where there are no masks; sizes may differ.
        masks: N of (H, W) bool, each of its map's size, or None.
    """
    if (maps is None) != (masks is None):
        raise ValueError("maps and masks must be given together, got only one of them")
    if maps is None or masks is None:
        return Counts(rank(scores, labels), None, None)
    check_maps(maps, masks)
    if len(maps) != len(scores):
        raise ValueError(f"maps must be given for all images or for none, got {len(maps)} for {len(scores)}")
    pixels, marked = (np.concatenate([np.ravel(one) for one in many]) for many in (maps, masks))
    return Counts(rank(scores, labels), rank(pixels, marked), overlap_curve(maps, masks))


def to_metrics(counts: Counts) -> dict[str, float | None]:
    """All metrics of one category.

    Returns:
        `image_auroc`, `image_ap`, `image_f1max`, `pixel_auroc`, `pixel_ap`, `pixel_f1max` and `aupro`, each
        0 to 1, or None where it is undefined: without masks, or with good or defective examples only.
    """
    values = ranking_metrics("image", counts.image)
    if counts.pixel is None:
        values |= dict.fromkeys(("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"), math.nan)
    else:
        values |= ranking_metrics("pixel", counts.pixel) | {"aupro": overlap_area(counts.overlap)}
    return {name: None if math.isnan(value) else value for name, value in values.items()}

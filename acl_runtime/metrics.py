"""How well scores and anomaly maps tell defects from good parts: the published code's metrics, in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FPR_LIMIT = 0.3  # AUPRO looks at thresholds that mark less than this share of the good pixels
STEPS = 200  # thresholds of AUPRO; its value depends on their number in the third decimal


@dataclass(frozen=True)
class Ranking:
    """Counts at every distinct score V of a positive: all that the ranking metrics need.

    With the threshold at a value that only negatives have, there are more false alarms and no more hits.
    """

    positives: int
    negatives: int
    at: npt.NDArray[np.int64]  # (V,) positives with exactly this score; scores descend
    hits: npt.NDArray[np.int64]  # (V,) positives with this score or above
    alarms: npt.NDArray[np.int64]  # (V,) negatives with this score or above
    alarms_above: npt.NDArray[np.int64]  # (V,) negatives above this score


def rank(scores: np.ndarray, labels: np.ndarray) -> Ranking:
    """Sort scores once for all ranking metrics.

    Args:
        scores: Float of any shape, finite, higher for a defect.
        labels: Same shape, bool or 0/1; True is a defect.
    """
    if scores.shape != labels.shape:
        raise ValueError(f"scores and labels must have one shape, got {scores.shape} and {labels.shape}")
    _check_finite("scores", scores)
    marked = labels.astype(np.bool_)
    negatives = np.sort(scores[~marked])
    values, counts = np.unique(scores[marked], return_counts=True)
    at = counts[::-1].astype(np.int64)
    below = np.searchsorted(negatives, values[::-1], side="left").astype(np.int64)
    up_to = np.searchsorted(negatives, values[::-1], side="right").astype(np.int64)
    return Ranking(
        int(at.sum()), negatives.size, at, np.cumsum(at), negatives.size - below, negatives.size - up_to
    )


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: how often a defect scores above a good part, a tie counting half.

    Args:
        scores: Float of any shape, finite, higher for a defect.
        labels: Same shape, bool or 0/1; True is a defect.

    Returns:
        0 to 1; nan where all labels are the same.
    """
    return _auroc(rank(scores, labels))


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Precision at each score of a defect, averaged over the defects; arguments and result as for `auroc`."""
    return _average_precision(rank(scores, labels))


def f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    """F1 at the threshold where it is largest; arguments and result as for `auroc`."""
    return _f1_max(rank(scores, labels))


def aupro(maps: np.ndarray, masks: np.ndarray, *, steps: int = STEPS, fpr_limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap, as the published code defines it.

    At each of `steps` evenly spaced thresholds: the share of every defect region that is above it, averaged
    over regions, against the share of good pixels above it. The curve is cut where that share reaches
    `fpr_limit`, without interpolation, and what is left is stretched to [0, 1]. The published code marks
    and labels anew for each threshold; here each pixel counts once, for the number of thresholds below it.

    Args:
        maps: (N, H, W) float, finite, higher on a defect; its dtype is that of the thresholds.
        masks: (N, H, W) bool or 0/1, True on a defect. Regions are 8-connected.
        steps: Number of thresholds between the least and the largest value of the maps.
        fpr_limit: False positive rate at which the curve is cut.

    Returns:
        0 to 1; nan without any defective pixel, without any good one, for constant maps, and where fewer
        than two false positive rates are left of the curve, as for perfect maps of 0 and 1.
    """
    _check_maps(maps, masks)
    thresholds = _thresholds(maps, steps)
    good, overlap, regions = _count_pixels(maps, masks.astype(np.bool_), thresholds)
    if not regions or not good.any():
        return math.nan
    fpr = _above(good) / good.sum()  # (T,) falling
    pro = _above(overlap) / regions
    return _area(fpr[fpr < fpr_limit], pro[fpr < fpr_limit])


def evaluate(
    scores: np.ndarray, labels: np.ndarray, maps: np.ndarray | None = None, masks: np.ndarray | None = None
) -> dict[str, float | None]:
    """All metrics of one category.

    Args:
        scores: (N,) float, higher for a defect.
        labels: (N,) bool or 0/1.
        maps: (N, S, S) float32, or None where there are no masks.
        masks: (N, S, S) bool, or None.

    Returns:
        `image_auroc`, `image_ap`, `image_f1max`, `pixel_auroc`, `pixel_ap`, `pixel_f1max` and `aupro`, each
        0 to 1, or None where it is undefined: without masks, or with good or defective examples only.
    """
    if (maps is None) != (masks is None):
        raise ValueError("maps and masks must be given together, got only one of them")
    values = _ranking_metrics("image", scores, labels)
    if maps is None or masks is None:
        values |= dict.fromkeys(("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"), math.nan)
    else:
        values |= _ranking_metrics("pixel", maps, masks) | {"aupro": aupro(maps, masks)}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _ranking_metrics(level: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    ranking = rank(scores, labels)
    return {
        f"{level}_auroc": _auroc(ranking),
        f"{level}_ap": _average_precision(ranking),
        f"{level}_f1max": _f1_max(ranking),
    }


def _is_one_class(ranking: Ranking) -> bool:
    return ranking.positives == 0 or ranking.negatives == 0


def _auroc(ranking: Ranking) -> float:
    if _is_one_class(ranking):
        return math.nan
    beaten = ranking.negatives - (ranking.alarms + ranking.alarms_above) / 2  # (V,) ties count half
    return float(ranking.at @ beaten / ranking.positives / ranking.negatives)


def _average_precision(ranking: Ranking) -> float:
    if _is_one_class(ranking):
        return math.nan
    precision = ranking.hits / (ranking.hits + ranking.alarms)
    return float(ranking.at @ precision / ranking.positives)


def _f1_max(ranking: Ranking) -> float:
    if _is_one_class(ranking):
        return math.nan
    return float((2 * ranking.hits / (ranking.positives + ranking.hits + ranking.alarms)).max())


def _thresholds(maps: np.ndarray, steps: int) -> np.ndarray:
    """(T,) ascending, T = `steps` or one more; in the maps' dtype throughout, as the numbers depend on it."""
    low, high = maps.min(), maps.max()
    step = maps.dtype.type((high - low) / maps.dtype.type(steps))
    return np.arange(low, high, step) if step > 0 else np.empty(0, maps.dtype)


def _count_pixels(
    maps: np.ndarray, masks: np.ndarray, thresholds: np.ndarray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """Good pixels, and regions' pixels each weighing 1 / area, by number of thresholds below; and regions."""
    bins = len(thresholds) + 1
    good, overlap, regions = np.zeros(bins, np.int64), np.zeros(bins), 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        levels = np.searchsorted(thresholds, anomaly_map, side="left")  # (H, W)
        good += np.bincount(levels[~mask], minlength=bins)
        if mask.any():
            count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            regions += count - 1  # label 0 is the background
            inside = np.asarray(labels)[mask]
            overlap += np.bincount(levels[mask], 1 / np.bincount(inside)[inside], minlength=bins)
    return good, overlap, regions


def _above(histogram: np.ndarray) -> npt.NDArray[np.float64]:
    """(T + 1,) counts by number of thresholds below, as (T,) counts above each threshold."""
    return np.asarray(histogram[::-1].cumsum()[::-1][1:], np.float64)


def _area(fpr: np.ndarray, pro: np.ndarray) -> float:
    """Trapezoids below the curve, its falling false positive rates stretched to [0, 1]."""
    width = np.ptp(fpr) if fpr.size else 0
    if width == 0:
        return math.nan
    return float(((fpr[:-1] - fpr[1:]) * (pro[:-1] + pro[1:])).sum() / 2 / width)


def _check_maps(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.ndim != 3 or maps.size == 0 or maps.shape != masks.shape:
        raise ValueError(f"maps and masks must be (images, height, width), got {maps.shape}, {masks.shape}")
    if not np.issubdtype(maps.dtype, np.floating):
        raise ValueError(f"maps must be float, got {maps.dtype}")
    _check_finite("maps", maps)


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} that are not")

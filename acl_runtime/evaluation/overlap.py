"""AUPRO: the area under the per-region overlap, as the published code defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.evaluation.ranking import check_finite

FPR_LIMIT = 0.3  # AUPRO looks at thresholds that mark less than this share of the good pixels
STEPS = 200  # thresholds of AUPRO; its value depends on their number in the third decimal

Arrays = Sequence[np.ndarray] | np.ndarray  # one (H, W) per image, in one block or not


@dataclass(frozen=True)
class Overlap:
    """The curve below which AUPRO is the area, at T ascending thresholds; both fall from 0..1 to 0..1."""

    fpr: npt.NDArray[np.float64]  # (T,) share of the good pixels above the threshold
    pro: npt.NDArray[np.float64]  # (T,) share of a defect region above it, averaged over regions


def aupro(maps: Arrays, masks: Arrays, *, steps: int = STEPS, fpr_limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap, as the published code defines it.

    At each of `steps` evenly spaced thresholds: the share of every defect region that is above it, averaged
    over regions, against the share of good pixels above it. The curve is cut where that share reaches
    `fpr_limit`, without interpolation, and what is left is stretched to [0, 1]. The published code marks
    and labels anew for each threshold; here each pixel counts once, for the number of thresholds below it.

    Args:
        maps: N of (H, W) float, finite, higher on a defect, of one dtype, to which the step between
            thresholds is rounded; sizes may differ.
        masks: N of (H, W) bool or 0/1, each of its map's size, True on a defect. Regions are 8-connected.
        steps: Number of thresholds between the least and the largest value of the maps.
        fpr_limit: False positive rate at which the curve is cut.

    Returns:
        0 to 1; nan without any defective pixel, without any good one, for constant maps, and where fewer
        than two false positive rates are left of the curve, as for perfect maps of 0 and 1.
    """
    check_maps(maps, masks)
    return overlap_area(overlap_curve(maps, masks, steps=steps), fpr_limit=fpr_limit)


def overlap_area(overlap: Overlap | None, *, fpr_limit: float = FPR_LIMIT) -> float:
    """AUPRO of a curve: its part before `fpr_limit`, stretched to [0, 1]; nan as for `aupro`."""
    if overlap is None:
        return math.nan
    kept = overlap.fpr < fpr_limit
    fpr, pro = overlap.fpr[kept], overlap.pro[kept]
    width = np.ptp(fpr) if fpr.size else 0
    if width == 0:
        return math.nan
    return float(((fpr[:-1] - fpr[1:]) * (pro[:-1] + pro[1:])).sum() / 2 / width)


def make_thresholds(low: np.floating, high: np.floating, steps: int = STEPS) -> npt.NDArray[np.float64]:
    """AUPRO's thresholds from the least to the largest value of a category's maps.

    Returns:
        (T,) ascending, T = `steps` or one more, none if `low` is `high`. The step between them is rounded in
        the dtype of `low`, as the published code's is, and the numbers depend on it.
    """
    step = low.dtype.type((high - low) / low.dtype.type(steps))
    return np.arange(low, high, step, dtype=np.float64) if step > 0 else np.empty(0)  # low + step rounds, too


def weigh_regions(mask: np.ndarray) -> tuple[npt.NDArray[np.float64], int]:
    """Weights of defective pixels by which each region counts alike.

    Args:
        mask: (H, W) bool, True on a defect. Regions are 8-connected.

    Returns:
        (P,) 1 / area of its region for each of the mask's P pixels, in the order of `array[mask]`; and the
        number of regions.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    inside = np.asarray(labels)[mask]
    return 1 / np.bincount(inside)[inside], count - 1  # label 0 is the background


def overlap_curve(maps: Arrays, masks: Arrays, *, steps: int = STEPS) -> Overlap | None:
    """The curve whose area is AUPRO; arguments as for `aupro`.

    Returns:
        None without any defective pixel, without any good one, and for constant maps.
    """
    low = np.min([anomaly_map.min() for anomaly_map in maps])
    high = np.max([anomaly_map.max() for anomaly_map in maps])
    thresholds = make_thresholds(low, high, steps)
    bins, regions = len(thresholds) + 1, 0
    good, overlap = np.zeros(bins, np.int64), np.zeros(bins)  # by the number of thresholds below a pixel
    for anomaly_map, mask in zip(maps, masks, strict=True):
        marked = mask.astype(np.bool_)
        levels = np.searchsorted(thresholds, anomaly_map, side="left")  # (H, W)
        good += np.bincount(levels[~marked], minlength=bins)
        if marked.any():
            weights, count = weigh_regions(marked)
            overlap += np.bincount(levels[marked], weights, minlength=bins)
            regions += count
    if not thresholds.size or not regions or not good.any():
        return None
    return Overlap(_above(good) / good.sum(), _above(overlap) / regions)


def _above(histogram: np.ndarray) -> npt.NDArray[np.float64]:
    """(T + 1,) counts by number of thresholds below, as (T,) counts above each threshold."""
    return np.asarray(histogram[::-1].cumsum()[::-1][1:], np.float64)


def check_maps(maps: Arrays, masks: Arrays) -> None:
    """Refuse maps and masks that do not belong together, and no maps at all."""
    if len(maps) == 0 or len(maps) != len(masks):
        raise ValueError(f"maps must be one or more and as many as masks, got {len(maps)} and {len(masks)}")
    for anomaly_map, mask in zip(maps, masks, strict=True):
        check_map(anomaly_map, mask)
    dtypes = sorted({str(anomaly_map.dtype) for anomaly_map in maps})
    if len(dtypes) > 1:
        raise ValueError(f"maps must have one dtype, got {', '.join(dtypes)}")


def check_map(anomaly_map: np.ndarray, mask: np.ndarray) -> None:
    """Refuse a map that is not (H, W) float and finite, or whose mask has another size."""
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or anomaly_map.shape != mask.shape:
        raise ValueError(
            f"a map and its mask must be (height, width), got {anomaly_map.shape} and {mask.shape}"
        )
    if not np.issubdtype(anomaly_map.dtype, np.floating):
        raise ValueError(f"maps must be float, got {anomaly_map.dtype}")
    check_finite("maps", anomaly_map)

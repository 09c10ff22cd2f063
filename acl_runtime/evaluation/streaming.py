"""The metrics of a category from one image after the other, in memory that does not grow with the maps."""

from __future__ import annotations

import numpy as np

from acl_runtime.evaluation.histogram import Histogram, common_bins, undecided_share
from acl_runtime.evaluation.metrics import Counts
from acl_runtime.evaluation.overlap import STEPS, Overlap, check_map, make_thresholds, weigh_regions
from acl_runtime.evaluation.ranking import rank, rank_counts

LIMIT = 2**17  # distinct values of good pixels, and of defective ones, that are told apart


class StreamingCounts:
    """Counts images as they come; the metrics are those of `ExactCounts`, which keeps all maps.

    They are the very same as long as a category's good pixels, and its defective ones, have no more than
    `limit` distinct values. With more of them, values next to each other are merged (see `Histogram`); at the
    default, those at least stay apart whose distances to 0 or 1, whichever is nearer, differ by one part in 512.
    The metrics then differ by 5e-6 at most on the maps of `benchmarks/metrics.py`. They can differ by more

    - where a large share of the good and of the defective pixels are so close together, and their order is
      not that of chance: `Counts.auroc_error` says how far the pixel AUROC can be off, which counts such pairs
      as ties; where that is not small, AP and F1-max can be off as well;
    - for AUPRO, where one of its 200 thresholds has almost exactly the false positive rate at which the curve
      is cut, so that it falls on the other side, or where there are so many values and, besides, many pixels
      of one and the same value right at a threshold.

    Kept per image are its score and its label. Its map goes into three histograms of `limit` bins at most.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._with_masks: bool | None = None  # unknown before the first image
        self._good, self._bad, self._overlap = (Histogram(limit=limit) for _ in range(3))
        self._regions = self._good_pixels = 0
        self._low, self._high = np.float32(np.inf), np.float32(-np.inf)

    def add(
        self,
        score: float,
        label: int,
        anomaly_map: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Count one image.

        Args:
            score: Higher for a defect.
            label: 0 or 1.
            anomaly_map: (H, W) float32 in [0, 1], its size its own; None where there are no masks.
            mask: (H, W) bool, True on a defect; None where there are no masks.
        """
        if (anomaly_map is None) != (mask is None):
            raise ValueError("anomaly_map and mask must be given together, got only one of them")
        if self._with_masks not in (None, mask is not None):
            raise ValueError("masks must be given for all images or for none, got both")
        if anomaly_map is not None and mask is not None:
            self._add_pixels(anomaly_map, mask)
        self._with_masks = mask is not None
        self._scores.append(score)
        self._labels.append(label)

    def counts(self) -> Counts:
        """What the metrics and curves of the images so far follow from."""
        image = rank(np.array(self._scores, np.float64), np.array(self._labels, np.bool_))
        if not self._with_masks:
            return Counts(image, None, None)
        good, bad = common_bins(self._good, self._bad)
        pixel = rank_counts(good.low, good.weights, bad.low, bad.weights)
        error = undecided_share(good, bad) / 2 if pixel.positives and pixel.negatives else 0.0
        return Counts(image, pixel, self._overlap_curve(), error)

    def _add_pixels(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        check_map(anomaly_map, mask)
        low, high = anomaly_map.min(), anomaly_map.max()
        if anomaly_map.dtype != np.float32 or low < 0 or high > 1:
            raise ValueError(f"anomaly_map must be float32 in 0..1, got {anomaly_map.dtype} in {low}..{high}")
        self._low, self._high = min(self._low, low), max(self._high, high)
        marked = mask.astype(np.bool_)
        self._good.add(anomaly_map[~marked])
        self._good_pixels += int((~marked).sum())
        if marked.any():
            weights, regions = weigh_regions(marked)
            self._bad.add(anomaly_map[marked])
            self._overlap.add(anomaly_map[marked], weights)
            self._regions += regions

    def _overlap_curve(self) -> Overlap | None:
        thresholds = make_thresholds(self._low, self._high, STEPS)
        if not thresholds.size or not self._regions or not self._good_pixels:
            return None
        fpr = self._good.above(thresholds) / self._good_pixels
        return Overlap(fpr, self._overlap.above(thresholds) / self._regions)

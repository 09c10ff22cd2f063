"""A data set's metrics, category by category, from the verdicts on its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acl_runtime.datasets import Dataset, load_mask
from acl_runtime.detector import Verdict
from acl_runtime.metrics import evaluate

KEYS = ("dataset", "category", "images")  # the columns that are not metrics


def metric_rows(dataset: Dataset, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row per category and, last, the unweighted mean over categories.

    Args:
        dataset: N samples.
        verdicts: N, in the same order.

    Returns:
        Rows with the keys dataset, category, images and the metrics of `evaluate`; None where one is not
        defined.
    """
    rows = [_row(dataset, category, verdicts) for category in dataset.categories]
    mean: dict[str, Any] = {"dataset": dataset.name, "category": "mean", "images": len(dataset.samples)}
    return [*rows, mean | {name: _mean(rows, name) for name in rows[0] if name not in KEYS}]


def _row(dataset: Dataset, category: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    pairs = [pair for pair in zip(dataset.samples, verdicts, strict=True) if pair[0].category == category]
    scores = np.array([verdict.score for _, verdict in pairs])
    labels = np.array([sample.label for sample, _ in pairs])
    maps = masks = None
    if dataset.has_masks:
        maps = np.stack([verdict.anomaly_map for _, verdict in pairs])
        masks = np.stack([load_mask(sample, image_size=maps.shape[-1]) for sample, _ in pairs])
    row = {"dataset": dataset.name, "category": category, "images": len(pairs)}
    return row | evaluate(scores, labels, maps, masks)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else None

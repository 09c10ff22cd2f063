"""How far an export moves the metrics: the graph and the torch model judge the same labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from acl_runtime.bundle.manifest import Drift
from acl_runtime.data.datasets import read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.evaluate import DatasetEvaluation, evaluate_together
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.files.errors import InputError


def measure_change(
    detector: Detector,
    reference: Detector,
    data: Sequence[Path],
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Drift:
    """Judge labelled images with a graph and with the torch model, and return how far the metrics move.

    Args:
        detector: The graph's.
        reference: The torch model's.
        data: Folders of data sets, as `acl eval` reads them.
        progress: Called with what is done, the number of images done, and of all.

    Raises:
        InputError: An image cannot be judged; a proof needs all of them.
    """
    datasets = [read_dataset(root) for root in data]
    pairs = [
        evaluate_together(
            dataset,
            [detector, reference],
            progress=partial(progress, f"judging {dataset.name}"),
        )
        for dataset in datasets
    ]
    for bad in (frame for ours, _ in pairs for frame in ours.bad):
        raise InputError(bad.problem)
    ours, theirs = ([pair[which] for pair in pairs] for which in (0, 1))
    means = [(metric, _mean(ours, metric), _mean(theirs, metric)) for metric in METRICS]
    return Drift(
        tuple(dataset.name for dataset in datasets),
        sum(len(dataset.samples) for dataset in datasets),
        {metric: a - b for metric, a, b in means if a is not None and b is not None},
    )


def _mean(evaluations: Sequence[DatasetEvaluation], metric: str) -> float | None:
    """Return the mean over all categories where the metric is defined."""
    values = [one.metrics[metric] for each in evaluations for one in each.categories]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None

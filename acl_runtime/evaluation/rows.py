"""What an evaluation says, row by row: the metrics with the paper's beside them, and what the verdicts did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from acl_runtime.data.layouts.published import missing_categories
from acl_runtime.evaluation.evaluate import DatasetEvaluation
from acl_runtime.evaluation.metrics import MEAN, METRICS
from acl_runtime.evaluation.paper import paper_source, paper_value

KEYS = ("dataset", "category", "images", *METRICS)  # of an eval row


@dataclass(frozen=True, kw_only=True)
class Row:
    """The metrics of a category, or the mean of a data set's categories."""

    dataset: str
    category: str
    images: int
    metrics: Mapping[str, float | None]  # every one of METRICS, 0 to 1; None where undefined
    paper: Mapping[str, float]  # those that the paper gives, 0 to 1
    is_mean: bool

    def difference(self, metric: str) -> float | None:
        """Ours less the paper's; None unless there are both."""
        value, paper = self.metrics[metric], self.paper.get(metric)
        return None if value is None or paper is None else value - paper


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the verdicts did to a category's parts, or to all of a data set's."""

    dataset: str
    category: str
    good: int
    rejected: int  # of the good ones: overkill
    defective: int
    missed: int  # of the defective ones: escapes


def compared_rows(evaluation: DatasetEvaluation) -> list[Row]:
    """A row for each category and, last, their mean."""
    published = evaluation.dataset.published
    *rows, mean = evaluation.rows
    categories = [_row(row, _paper(published, row["category"]), is_mean=False) for row in rows]
    paper_mean = _paper(published, MEAN) if _is_whole(evaluation) else {}
    return [*categories, _row(mean, paper_mean, is_mean=True)]


def decisions(evaluation: DatasetEvaluation) -> list[Decisions]:
    """What happened to the parts of each category."""
    return [
        _count(evaluation.dataset.name, each.category, each.labels.astype(bool), each.is_anomalous)
        for each in evaluation.categories
    ]


def all_decisions(evaluation: DatasetEvaluation) -> Decisions:
    """What happened to all parts of a data set."""
    labels = np.concatenate([each.labels for each in evaluation.categories]).astype(bool)
    verdicts = np.concatenate([each.is_anomalous for each in evaluation.categories])
    return _count(evaluation.dataset.name, "all", labels, verdicts)


def dataset_notes(evaluation: DatasetEvaluation) -> list[str]:
    """What a reader of the figures must know, and where the paper's own are from."""
    source = paper_source(evaluation.dataset.published)
    return [*evaluation.notes, *([] if source is None else [f"Paper: {source}"])]


def _row(row: Mapping[str, object], paper: Mapping[str, float], *, is_mean: bool) -> Row:
    metrics = {metric: _checked(row[metric]) for metric in METRICS}
    images = int(str(row["images"]))
    return Row(
        dataset=str(row["dataset"]),
        category=str(row["category"]),
        images=images,
        metrics=metrics,
        paper=paper,
        is_mean=is_mean,
    )


def _checked(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"metrics must be None or lie in 0..1, got {value!r}")
    return float(value)


def _paper(published: str | None, category: str) -> dict[str, float]:
    values = {metric: paper_value(published, category, metric) for metric in METRICS}
    return {metric: value for metric, value in values.items() if value is not None}


def _is_whole(evaluation: DatasetEvaluation) -> bool:
    """Whether there are all the categories that the paper's mean is over."""
    published = evaluation.dataset.published
    here = (each.category for each in evaluation.categories)
    return published is not None and not missing_categories(published, here)


def _count(dataset: str, category: str, labels: np.ndarray, is_anomalous: np.ndarray) -> Decisions:
    """labels, is_anomalous: (N,) bool."""
    good, rejected = int((~labels).sum()), int((is_anomalous & ~labels).sum())
    return Decisions(
        dataset=dataset,
        category=category,
        good=good,
        rejected=rejected,
        defective=int(labels.sum()),
        missed=int((labels & ~is_anomalous).sum()),
    )

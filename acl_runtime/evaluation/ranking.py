"""Ranking metrics: ROC area, average precision and the largest F1 of scores, ties and all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
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
    check_finite("scores", scores)
    marked = labels.astype(np.bool_)
    good, bad = (np.unique(scores[which], return_counts=True) for which in (~marked, marked))
    return rank_counts(*good, *bad)


def rank_counts(
    good: np.ndarray, good_counts: np.ndarray, bad: np.ndarray, bad_counts: np.ndarray
) -> Ranking:
    """As `rank`, from how often each score occurs.

    Args:
        good: (G,) distinct scores of good examples, ascending.
        good_counts: (G,) how many have each, whole numbers.
        bad: (V,) distinct scores of defects, ascending.
        bad_counts: (V,) how many have each, whole numbers.
    """
    at = bad_counts[::-1].astype(np.int64)
    below = np.concatenate([[0], np.cumsum(good_counts.astype(np.int64))])  # (G + 1,)
    negatives = int(below[-1])
    alarms = negatives - below[np.searchsorted(good, bad[::-1], side="left")]
    alarms_above = negatives - below[np.searchsorted(good, bad[::-1], side="right")]
    return Ranking(
        positives=int(at.sum()),
        negatives=negatives,
        at=at,
        hits=np.cumsum(at),
        alarms=alarms,
        alarms_above=alarms_above,
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


def ranking_metrics(level: str, ranking: Ranking) -> dict[str, float]:
    """AUROC, AP and F1-max under the names `<level>_auroc` and so on; nan with one class only."""
    return {
        f"{level}_auroc": _auroc(ranking),
        f"{level}_ap": _average_precision(ranking),
        f"{level}_f1max": _f1_max(ranking),
    }


def roc_points(ranking: Ranking) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """The corners of the ROC curve from (0, 0) to (1, 1), ties as slanted lines; None with one class only.

    Returns:
        False positive rates and true positive rates, each (2 V + 2,) float64, ascending.
    """
    if _is_one_class(ranking):
        return None
    alarms = np.stack([ranking.alarms_above, ranking.alarms], axis=1).ravel()  # (2 V,)
    hits = np.stack([ranking.hits - ranking.at, ranking.hits], axis=1).ravel()
    fpr = np.concatenate([[0], alarms / ranking.negatives, [1]])
    tpr = np.concatenate([[0], hits / ranking.positives, [1]])
    return fpr, tpr


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


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse nan and infinity."""
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} that are not")

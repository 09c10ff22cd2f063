"""Which of a category's images a report shows: what went wrong, what nearly did, and what went well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acl_runtime.evaluation.evaluate import CategoryEvaluation
from acl_runtime.scoring.rule import Rule


@dataclass(frozen=True)
class Group:
    """Images of one kind, as many as are shown, in the order of their weight."""

    title: str
    order: str  # which come first, in words
    total: int  # images of this kind
    indices: tuple[int, ...]  # of those shown, into the data set's samples


KINDS = {  # title: which come first, and how many are wanted
    "Missed defects": ("the least suspicious first", 4),
    "False alarms": ("the most suspicious first", 4),
    "Closest to the threshold": ("of either verdict, the closest first", 2),
    "Found most clearly": ("the clearest first", 2),
}


def choose_images(category: CategoryEvaluation, rule: Rule, *, limit: int) -> list[Group]:
    """The groups of KINDS that have images, `limit` images in all, none of them twice.

    Every kind gets its first image before any gets its second.
    """
    ranked = {title: order.tolist() for title, order in _rank(category, rule).items()}
    chosen: dict[str, list[int]] = {title: [] for title in ranked}
    taken: set[int] = set()
    for turn in range(max(wanted for _, wanted in KINDS.values())):
        for title, order in ranked.items():
            free = [number for number in order if number not in taken]
            if free and turn < KINDS[title][1] and len(taken) < limit:
                chosen[title].append(free[0])
                taken.add(free[0])
    return [
        Group(
            title, KINDS[title][0], len(ranked[title]), tuple(category.indices[number] for number in numbers)
        )
        for title, numbers in chosen.items()
        if numbers
    ]


def _rank(category: CategoryEvaluation, rule: Rule) -> dict[str, np.ndarray]:
    """Positions in the category's arrays, (K,) int64 for each kind."""
    pairs = zip(category.scores.tolist(), category.peaks.tolist(), strict=True)
    margins = np.array([rule.margin(score, peak) for score, peak in pairs])
    defective, rejected = category.labels.astype(np.bool_), category.is_anomalous
    rising = np.argsort(margins, kind="stable")
    falling = np.argsort(-margins, kind="stable")
    return {
        "Missed defects": rising[(defective & ~rejected)[rising]],
        "False alarms": falling[(~defective & rejected)[falling]],
        "Closest to the threshold": np.argsort(np.abs(margins), kind="stable"),
        "Found most clearly": falling[(defective & rejected)[falling]],
    }

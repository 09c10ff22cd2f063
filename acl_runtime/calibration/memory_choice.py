"""Choose the kind of memory by evidence, on images that calibrate nothing.

The images in the memory, each judged by a memory of the others, stand for good parts; images that are known to be
defective, or where there are none drawn defects on the remembered ones, stand for bad ones. A promise looks at neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.calibration.memory_fit import Fitted, Fold, Shown
from acl_runtime.scoring.memory import IGNORED, Memory, patch_evidence
from acl_runtime.scoring.memory_kinds import Kind, kinds_text

CANDIDATES: tuple[tuple[Kind, ...], ...] = (  # the cheapest first
    ("place",),
    ("subspace",),
    ("subspace", "place"),
    ("patches",),
    ("patches", "place"),
    ("patches", "subspace"),
)
MERGED: tuple[tuple[Kind, ...], ...] = CANDIDATES[:3]  # of statistics alone
COVERED = 0.5  # share of a patch under a defect from which it is defective
SLACK = 0.005  # AUROC by which a costlier kind must be better
LEAST_PLACES = 4  # images from which the mean at a place is more than the image itself


@dataclass(frozen=True)
class Trial:
    """An input of the network that belongs to one of the remembered images, and the same with a drawn defect."""

    image: int  # number of the remembered image
    good: Shown  # (G·G, ...)
    bad: Shown
    cover: npt.NDArray[np.float32]  # (G·G,) share of each patch under the defect


@dataclass(frozen=True)
class KindEvidence:
    """How well a kind of memory tells bad from good.

    Attributes:
        kinds: That judge together.
        auroc: Of patches under drawn defects against those of good images, or of the peaks of defective images against
            those of good ones. Patches are many where images are few: to compare the peaks of drawn defects as well
            chose worse maps on the drawn groups a and c of benchmarks/README.md.
    """

    kinds: tuple[Kind, ...]
    auroc: float


def measure_trials(
    fitted: Fitted, trials: Sequence[Trial], candidates: Sequence[tuple[Kind, ...]]
) -> list[KindEvidence]:
    """Measure candidates on drawn defects, each image by a memory of the others."""
    places = fitted.statistics.place_total.value.size
    found = []
    for kinds in candidates:
        good, under = [], []
        for trial in trials:
            memory = fitted.fold_memory(_fold_of(fitted.folds, trial.image), kinds)
            of_good, of_bad = (judge(memory, shown, places)[0] for shown in (trial.good, trial.bad))
            good.append(of_good[trial.good.counted])
            under.append(of_bad[(trial.cover >= COVERED) & trial.bad.counted])
        if any(map(len, under)):
            found.append(KindEvidence(kinds, rank_auroc(np.concatenate(good), np.concatenate(under))))
    return found


def measure_labelled(
    fitted: Fitted,
    good: Sequence[Shown],
    defective: Sequence[Shown],
    candidates: Sequence[tuple[Kind, ...]],
) -> list[KindEvidence]:
    """Measure candidates on images that are known to be defective, against the remembered ones.

    Args:
        fitted: Memory of the good images.
        good: The remembered images.
        defective: The others.
        candidates: Kinds.
    """
    places = fitted.statistics.place_total.value.size
    found = []
    for kinds in candidates:
        of_good = [
            float(judge(fitted.fold_memory(fold, kinds), good[row], places).max())
            for fold in fitted.folds
            for row in fold.left_out
        ]
        memory = fitted.memory(kinds)
        of_bad = [float(judge(memory, shown, places).max()) for shown in defective]
        found.append(KindEvidence(kinds, rank_auroc(np.array(of_good), np.array(of_bad))))
    return found


def choose_kinds(evidence: Sequence[KindEvidence]) -> tuple[Kind, ...]:
    """Return the kinds that tell bad from good best; of those within `SLACK` of the best the cheapest."""
    best = max(each.auroc for each in evidence)
    return next(each.kinds for each in evidence if each.auroc >= best - SLACK)


def possible(candidates: Sequence[tuple[Kind, ...]], *, images: int) -> tuple[tuple[Kind, ...], ...]:
    """Return the candidates that so many images allow."""
    return tuple(kinds for kinds in candidates if "place" not in kinds or images >= LEAST_PLACES)


def evidence_words(evidence: Sequence[KindEvidence]) -> str:
    """Return the figures of the candidates in a line."""
    return ", ".join(f"{kinds_text(each.kinds)} {100 * each.auroc:.1f}" for each in evidence)


def judge(memory: Memory, shown: Shown, places: int) -> np.ndarray:
    """Return log-odds of an image's patches, (tiles, G·G); of those that do not count `IGNORED`."""
    grid, layers = round(places**0.5), shown.logits.shape[1]
    embeddings = shown.embeddings.reshape(-1, places, *shown.embeddings.shape[1:]).swapaxes(1, 2)
    logits = shown.logits.reshape(-1, places, layers).swapaxes(1, 2)  # (tiles, L, G·G)
    evidence = patch_evidence(memory, embeddings, logits.reshape(*logits.shape[:2], grid, grid))
    return np.where(shown.counted.reshape(-1, places), evidence.reshape(-1, places), IGNORED)


def rank_auroc(good: np.ndarray, bad: np.ndarray) -> float:
    """Return the share of pairs in which the bad one is higher, ties counting half; (N,) and (M,)."""
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, side="left")
    upto = np.searchsorted(ordered, bad, side="right")
    return float((below + upto).mean() / (2 * len(good)))


def _fold_of(folds: Sequence[Fold], image: int) -> Fold:
    return next(fold for fold in folds if image in fold.left_out)

"""Leave out of a memory what is far from the rest of it: frames of a line without labels may show defects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acl_runtime.bundle.manifest import Manifest
from acl_runtime.calibration.memory_choice import judge
from acl_runtime.calibration.memory_fit import Fitted, Shown, fit_memory
from acl_runtime.scoring.memory import memory_maps
from acl_runtime.scoring.memory_kinds import Kind, outside_distances

ROUNDS = 2  # what is far again, once the farthest is gone
FAR_PATCHES = 0.01  # share of the patches of the images that stay which are left out in each round
TOP = 0.01  # share of an image's patches whose mean says how far it is
LEAST_LEFT = 2  # images


def trim(images: Sequence[Shown], share: float, places: int, *, seed: int) -> list[Shown]:
    """Leave out the images, and of the others the patches, that lie farthest outside a subspace of the rest.

    Args:
        images: Of which some may show defects.
        share: Largest share of them that may; as many are left out in all, and one more.
        places: Patches of a network input.
        seed: See `fit_memory`.
    """
    kept = list(images)
    leaves = min(math.ceil(share * len(images)) + 1, len(images) - LEAST_LEFT)
    for round_number in range(ROUNDS):
        if len(kept) < LEAST_LEFT + 1:
            return kept
        fitted = fit_memory(kept, places=places, subject="", patches=1, seed=seed)  # a subspace needs none
        distances = _left_out_distances(fitted, kept)
        farness = [
            float(np.sort(each[shown.counted])[-max(1, int(TOP * shown.counted.sum())) :].mean())
            for each, shown in zip(distances, kept, strict=True)
        ]
        goes = leaves // ROUNDS + (leaves % ROUNDS if round_number == 0 else 0)
        rows = np.sort(np.argsort(farness)[: len(kept) - max(goes, 0)])
        counted = np.concatenate([distances[row][kept[row].counted] for row in rows])
        limit = float(np.quantile(counted, 1 - FAR_PATCHES))
        kept = [
            replace(kept[row], counted=kept[row].counted & (distances[row] <= limit)) for row in rows.tolist()
        ]
    return kept


def peaks_beside_others(
    fitted: Fitted, kinds: Sequence[Kind], images: Sequence[Shown], manifest: Manifest
) -> list[float]:
    """Return log-odds of the peak of each image's map, judged by a memory of the others; tiles are not blended."""
    places, peaks = manifest.grid**2, [0.0] * len(images)
    for fold in fitted.folds:
        memory = fitted.fold_memory(fold, kinds)
        for row in fold.left_out if len(images) > 1 else (0,):
            evidence = judge(memory, images[row], places).reshape(-1, manifest.grid, manifest.grid)
            size, sigma = manifest.image_size, manifest.blur_sigma
            peaks[row] = float(memory_maps(evidence, image_size=size, blur_sigma=sigma)[1].max())
    return peaks


def _left_out_distances(fitted: Fitted, images: Sequence[Shown]) -> list[np.ndarray]:
    """How far patches lie outside the subspace of the other images, (P,) of each image."""
    found: list[np.ndarray] = [np.empty(0)] * len(images)
    for fold in fitted.folds:
        for row in fold.left_out:
            vectors = images[row].embeddings.swapaxes(0, 1)
            found[row] = outside_distances(vectors, fold.mean, fold.directions)
    return found

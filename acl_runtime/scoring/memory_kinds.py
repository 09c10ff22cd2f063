"""Kinds of memory of good parts: the nearest of their patches, the subspace they lie in, the mean at each place.

Each says of a patch how far it is from good ones. Which is best depends on the product, see
`calibration/memory_choice.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import InputError

Floats = npt.NDArray[np.float32]
Kind = Literal["patches", "subspace", "place"]
KINDS: tuple[Kind, ...] = ("patches", "subspace", "place")


@dataclass(frozen=True)
class GaussianScale:
    """Where a value lies on patches of good parts, and how far it spreads."""

    location: float
    spread: float

    def standardise(self, values: np.ndarray) -> Floats:
        """Return values, any shape, as spreads above the location."""
        return np.asarray((values - np.float32(self.location)) / np.float32(self.spread), np.float32)


@dataclass(frozen=True)
class NearestPatches:
    """Patches of good parts; the distance is that to the most similar one."""

    patch_embeddings: Floats  # (L, M, D), unit norm, each a number of float16
    scale: GaussianScale  # of `nearest_distances` to the patches of other images


@dataclass(frozen=True)
class Subspace:
    """Mean and leading directions of good patches in each layer; the distance is what lies outside.

    As SubspaceAD (arXiv 2602.23013), there on the mean of the layers, here on each.
    """

    mean: Floats  # (L, D)
    directions: Floats  # (L, D, R), orthonormal columns; a layer that needs fewer has zeros after them
    scale: GaussianScale  # of `outside_distances` of images that were left out


@dataclass(frozen=True)
class PlaceMean:
    """Mean log-odds of good parts at each place of the grid, for parts in a fixed position and uniform webs.

    What is left of a patch's log-odds without it stands in the place of the log-odds themselves.
    """

    log_odds: Floats  # (G, G), averaged over the layers
    scale: GaussianScale  # of the log-odds minus the mean of other images at the same place


def nearest_distances(patch_embeddings: np.ndarray, remembered: np.ndarray) -> Floats:
    """Return how far patches are from the nearest one of the memory: 1 - cosine, averaged over the layers.

    Args:
        patch_embeddings: ([B,] L, P, D) float32, unit norm.
        remembered: (L, M, D) float32, unit norm.

    Returns:
        ([B,] P) float32.
    """
    nearest = [
        (patch_embeddings[..., layer, :, :] @ patches.T).max(axis=-1)
        for layer, patches in enumerate(remembered)
    ]  # L times ([B,] P)
    distances: Floats = 1 - np.mean(nearest, axis=0, dtype=np.float32)
    return distances


def outside_distances(patch_embeddings: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> Floats:
    """Return the squared length of what lies outside the subspace, averaged over the layers.

    Args:
        patch_embeddings: ([B,] L, P, D) float32.
        mean: (L, D) float32.
        directions: (L, D, R) float32, see `Subspace`.

    Returns:
        ([B,] P) float32.
    """
    outside = []
    for layer, (centre, basis) in enumerate(zip(mean, directions, strict=True)):
        offsets = patch_embeddings[..., layer, :, :] - centre  # ([B,] P, D)
        inside = offsets @ basis  # ([B,] P, R)
        whole = np.einsum("...d,...d->...", offsets, offsets)
        outside.append(np.maximum(whole - np.einsum("...r,...r->...", inside, inside), 0))
    distances: Floats = np.mean(outside, axis=0, dtype=np.float32)
    return distances


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """Return the kinds of "subspace" or "place+subspace", in the order of `KINDS`.

    Raises:
        InputError: One is unknown or named twice.
    """
    names = text.split("+")
    if set(names) - set(KINDS) or len(set(names)) != len(names):
        raise InputError(
            f"kind of memory must be auto, {', '.join(KINDS)}, or several of these with + between, got {text!r}"
        )
    return tuple(kind for kind in KINDS if kind in names)


def kinds_text(kinds: tuple[Kind, ...]) -> str:
    """Return kinds as a user writes them, such as "place+subspace"."""
    return "+".join(sorted(kinds))

"""Patches of good parts: what lies far from all of them is suspicious, whatever the prompts say.

Text and memory see different things. As in WinCLIP+ (arXiv 2303.14814) and APRIL-GAN (arXiv 2305.17382) a patch's
distance is the one to the most similar patch of good parts, averaged over the layers, and the image's score takes its
share of the map's peak. They add probabilities as they come; here both values of a patch, its log-odds by the text and
its distance, are first measured by their spread over good parts, which the memory's own images show when each is
compared with the others. No defect is needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.bundle.bundle import Bundle, calibration_file
from acl_runtime.files.arrays import read_arrays
from acl_runtime.files.errors import BundleError
from acl_runtime.scoring.rule import log_odds

Floats = npt.NDArray[np.float32]

USUAL = -3.0  # log-odds of a patch that is as good patches are in the middle: it stays dark
STEEPNESS = 0.5  # log-odds for each spread, of text and of distance
FARTHEST = 1e6  # of a scale's location, and of a spread and its inverse: nothing that is measured comes near
PEAK_LIMIT = 17.0  # log-odds beyond that of any float32 below 1
UNIT_NORM = 0.01  # from 1, for vectors that were rounded to float16


@dataclass(frozen=True)
class GaussianScale:
    """Where a value lies on patches of good parts, and how far it spreads."""

    location: float
    spread: float


@dataclass(frozen=True)
class Memory:
    """Patches of good parts, and what is usual there."""

    patch_embeddings: Floats  # (L, M, D), unit norm, each a number of float16
    text: GaussianScale  # of the log-odds, averaged over the layers
    distance: GaussianScale  # of `nearest_distances` to the patches of other images


def nearest_distances(patch_embeddings: np.ndarray, remembered: np.ndarray) -> Floats:
    """How far patches are from the nearest one of the memory: 1 - cosine, averaged over the layers.

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


def patch_evidence(memory: Memory, patch_embeddings: np.ndarray, patch_logits: np.ndarray) -> Floats:
    """Log-odds of patches by text and memory together.

    Args:
        memory: Of good parts of the same product.
        patch_embeddings: (B, L, G·G, D) float32, unit norm.
        patch_logits: (B, L, G, G) float32, log-odds by the text.

    Returns:
        (B, G, G) float32.
    """
    distances = nearest_distances(patch_embeddings, memory.patch_embeddings)  # (B, G·G)
    text = patch_logits.mean(axis=1)  # (B, G, G)
    spreads = _standardise(text, memory.text) + _standardise(distances.reshape(text.shape), memory.distance)
    evidence: Floats = USUAL + STEEPNESS * spreads
    return evidence


def share_peaks(image_logits: np.ndarray, anomaly_maps: np.ndarray) -> Floats:
    """Log-odds of images, (B,): the mean of the text's, (B,), and those of the map's peak, of (B, S, S) in [0, 1]."""
    peaks = np.clip(
        [log_odds(peak) for peak in anomaly_maps.max(axis=(1, 2)).tolist()], -PEAK_LIMIT, PEAK_LIMIT
    )
    return np.asarray((image_logits + peaks) / 2, np.float32)


def load_memory(bundle: Bundle) -> Memory | None:
    """The memory that a bundle's thresholds were measured with; None where the text judges alone."""
    name = bundle.manifest.calibration.memory
    if name is None:
        return None
    path = calibration_file(bundle, name)
    names = ("patch_embeddings", "text", "distance")
    patches, text, distance = read_arrays(path, names, remedy="calibrate again")
    _, layers, _, joint = bundle.manifest.graph.outputs[1].shape  # of patch_embeddings
    if (
        patches.dtype != np.float16
        or patches.ndim != 3
        or patches.shape[::2] != (layers, joint)
        or not patches.size
    ):
        got = f"{patches.shape} {patches.dtype}"
        raise BundleError(
            f"{path}: patch_embeddings must be ({layers}, patches, {joint}) float16, got {got}; calibrate again"
        )
    for scale in (text, distance):
        is_scale = scale.shape == (2,) and scale.dtype.kind in "fiu"
        if not is_scale or not (abs(scale[0]) <= FARTHEST and 1 / FARTHEST <= scale[1] <= FARTHEST):
            raise BundleError(f"{path}: scales must be a location and a spread, got {scale}; calibrate again")
    norms = np.linalg.norm(patches.astype(np.float32), axis=-1)
    if not (np.abs(norms - 1) < UNIT_NORM).all():  # false for nan too
        raise BundleError(
            f"{path}: patch_embeddings must have unit norm, got {norms.min():.3g} to {norms.max():.3g}; calibrate again"
        )
    return Memory(
        patches.astype(np.float32), GaussianScale(*text.tolist()), GaussianScale(*distance.tolist())
    )


def _standardise(values: np.ndarray, scale: GaussianScale) -> np.ndarray:
    return np.asarray((values - np.float32(scale.location)) / np.float32(scale.spread))

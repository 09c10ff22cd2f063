"""A memory of good parts: what is unlike all of them is suspicious, whatever the prompts say.

Text and memory see different things. As in WinCLIP+ (arXiv 2303.14814) and APRIL-GAN (arXiv 2305.17382) both judge a
patch, and the image's score takes its share of the map's peak. They add probabilities as they come; here each value of
a patch, its log-odds by the text and its distance by each kind of memory, is first measured by its spread over good
parts, which the memory's own images show when each is compared with the others. No defect is needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acl_runtime.scoring.maps import sigmoid, upsample
from acl_runtime.scoring.memory_kinds import (
    Floats,
    GaussianScale,
    Kind,
    NearestPatches,
    PlaceMean,
    Subspace,
    nearest_distances,
    outside_distances,
)

USUAL = -3.0  # log-odds of a patch that is as good patches are in the middle: it stays dark
STEEPNESS = 0.5  # log-odds for each spread, of text and of distance
PEAK_LIMIT = 17.0  # log-odds beyond that of any float32 below 1
IGNORED = -PEAK_LIMIT  # log-odds of a patch that does not count


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What is usual on good parts, by one kind of memory or several together; one at least."""

    text: GaussianScale  # of the log-odds, averaged over the layers
    nearest: NearestPatches | None = None
    subspace: Subspace | None = None
    place: PlaceMean | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Which kinds it is of, in the order of `KINDS`."""
        given: dict[Kind, object] = {
            "patches": self.nearest,
            "subspace": self.subspace,
            "place": self.place,
        }
        return tuple(kind for kind, value in given.items() if value is not None)


def patch_evidence(memory: Memory, patch_embeddings: np.ndarray, patch_logits: np.ndarray) -> Floats:
    """Return log-odds of patches by text and memory together.

    The standardised log-odds by the text, or what is left of them without the place's mean, are added to the mean of
    the standardised distances; where the place's mean is the only memory it counts twice, so that a probability means
    the same number of spreads with every kind.

    Args:
        memory: Of good parts of the same product.
        patch_embeddings: (B, L, G·G, D) float32, unit norm.
        patch_logits: (B, L, G, G) float32, log-odds by the text.

    Returns:
        (B, G, G) float32.
    """
    text = patch_logits.mean(axis=1)  # (B, G, G)
    if memory.place is None:
        first = memory.text.standardise(text)
    else:
        first = memory.place.scale.standardise(text - memory.place.log_odds)
    far = []
    if memory.nearest is not None:
        distances = nearest_distances(patch_embeddings, memory.nearest.patch_embeddings)  # (B, G·G)
        far.append(memory.nearest.scale.standardise(distances))
    if memory.subspace is not None:
        distances = outside_distances(patch_embeddings, memory.subspace.mean, memory.subspace.directions)
        far.append(memory.subspace.scale.standardise(distances))
    second = np.mean(far, axis=0).reshape(text.shape) if far else first
    evidence: Floats = np.asarray(USUAL + STEEPNESS * (first + second), np.float32)
    return evidence


def memory_maps(evidence: np.ndarray, *, image_size: int, blur_sigma: float) -> tuple[Floats, Floats]:
    """Return maps of patches' log-odds, and log-odds of the maps' peaks.

    These come from the map of probabilities of a good patch too, since those of a bad one are near 1 at a peak, where a
    float32 has few digits left.

    Args:
        evidence: (B, G, G), log-odds of patches.
        image_size: Side S of the network input, in pixels.
        blur_sigma: Standard deviation of the map's Gaussian, in pixels.

    Returns:
        (B, S, S) in [0, 1] and (B,).
    """
    bad, good = (
        upsample(sigmoid(sign * evidence).astype(np.float32), image_size=image_size, blur_sigma=blur_sigma)
        for sign in (1, -1)
    )
    with np.errstate(divide="ignore"):
        peaks = np.log(bad.max(axis=(1, 2))) - np.log(good.min(axis=(1, 2)))
    return bad, np.asarray(np.clip(peaks, -PEAK_LIMIT, PEAK_LIMIT), np.float32)


def share_peaks(image_logits: np.ndarray, peaks: np.ndarray) -> Floats:
    """Return log-odds of images, (B,): the mean of the text's, (B,), and those of the map's peak, (B,)."""
    return np.asarray((image_logits + peaks) / 2, np.float32)

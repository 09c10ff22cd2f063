"""Fit a memory to patches of good parts: leave each image out once, and see how far it is from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acl_runtime.calibration.memory_statistics import Statistics
from acl_runtime.calibration.moments import (
    NO_SPREAD,
    Moments,
    Spread,
    add_up,
    exact,
    leading_directions,
    measure_moments,
    measure_spread,
)
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.memory import Memory
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

PATCHES = 1024  # kept of all images together: AUROC within 0.1 points of keeping all patches of four images
LEAST_TEXT_SPREAD = 0.05  # log-odds; as of scores, see `calibration/thresholds.py`
LEAST_DISTANCE_SPREAD = 1e-3  # 1 - cosine: what rounding to float16 moves, a few times over
LEAST_OUTSIDE_SPREAD = 1e-4  # squared length: what rounding in a graph of fp16 moves
MOST_FOLDS = 8  # images are left out in so many groups at most: each needs the directions of all others
BANDS = 4  # parts of a single image, of which each is compared with the others


@dataclass(frozen=True)
class Shown:
    """What the network says about an image."""

    embeddings: Floats  # (P, L, D), unit norm; P is G·G, or that times its tiles
    logits: Floats  # (P, L), log-odds by the text
    counted: npt.NDArray[np.bool_]  # (P,) which of them count; the others are in a part that is ignored

    @property
    def text(self) -> Floats:
        """(P,) log-odds, averaged over the layers."""
        means: Floats = self.logits.mean(axis=1)
        return means


@dataclass(frozen=True)
class Fold:
    """A memory without some of the images."""

    left_out: tuple[int, ...]  # which
    patches: Floats  # (L, M, D) of the others
    mean: Floats  # (L, D)
    directions: Floats  # (L, D, R)
    place: Floats | None  # (G·G,) mean log-odds; None where there is one image


@dataclass(frozen=True)
class Fitted:
    """A memory of every kind, what it is fitted to, and the same without some of the images."""

    kept: Floats  # (L, M, D) patches
    distance: Spread  # to the nearest of them, of images that were left out
    statistics: Statistics  # of these images alone, their digests not known yet
    folds: tuple[Fold, ...]

    def memory(self, kinds: Sequence[Kind]) -> Memory:
        """Return the memory of some kinds."""
        return make_memory(kinds, self.statistics, self.kept, self.distance)

    def __add__(self, other: Fitted) -> Fitted:
        """The memory of the images of both; the folds are those of the first."""
        return Fitted(
            np.concatenate([self.kept, other.kept], axis=1),
            self.distance + other.distance,
            self.statistics + other.statistics,
            self.folds,
        )

    def fold_memory(self, fold: Fold, kinds: Sequence[Kind]) -> Memory:
        """Return the memory of some kinds as it is without the images of a fold; scales are those of all."""
        subspace = (fold.mean, fold.directions)
        return _scaled(
            kinds, self.statistics, self.distance, patches=fold.patches, subspace=subspace, place=fold.place
        )


def make_memory(
    kinds: Sequence[Kind],
    statistics: Statistics,
    kept: Floats | None = None,
    distance: Spread = NO_SPREAD,
) -> Memory:
    """Return the memory of some kinds that statistics, and for the kind "patches" the patches kept, are of."""
    subspace = leading_directions(statistics.moments) if "subspace" in kinds else None
    place = (statistics.place_total.value / statistics.images).astype(np.float32)
    return _scaled(kinds, statistics, distance, patches=kept, subspace=subspace, place=place)


def fit_memory(
    images: Sequence[Shown], *, places: int, subject: str, patches: int = PATCHES, seed: int
) -> Fitted:
    """Fit a memory of every kind to good parts.

    Args:
        images: What the network says of each; one at least.
        places: Patches of one network input, G·G; an image in tiles has several times as many.
        subject: See `network_digest`.
        patches: Largest number of patches to keep of all images together.
        seed: Seed of the draw of each image's first patch.

    Raises:
        InputError: There is no image, or so much of one is ignored that nothing can be compared.
    """
    if not images:
        raise InputError("memory must be of at least 1 image, got 0")
    is_single = len(images) == 1
    least, fewest = BANDS if is_single else 1, min(int(image.counted.sum()) for image in images)
    if fewest < least:
        raise InputError(
            f"at least {least} patches of each image to remember must count, got {fewest}; ignore less of the frames, "
            "or leave --memory out"
        )
    units = _bands(images[0]) if is_single else list(images)
    rng, each = np.random.default_rng(seed), max(1, patches // len(units))
    kept = [
        _farthest_patches(unit.embeddings[unit.counted], each, rng).astype(np.float16).astype(np.float32)
        for unit in units
    ]
    moments = [measure_moments(unit.embeddings[unit.counted]) for unit in units]
    by_place = [np.zeros(places) if is_single else _place_means(unit, places) for unit in units]  # (G·G,)
    folds = [_leave_out(rows, kept, moments, by_place) for rows in _fold_rows(len(units))]
    folds = [replace(fold, place=None) for fold in folds] if is_single else folds
    nearest, outside, place = [], NO_SPREAD, NO_SPREAD
    for fold in folds:
        for row in fold.left_out:
            unit = units[row]
            vectors = unit.embeddings[unit.counted].swapaxes(0, 1)  # (L, P, D)
            nearest.append(nearest_distances(vectors, fold.patches))
            outside += measure_spread(outside_distances(vectors, fold.mean, fold.directions))
            if fold.place is not None:
                left = unit.text - np.tile(fold.place, len(unit.text) // places)
                place += measure_spread(left[unit.counted])
    text = measure_spread(np.concatenate([unit.text[unit.counted] for unit in units]))
    totals = [_place_means(image, places) for image in images]
    statistics = Statistics(
        images=len(images),
        moments=add_up(moments),
        place_total=exact(np.sum(totals, axis=0)),
        text=text,
        outside=outside,
        place=place,
        digests=frozenset(),
        subject=subject,
    )
    return Fitted(
        np.ascontiguousarray(np.concatenate(kept).swapaxes(0, 1)),
        measure_spread(np.concatenate(nearest)),
        statistics,
        tuple(folds),
    )


def _scaled(
    kinds: Sequence[Kind],
    statistics: Statistics,
    distance: Spread,
    *,
    patches: Floats | None,
    subspace: tuple[Floats, Floats] | None,
    place: Floats | None,
) -> Memory:
    """The memory of some kinds, of what each of them needs, with the scales of statistics."""
    memory = Memory(text=_to_scale(statistics.text, LEAST_TEXT_SPREAD))
    if "patches" in kinds:
        assert patches is not None
        memory = replace(memory, nearest=NearestPatches(patches, _to_scale(distance, LEAST_DISTANCE_SPREAD)))
    if "subspace" in kinds:
        assert subspace is not None
        scale = _to_scale(statistics.outside, LEAST_OUTSIDE_SPREAD)
        memory = replace(memory, subspace=Subspace(*subspace, scale))
    if "place" in kinds:
        assert place is not None
        grid = round(place.size**0.5)
        scale = _to_scale(statistics.place, LEAST_TEXT_SPREAD)
        memory = replace(memory, place=PlaceMean(place.reshape(grid, grid), scale))
    return memory


def _to_scale(spread: Spread, least: float) -> GaussianScale:
    return GaussianScale(spread.mean, max(spread.deviation, least))


def _bands(image: Shown) -> list[Shown]:
    """Cut an image into bands of rows, (P / BANDS, ...) each."""
    arrays = (image.embeddings, image.logits, image.counted)
    parts = zip(*(np.array_split(array[image.counted], BANDS) for array in arrays), strict=True)
    return [Shown(*part) for part in parts]


def _fold_rows(units: int) -> list[list[int]]:
    folds = min(units, MOST_FOLDS)
    return [list(range(first, units, folds)) for first in range(folds)]


def _leave_out(
    rows: Sequence[int], kept: Sequence[Floats], moments: Sequence[Moments], by_place: Sequence[np.ndarray]
) -> Fold:
    others = [row for row in range(len(kept)) if row not in rows]
    mean, directions = leading_directions(add_up([moments[row] for row in others]))
    return Fold(
        tuple(rows),
        np.concatenate([kept[row] for row in others]).swapaxes(0, 1),
        mean,
        directions,
        np.mean([by_place[row] for row in others], axis=0).astype(np.float32),
    )


def _place_means(image: Shown, places: int) -> np.ndarray:
    """Average the log-odds over the layers, and over the tiles: (G·G,) float64."""
    means: np.ndarray = image.logits.astype(np.float64).mean(axis=1).reshape(-1, places).mean(axis=0)
    return means  # those of places that are ignored are never looked at


def _farthest_patches(image: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Choose (count, L, D) of (P, L, D) patches: each next one is the farthest from all before.

    This greedy k-centre keeps rare patches of good parts, which a random choice would forget (PatchCore, arXiv
    2106.08265).
    """
    if len(image) <= count:
        return image
    vectors = image.reshape(len(image), -1) / np.sqrt(np.float32(image.shape[1]))  # unit norm
    chosen = [int(rng.integers(len(image)))]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(nearest.argmin()))
        np.maximum(nearest, vectors @ vectors[chosen[-1]], out=nearest)
    return image[chosen]

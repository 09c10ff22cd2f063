"""Draws training pairs: one product twice, good and damaged, under the same light, cut and turned alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from acl_train.tiny.captions import TRAINING_DEFECTS, TRAINING_FAMILIES
from acl_train.tiny.corpus import draw_twin

DEFECTS_PER_PICTURE = (0.5, 0.3, 0.2)  # one, two, three


@dataclass(frozen=True)
class Pair:
    """A good product and the same product damaged; or two good ones, where there are no defects."""

    images: NDArray[np.uint8]  # (2, S, S, 3) BGR, good first
    coverage: NDArray[np.float32]  # (G, G) share of each patch that is defective in the second picture
    family: str | None  # None: of no family; only captions without a product's name are true
    defects: tuple[str, ...]


def draw_pair(seed: int, index: int, *, size: int, patch: int) -> Pair:
    """The pair number `index` of the corpus `seed`, as S×S pictures; drawn larger and cut out."""
    rng = np.random.default_rng((seed, index))
    family = str(rng.choice(TRAINING_FAMILIES))
    defects = choose_defects(rng, TRAINING_DEFECTS)
    drawn, number = size * 7 // 4, int(rng.integers(2**40))
    good, _ = draw_twin(family, (), size=drawn, seed=number)
    damaged, mask = draw_twin(family, defects, size=drawn, seed=number)
    return Pair(*finish(rng, good, damaged, mask, size=size, patch=patch), family, defects)


def choose_defects(rng: np.random.Generator, names: Sequence[str]) -> tuple[str, ...]:
    """One to three different ones."""
    count = int(rng.choice(3, p=DEFECTS_PER_PICTURE)) + 1
    return tuple(str(name) for name in rng.choice(names, count, replace=False))


def finish(
    rng: np.random.Generator,
    good: NDArray[np.uint8],
    damaged: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    *,
    size: int,
    patch: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Twins cut, turned, recoloured and compressed alike: the pictures and the coverage of a `Pair`."""
    window = choose_window(rng, mask)
    order = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
    turns = rng.integers(0, 2, 3).astype(bool)
    images = [turned(reduced(picture[window], size)[..., order], turns) for picture in (good, damaged)]
    coverage = reduced(mask[window].astype(np.float32), size // patch)
    return compressed(rng, np.stack(images)), turned(coverage, turns).copy()


def choose_window(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """A square of half the picture to all of it, with some of the defect in it."""
    size = len(mask)
    side = int(rng.uniform(0.5, 1) * size) if rng.random() < 0.7 else size
    rows, columns = np.nonzero(mask)
    at = rng.integers(len(rows)) if len(rows) else 0
    centre = (rows[at], columns[at]) if len(rows) else (size // 2, size // 2)
    top, left = (int(np.clip(c - rng.uniform(0.15, 0.85) * side, 0, size - side)) for c in centre)
    return slice(top, top + side), slice(left, left + side)


def reduced(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture or mask averaged down to `size`."""
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def turned(picture: np.ndarray, turns: NDArray[np.bool_]) -> np.ndarray:
    """A square array flipped left to right, upside down, and transposed, each if asked for."""
    picture = picture[:, ::-1] if turns[0] else picture
    picture = picture[::-1] if turns[1] else picture
    return np.swapaxes(picture, 0, 1) if turns[2] else picture


def compressed(rng: np.random.Generator, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One pair in five as JPEG files would have it."""
    if rng.random() < 0.8:
        return images
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
    files = [cv2.imencode(".jpg", image, quality)[1] for image in images]
    decoded = [np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8) for file in files]
    return np.stack(decoded)

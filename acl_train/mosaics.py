"""Pictures made of four of one product, so that defects are seen at half their size and beside good parts.

Published learners of few parameters gain by them (VAND, arXiv 2305.17382; class-aware augmentation of UniADet, arXiv
2601.05552). The tower is frozen, so each is encoded once like any other picture and kept in the same cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acl_runtime.data.datasets import Sample, load_mask, load_sample
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.images.preprocess import preprocess

SIDE = 2  # pictures in a row, and rows


@dataclass(frozen=True)
class Mosaic:
    """Four pictures of one product, row by row."""

    samples: tuple[Sample, ...]

    @property
    def label(self) -> int:
        """1 if any of them is defective."""
        return max(sample.label for sample in self.samples)

    @property
    def category(self) -> str:
        """Their product."""
        return self.samples[0].category


Picture = Sample | Mosaic
"""What is encoded as one image."""


def draw_mosaics(samples: Sequence[Sample], count: int, *, seed: int) -> list[Mosaic]:
    """Draw so many, products in turn, each of four pictures of one product.

    Every second one of a product is of good pictures alone, if it has any; they occur more than once in one where
    it has fewer than four.

    Raises:
        InputError: No product has four pictures.
    """
    products: dict[str, list[Sample]] = {}
    for sample in samples:
        products.setdefault(sample.category, []).append(sample)
    most = SIDE * SIDE
    usable = [found for found in products.values() if len(found) >= most]
    if count and not usable:
        raise InputError(f"mosaics need {most} pictures of one product, and none has so many; leave them out")
    rng = np.random.default_rng([seed, 5])
    drawn = []
    for number in range(count):
        found = usable[number % len(usable)]
        good = [sample for sample in found if sample.label == 0]
        chosen = good if number // len(usable) % 2 and good else found
        rows = rng.choice(len(chosen), most, replace=len(chosen) < most)
        drawn.append(Mosaic(tuple(chosen[row] for row in rows)))
    return drawn


def load_picture(picture: Picture, *, image_size: int, reading: ReadSettings | None = None) -> np.ndarray:
    """A picture as the network takes it, (S, S, 3) uint8 RGB; the quarters of a mosaic are each squashed."""
    if isinstance(picture, Sample):
        found: np.ndarray = preprocess([load_sample(picture, reading)], image_size=image_size)[0]
        return found
    image = np.empty((image_size, image_size, 3), np.uint8)
    for sample, (rows, columns) in zip(picture.samples, _places(image_size), strict=True):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        side = max(height, width)
        quarter = preprocess([load_sample(sample, reading)], image_size=side)[0]
        image[rows, columns] = quarter[:height, :width]
    return image


def load_picture_mask(
    picture: Picture, *, image_size: int, reading: ReadSettings | None = None
) -> np.ndarray:
    """Its mask, (S, S) bool."""
    if isinstance(picture, Sample):
        return load_mask(picture, height=image_size, width=image_size, settings=reading)
    mask = np.zeros((image_size, image_size), np.bool_)
    for sample, (rows, columns) in zip(picture.samples, _places(image_size), strict=True):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        side = max(height, width)
        mask[rows, columns] = load_mask(sample, height=side, width=side, settings=reading)[:height, :width]
    return mask


def parts_of(picture: Picture) -> tuple[Sample, ...]:
    """The pictures that one is made of."""
    return (picture,) if isinstance(picture, Sample) else picture.samples


def _places(size: int) -> list[tuple[slice, slice]]:
    sides = slice(0, size // SIDE), slice(size // SIDE, size)
    return [(rows, columns) for rows in sides for columns in sides]

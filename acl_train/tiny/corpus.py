"""Draws frames and data sets of good and defective products, each from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from acl_train.tiny import wear
from acl_train.tiny.camera import photograph
from acl_train.tiny.fields import Field, Image, Rng
from acl_train.tiny.inventions import invent_damage
from acl_train.tiny.products import OBJECTS, TEXTURES, Product, draw_product

FAMILIES: tuple[str, ...] = (*TEXTURES, *OBJECTS)
DEFECTS: tuple[str, ...] = tuple(wear.DEFECTS)
HELD_OUT_FAMILIES = ("leather", "honeycomb", "knitwear", "marble", "hex nut", "zipper", "egg", "dial")
HELD_OUT_DEFECTS = ("bubble", "burn", "fold", "swap")
LEARNING_FAMILIES = (
    "weave", "linen", "wood", "tiles", "granite", "wire mesh", "checked cloth", "foam",
    "nut", "capsule", "screw", "washer", "chip", "cable", "cookie", "label", "leaf", "coin",
)  # fmt: skip
LEARNING_DEFECTS = (
    "scratch",
    "crack",
    "hole",
    "stain",
    "paint",
    "dent",
    "missing part",
    "contamination",
    "rough",
)

INVENTED = "invented"  # damage of no kind, for training only

MASK_THRESHOLD = 0.1  # of a defect's coverage
SMALLEST_DEFECT = 0.0015  # of the picture's area
FAINTEST_DEFECT = 0.08  # mean change inside the mask; warps move edges only
FAINTEST_WARP = 0.04


def draw_frame(
    family: str, defect: str | None, *, size: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A product of `family`, good or with one `defect`.

    The same seed draws the same product under the same light, with and without a defect.

    Returns:
        (size, size, 3) uint8 BGR frame and (size, size) bool mask of the defect.
    """
    return draw_twin(family, () if defect is None else (defect,), size=size, seed=seed)


def draw_twin(
    family: str, defects: Sequence[str], *, size: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """As `draw_frame`, with any number of defects."""
    check(family, defects)
    product = draw_product(family, stream(family, seed, 0), size)
    image, mask = product.image, np.zeros((size, size), np.bool_)
    rng = stream(family, seed, 1)
    for defect in defects:
        image, where = damage(Product(image, product.body, product.behind), defect, rng)
        mask |= where
    return photograph(image, stream(family, seed, 2)), mask


def check(family: str, defects: Sequence[str]) -> None:
    """Raise ValueError for a name that nothing draws."""
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {list(FAMILIES)}, got {family!r}")
    for defect in defects:
        if defect not in DEFECTS:
            raise ValueError(f"defect must be one of {list(DEFECTS)}, got {defect!r}")


def stream(family: str, seed: int, purpose: int) -> Rng:
    """Random numbers for one purpose (product, defect, camera) of one picture."""
    return np.random.default_rng((seed, FAMILIES.index(family), purpose))


def damage(product: Product, defect: str, rng: Rng, attempts: int = 12) -> tuple[Image, NDArray[np.bool_]]:
    """The product with a defect that can be seen; the last attempt is taken as it is."""
    draw = invent_damage if defect == INVENTED else wear.DEFECTS[defect]
    faintest = FAINTEST_WARP if defect == "warp" else FAINTEST_DEFECT
    for _ in range(attempts):
        drawn, coverage = draw(product, rng)
        image, mask = clipped(product, drawn, coverage)
        change = np.abs(image - product.image).max(axis=2)
        if mask.mean() >= SMALLEST_DEFECT and change[mask].mean() >= faintest:
            break
    return image, mask


def clipped(product: Product, drawn: Image, coverage: Field) -> tuple[Image, NDArray[np.bool_]]:
    """The damaged picture inside the mask and the product, the untouched one elsewhere."""
    mask = (coverage > MASK_THRESHOLD) & (product.body > 0.5)
    return np.where(mask[..., None], np.clip(drawn, 0, 1), product.image).astype(np.float32), mask


def draw_dataset(
    root: Path,
    *,
    families: Sequence[str],
    defects: Sequence[str],
    good: int,
    defective: int,
    size: int,
    seed: int,
) -> None:
    """Write a data set in MVTec AD's layout.

    Args:
        root: Folder that will hold one folder per family.
        families: What to draw.
        defects: Taken in turn.
        good: Good pictures per family.
        defective: Defective pictures per family.
        size: Side of the pictures, in pixels.
        seed: The first picture's seed; every picture has its own.
    """
    for family in families:
        for index in range(good):
            frame, _ = draw_frame(family, None, size=size, seed=seed * 100_000 + index)
            write(root / family / "test" / "good" / f"{index:03d}.png", frame)
        for index in range(defective):
            defect = defects[index % len(defects)]
            frame, mask = draw_frame(family, defect, size=size, seed=seed * 100_000 + good + index)
            name = f"{index // len(defects):03d}"
            write(root / family / "test" / defect / f"{name}.png", frame)
            write(root / family / "ground_truth" / defect / f"{name}_mask.png", mask.astype(np.uint8) * 255)


def write(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f"{path}: could not be written; check the disk's space and the folder's permissions")

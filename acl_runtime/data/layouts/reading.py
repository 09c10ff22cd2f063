"""What every reader of a layout gives, and the steps that readers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.data.samples import MASK, Sample, bad_samples, list_images, list_masks
from acl_runtime.files.errors import InputError


@dataclass(frozen=True)
class Reading:
    """What a reader found in a folder that is laid out its way."""

    samples: list[Sample]
    published: str | None = None  # the paper's name of the data set, such as "MVTec AD"
    notes: tuple[str, ...] = ()  # what a reader of the figures must know, beside what holds for any data set


def masked_samples(
    images: Path,
    masks: Path | None,
    *,
    category: str,
    defect: str,
    suffix: str = MASK,
    good: Sequence[Path] = (),
) -> list[Sample]:
    """A folder of defective parts in a data set that always comes with masks; see `bad_samples`.

    Raises:
        ValueError: There are images and no masks at all, or a mask belongs to no image.
    """
    if masks is None:
        raise InputError(f"{images}: has no folder of masks beside it; unpack the masks there too")
    if list_images(images) and not list_masks(masks):
        raise InputError(f"{masks}: holds no masks for the images in {images}; unpack them there")
    return bad_samples(images, [masks], category=category, defect=defect, suffix=suffix, good=good)


def inside(root: Path, path: str) -> Path:
    """Where a listed path is: relative to the root or, as some published scripts write, with the root before it.

    Lists that were written on Windows have a backslash between folders, which is part of a name elsewhere.
    """
    return next(
        (
            place
            for each in (path, path.replace("\\", "/"))
            for place in _places(root, each)
            if place.exists()
        ),
        root / path.replace("\\", "/"),
    )


def _places(root: Path, path: str) -> list[Path]:
    parts = Path(path).parts
    name = root.resolve().name
    return [root / path, *(root.joinpath(*parts[i + 1 :]) for i, part in enumerate(parts) if part == name)]

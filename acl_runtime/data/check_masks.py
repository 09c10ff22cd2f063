"""What the masks of a data set mark, looked at before anything is learned from them or measured with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from acl_runtime.data.datasets import Dataset, Sample
from acl_runtime.data.masks import orientation_of_file, read_marked, shrink
from acl_runtime.data.samples import mask_files
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.text.names import shorten

MOST = 0.5  # share of a picture's pixels: a defect is usually less
Progress = Callable[[int, int], None]


@dataclass
class _Found:
    """Defective parts whose masks are unlike what one expects of a mask."""

    blank: list[Sample] = field(default_factory=list)
    vanishing: list[Sample] = field(default_factory=list)
    nearly_all: list[Sample] = field(default_factory=list)
    turned: list[Sample] = field(default_factory=list)


def check_masks(
    dataset: Dataset,
    *,
    image_size: int,
    above: int = 0,
    allow_blank: bool = False,
    is_tiled: bool = False,
    settings: ReadSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Read every mask, refuse those that mark nothing, and note what else a reader of the figures must know.

    Args:
        dataset: Returned as it is where it has no masks.
        image_size: Side S of the network's input, in pixels.
        above: Grey level above which a mask's pixel is a defect.
        allow_blank: Whether a mask that marks nothing is noted, not refused.
        is_tiled: Whether frames are cut into tiles, so that masks are not shrunk to S × S.
        settings: How pictures are read.
        progress: Called after each mask with the number of masks read, and of all.

    Returns:
        The data set, with the notes added.

    Raises:
        InputError: A mask marks nothing, or its size is not its image's.
        FrameError: A mask cannot be read.
    """
    if not dataset.has_masks:
        return dataset
    defective = [sample for sample in dataset.samples if sample.label]
    found = _Found()
    for done, sample in enumerate(defective, start=1):
        _look_at(sample, found, image_size=image_size, above=above, settings=settings or ReadSettings())
        progress(done, len(defective))
    level = f" above grey level {above}" if above else ""
    blank = f"{_count(found.blank, defective)} mark nothing{level} ({_names(dataset, found.blank)})"
    if found.blank and not allow_blank:
        raise InputError(
            f"{dataset.root}: {blank}: a wrong colour, index or transparency; draw them again, or pass "
            "--allow-blank-masks to count their parts as defective without a defective pixel"
        )
    notes = [f"{blank}, so their parts count as defective without a defective pixel"] if found.blank else []
    if found.vanishing and not is_tiled:
        notes.append(
            f"{_count(found.vanishing, defective)} mark so little that nothing is left of it at the network's "
            f"{image_size} × {image_size} pixels ({_names(dataset, found.vanishing)}): such defects are too small for "
            "whole frames (see --tile)"
        )
    if found.nearly_all:
        notes.append(
            f"{_count(found.nearly_all, defective)} mark more than half of their picture "
            f"({_names(dataset, found.nearly_all)}); check that they mark the defect and not what is around it"
        )
    if found.turned:
        notes.append(
            f"{len(found.turned)} images or their masks have an orientation tag ({_names(dataset, found.turned)}): "
            "pixels are taken as they are stored, unlike in viewers, which masks drawn in a viewer do not fit (--exif)"
        )
    return replace(dataset, notes=(*dataset.notes, *notes))


def _look_at(sample: Sample, found: _Found, *, image_size: int, above: int, settings: ReadSettings) -> None:
    try:
        orientation = orientation_of_file(sample.path)
    except (FrameError, OSError):
        return  # a bad frame, which is told where it is judged
    marked = read_marked(sample, above=above, settings=settings)
    if not marked.any():
        found.blank.append(sample)
    elif not shrink(marked, height=image_size, width=image_size).any():
        found.vanishing.append(sample)
    if marked.mean() > MOST:
        found.nearly_all.append(sample)
    assert sample.mask is not None  # or it could not have been read
    if not settings.exif and any(
        tag != 1 for tag in (orientation, *map(orientation_of_file, mask_files(sample.mask)))
    ):
        found.turned.append(sample)


def _count(some: Sequence[Sample], defective: Sequence[Sample]) -> str:
    return f"{len(some)} of {len(defective)} masks of defective parts"


def _names(dataset: Dataset, samples: Sequence[Sample]) -> str:
    masks = [sample.mask for sample in samples if sample.mask is not None]
    return shorten(
        str(mask.relative_to(dataset.root) if mask.is_relative_to(dataset.root) else mask) for mask in masks
    )

"""The simplest layout: a folder of good and a folder of bad images."""

from __future__ import annotations

from pathlib import Path

from acl_runtime.data.layouts.mvtec import refuse_strays
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.samples import (
    GOOD_FOLDERS,
    MASK_FOLDERS,
    Sample,
    find_folders,
    good_samples,
    is_good,
    list_folders,
    list_images,
    list_masks,
    pair_masks,
)
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

BAD_FOLDERS = frozenset({"bad", "defect", "defective", "anomaly", "anomalous", "ng"})


def read_good_and_bad(root: Path) -> Reading | None:
    """A folder of good and a folder of bad images, with or without a folder of masks.

    good/*.png   bad/*.png   masks/<stem>.png
    """
    folders = [folder for folder in list_folders(root) if list_images(folder)]
    good = [folder for folder in folders if is_good(folder)]
    bad = [folder for folder in folders if folder.name.lower() in BAD_FOLDERS]
    if not good and not bad:
        return None
    known = {*good, *bad, *find_folders(root, *MASK_FOLDERS)}
    unknown = [folder.name for folder in folders if folder not in known]
    if unknown:
        raise InputError(
            f"{root}: {shorten(unknown)} is neither good ({_names(GOOD_FOLDERS)}) nor bad "
            f"({_names(BAD_FOLDERS)}); rename it, or name the folder that holds test/"
        )
    category = root.resolve().name
    good_parts = [sample for folder in good for sample in good_samples(folder, category=category)]
    return Reading(good_parts + _bad_parts(root, bad, good_parts, category=category))


def _bad_parts(root: Path, folders: list[Path], good: list[Sample], *, category: str) -> list[Sample]:
    """Masks lie in a folder of `MASK_FOLDERS`, or there in a folder named as the images' or as one image."""
    images = [image for folder in folders for image in list_images(folder)]
    names, stems = {folder.name.lower() for folder in folders}, {image.stem for image in images}
    places = find_folders(root, *MASK_FOLDERS)
    inner = [each for place in places for each in list_folders(place)]
    refuse_strays([each for each in inner if each.name not in stems], known=names)
    own = [each for each in inner if each.name.lower() in names]
    masks = [
        mask
        for place in (*places, *own)
        for mask in list_masks(place)
        if mask not in own and not (mask.is_dir() and is_good(mask))
    ]
    paired = pair_masks(images, masks, [sample.path for sample in good])
    return [
        Sample(path=path, mask=mask, label=1, category=category, defect=path.parent.name)
        for path, mask in zip(images, paired, strict=True)
    ]


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))

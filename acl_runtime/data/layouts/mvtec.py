"""MVTec AD's tree, and the data sets that follow it."""

from __future__ import annotations

from pathlib import Path

from acl_runtime.data.layouts.published import ALIASES, name_by_categories
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.samples import (
    Sample,
    bad_samples,
    find_folder,
    good_samples,
    is_good,
    list_folders,
    list_images,
)
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

LIKE_MVTEC = ("MVTec AD", "VisA", "MPDD", "BTAD", "SDD", "DTD-Synthetic")


def read_mvtec(root: Path) -> Reading | None:
    """MVTec AD, MPDD, BTAD, DTD-Synthetic, prepared SDD and HeadCT: the root is the set or one category.

        <category>/test/good/000.png
        <category>/test/<defect>/000.png
        <category>/ground_truth/<defect>/000_mask.png

    Good parts lie in a folder called good or ok; any other is a defect. A mask has its image's name, with or
    without `_mask`, and an extension of its own.
    """
    categories = [root] if (root / "test").is_dir() else list_folders(root)
    tested = [category for category in categories if list_folders(category / "test")]
    if not tested:
        return None
    untested = [folder.name for folder in categories if folder not in tested and (folder / "train").is_dir()]
    if untested:
        raise InputError(f"{root}: {shorten(untested)} has train but no test images; download it again")
    samples = [sample for category in tested for sample in _read_category(category)]
    return Reading(samples, _paper_name(samples))


def _paper_name(samples: list[Sample]) -> str | None:
    """Converted HeadCT is the only brain set in this tree; BrainMRI and Br35H stay no/ and yes/."""
    if {sample.category for sample in samples} == {"brain"}:
        return "HeadCT"
    return name_by_categories(samples, among=LIKE_MVTEC)


def _read_category(root: Path) -> list[Sample]:
    name = root.resolve().name
    name = ALIASES.get(name.lower(), name)
    folders = list_folders(root / "test")
    good = [sample for folder in folders if is_good(folder) for sample in good_samples(folder, category=name)]
    bad = [
        sample
        for folder in folders
        if not is_good(folder)
        for sample in bad_samples(folder, root / "ground_truth" / folder.name, category=name)
    ]
    places = [root / "ground_truth", *list_folders(root / "ground_truth")]
    refuse_strays(places, known={folder.name for folder in folders})
    return good + bad


def read_visa_reorganised(root: Path) -> Reading | None:
    """VisA after its own `prepare_data` script: MVTec AD's tree, masks 0 and 255.

    1cls/<category>/{test/{good,bad},ground_truth/bad}/000.{JPG,png}
    """
    inner = find_folder(root, "1cls")
    return None if inner is None else read_mvtec(inner)


def refuse_strays(places: list[Path], *, known: set[str]) -> None:
    """Masks where no image looks for them are an error; those of good parts are blank and not read."""
    for place in places:
        if place.name not in known and not is_good(place) and list_images(place):
            raise InputError(f"{place}: has masks that belong to no folder of images; name it as its images'")

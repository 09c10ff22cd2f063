"""MVTec AD's tree, and the data sets that follow it."""

from __future__ import annotations

from pathlib import Path

from acl_runtime.data.layouts.published import ALIASES, name_by_categories
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.samples import (
    MASK_FOLDERS,
    Sample,
    bad_samples,
    find_folder,
    find_folders,
    good_samples,
    is_good,
    list_folders,
    list_images,
)
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

LIKE_MVTEC = ("MVTec AD", "VisA", "MPDD", "BTAD", "SDD", "DTD-Synthetic")


def read_mvtec(root: Path) -> Reading | None:
    """MVTec AD and LOCO, MPDD, BTAD, DTD-Synthetic, prepared SDD and HeadCT: the root is the set or one category.

        <category>/test/good/000.png
        <category>/test/<defect>/000.png
        <category>/ground_truth/<defect>/000_mask.png
        <category>/ground_truth/<defect>/000/000.png, 001.png         LOCO: a file for each defect of the picture

    Good parts lie in a folder called good or ok; any other is a defect. A mask has its image's name, with or
    without `_mask`, and an extension of its own; the folder of masks may have any name of `MASK_FOLDERS`.
    """
    categories = [root] if find_folder(root, "test") else list_folders(root)
    tests = {category: test for category in categories if (test := find_folder(category, "test"))}
    tests = {category: test for category, test in tests.items() if list_folders(test)}
    if not tests:
        return None
    others = [folder for folder in categories if folder not in tests]
    untested = [folder.name for folder in others if find_folder(folder, "train")]
    if untested:
        raise InputError(f"{root}: {shorten(untested)} has train but no test images; download it again")
    samples = [sample for category, test in tests.items() for sample in _read_category(category, test)]
    return Reading(samples, _paper_name(samples), tuple(_unread_notes(root, list(tests), samples)))


def _paper_name(samples: list[Sample]) -> str | None:
    """Converted HeadCT is the only brain set in this tree; BrainMRI and Br35H stay no/ and yes/."""
    if {sample.category for sample in samples} == {"brain"}:
        return "HeadCT"
    return name_by_categories(samples, among=LIKE_MVTEC)


def _read_category(root: Path, test: Path) -> list[Sample]:
    name = root.resolve().name
    name = ALIASES.get(name.lower(), name)
    folders, places = list_folders(test), find_folders(root, *MASK_FOLDERS)
    for folder in find_folders(test, *MASK_FOLDERS):
        raise InputError(
            f"{folder}: lies among the images; move the masks to {root / MASK_FOLDERS[0]}/<defect>"
        )
    good = [sample for folder in folders if is_good(folder) for sample in good_samples(folder, category=name)]
    bad = [
        sample
        for folder in folders
        if not is_good(folder)
        for sample in bad_samples(folder, _masks_of(folder, folders, places), category=name)
    ]
    strays = [*places, *(inner for place in places for inner in list_folders(place))]
    refuse_strays(strays, known={folder.name.lower() for folder in folders})
    return good + bad


def _masks_of(folder: Path, folders: list[Path], places: list[Path]) -> list[Path]:
    """The folders of a defect's masks: of its name or, where no other defect has that but for capitals, like it."""
    inner = [each for place in places for each in list_folders(place)]
    exact = [each for each in inner if each.name == folder.name]
    alike = [each for each in inner if each.name.lower() == folder.name.lower()]
    return exact if exact or sum(each.name.lower() == folder.name.lower() for each in folders) > 1 else alike


def _unread_notes(root: Path, categories: list[Path], samples: list[Sample]) -> list[str]:
    """Where defects have no masks, the folders that may hold them under another name."""
    if any(sample.mask for sample in samples) or not any(sample.label for sample in samples):
        return []
    known = {"test", "train", "validation", *MASK_FOLDERS}
    unread = [
        folder.relative_to(root).as_posix()
        for category in categories
        for folder in list_folders(category)
        if folder.name.lower() not in known
        and any(list_images(place) for place in (folder, *list_folders(folder)))
    ]
    return (
        [f"{shorten(unread)} is not read; name it {MASK_FOLDERS[0]} if it holds the masks"] if unread else []
    )


def read_visa_reorganised(root: Path) -> Reading | None:
    """VisA after its own `prepare_data` script: MVTec AD's tree, masks 0 and 255.

    1cls/<category>/{test/{good,bad},ground_truth/bad}/000.{JPG,png}
    """
    inner = find_folder(root, "1cls")
    return None if inner is None else read_mvtec(inner)


def refuse_strays(places: list[Path], *, known: set[str]) -> None:
    """Refuse masks that no image looks for; those of good parts are blank and not read.

    Args:
        places: Folders that may hold masks.
        known: Names of the folders of images, in lower case.
    """
    for place in places:
        if place.name.lower() not in known and not is_good(place) and list_images(place):
            raise InputError(f"{place}: has masks that belong to no folder of images; name it as its images'")

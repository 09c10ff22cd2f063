"""Medical sets of defects alone: a folder of images beside a folder of their masks."""

from __future__ import annotations

from pathlib import Path

from acl_runtime.data.layouts.good_and_bad import BAD_FOLDERS
from acl_runtime.data.layouts.published import POLYPS, name_by_folder, names_in_folder
from acl_runtime.data.layouts.reading import Reading, masked_samples
from acl_runtime.data.samples import find_folder, good_samples, list_images
from acl_runtime.files.errors import InputError

LUNGS = frozenset({"normal", "covid", "lung_opacity", "viral pneumonia"})  # in COVID-19's current release
UNNAMED = (
    "images/ and masks/ are read as defects alone, and which polyp set it is cannot be told; name the folder "
    "after it (CVC-ClinicDB, CVC-ColonDB, Kvasir, Endo) to see the paper's figures beside"
)


def read_clinic_db(root: Path) -> Reading | None:
    """CVC-ClinicDB as downloaded from its authors.

    Original/1.tif   Ground Truth/1.tif
    """
    images, masks = find_folder(root, "original"), find_folder(root, "ground truth")
    named = name_by_folder(root, POLYPS) == "CVC-ClinicDB"
    if images is None or (masks is None and not named):
        return None
    return Reading(masked_samples(images, masks, category="colon", defect="polyp"), "CVC-ClinicDB")


def read_tn3k(root: Path) -> Reading | None:
    """The test part of TN3K; a mask has its image's name.

    test-image/0000.jpg   test-mask/0000.jpg
    """
    images = find_folder(root, "test-image")
    if images is None:
        if find_folder(root, "trainval-image") is None:
            return None
        raise InputError(f"{root}: has TN3K's trainval-image and no test-image; unpack the whole archive")
    masks = find_folder(root, "test-mask")
    return Reading(masked_samples(images, masks, category="thyroid", defect="nodule"), "TN3K")


def read_polyps(root: Path) -> Reading | None:
    """CVC-ClinicDB, CVC-ColonDB, Kvasir and Endo, told apart by the root's name; ColonDB+Endo has good ones.

        images/1.png   masks/1.png   (good/*.jpg)

    Other folders, such as `bbox`, are not read.
    """
    images, masks = find_folder(root, "images"), find_folder(root, "masks")
    if images is None or not list_images(images) or find_folder(root, *BAD_FOLDERS):
        return None
    name, normal = name_by_folder(root, POLYPS), find_folder(root, "good")
    if masks is None and name is None:
        return None
    if _are_lungs(root, images):
        raise InputError(
            f"{root}: is one class of COVID-19 and its masks are lungs; name the folder above it"
        )
    if normal is not None:
        name = _name_with_good(root, images, normal)
    category, defect = ("colon", "polyp") if name else (root.resolve().name, "defect")
    good = [] if normal is None else good_samples(normal, category=category)
    bad = masked_samples(
        images, masks, category=category, defect=defect, good=[sample.path for sample in good]
    )
    return Reading(good + bad, name, () if name or good else (UNNAMED,))


def _name_with_good(root: Path, images: Path, normal: Path) -> str | None:
    """ColonDB+Endo, which the paper's authors put together, or the set that the root is named after.

    The images of CVC-ColonDB are numbers and the good ones of Endo are not, so it is known by that too.
    """
    names = names_in_folder(root, POLYPS)
    numbered = [all(path.stem.isdecimal() for path in list_images(folder)) for folder in (images, normal)]
    if "CVC-ColonDB" in names or (not names and numbered == [True, False]):
        return "ColonDB+Endo"
    return names.pop() if len(names) == 1 else None


def _are_lungs(root: Path, images: Path) -> bool:
    """Whether it is a class of COVID-19's current release, such as COVID/images/COVID-1.png."""
    name = root.resolve().name.lower()
    return name in LUNGS and any(path.stem.lower().startswith(f"{name}-") for path in list_images(images))

"""Medical sets without masks: a folder of good images and one of anomalous ones, in words of their own."""

from __future__ import annotations

import re
from pathlib import Path

from acl_runtime.data.layouts.published import BRAINS, name_by_folder
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.samples import GOOD, Sample, find_folder, list_images
from acl_runtime.files.errors import InputError

COVID = ("covid-19", "covid", "covid19")
OTHER_LUNGS = ("viral pneumonia", "lung_opacity")
CURRENT = (
    "this is the current release of the COVID-19 radiographs and the paper used the first, so its figures are "
    "for other images; the lung masks that come with it are not read"
)


def read_yes_and_no(root: Path) -> Reading | None:
    """BrainMRI and Br35H, told apart by the names of their images; the folder of BrainMRI comes first.

    brain_tumor_dataset/no/1 no.jpeg   brain_tumor_dataset/yes/Y1.jpg   (no/, yes/: the same again)
    no/no0.jpg   yes/y0.jpg   (pred/ without labels and Br35H-Mask-RCNN/, copies: not read)
    """
    inner = find_folder(root, "brain_tumor_dataset") or root
    good, bad = find_folder(inner, "no"), find_folder(inner, "yes")
    if not any(folder and list_images(folder) for folder in (good, bad)):
        return None
    if good is None or bad is None:
        there, lacking = ("yes", "no") if good is None else ("no", "yes")
        raise InputError(f"{inner}: has the folder {there} and no folder {lacking}; unpack both there")
    name = _name_of_brains(inner, good, bad)
    category = "brain" if name else inner.resolve().name
    return Reading(_labelled(good, bad, category=category, defect="tumour" if name else "yes"), name)


def _name_of_brains(root: Path, good: Path, bad: Path) -> str | None:
    if find_folder(root, "br35h-mask-rcnn"):
        return "Br35H"
    no, yes = ({path.stem for path in list_images(folder)} for folder in (good, bad))
    if all(re.fullmatch(r"no\d+", stem) for stem in no) and all(re.fullmatch(r"y\d+", stem) for stem in yes):
        return "Br35H"
    if any(re.fullmatch(r"Y\d+", stem) for stem in yes):
        return "BrainMRI"
    return name_by_folder(root, BRAINS)


def read_covid(root: Path) -> Reading | None:
    """COVID-19 radiographs, NORMAL against COVID, as the paper's counts show; other diseases are left out.

    NORMAL/NORMAL (1).png   COVID-19/COVID-19 (1).png                       first release
    Normal/images/Normal-1.png   COVID/images/COVID-1.png   (*/masks/)      current release
    """
    good, bad = _radiographs(root, "normal"), _radiographs(root, *COVID)
    if bad is None and (good is None or find_folder(root, *OTHER_LUNGS) is None):
        return None
    if good is None or bad is None:
        lacking = "NORMAL" if good is None else "COVID-19 or COVID"
        raise InputError(f"{root}: has no folder {lacking} with images; unpack COVID-19 again")
    notes = (CURRENT,) if good.name.lower() == "images" else ()
    return Reading(_labelled(good, bad, category="chest", defect="COVID"), "COVID-19", notes)


def _radiographs(root: Path, *names: str) -> Path | None:
    """The images of a class, which lie in its folder or there in `images`."""
    folder = find_folder(root, *names)
    if folder is None:
        return None
    return next(
        (place for place in (folder, find_folder(folder, "images")) if place and list_images(place)), None
    )


def _labelled(good: Path, bad: Path, *, category: str, defect: str) -> list[Sample]:
    """All images of two folders, without masks; an empty one is an error."""
    empty = [folder for folder in (good, bad) if not list_images(folder)]
    if empty:
        raise InputError(f"{empty[0]}: holds no images; unpack them there")
    return [
        Sample(path=path, mask=None, label=label, category=category, defect=name)
        for folder, label, name in ((good, 0, GOOD), (bad, 1, defect))
        for path in list_images(folder)
    ]

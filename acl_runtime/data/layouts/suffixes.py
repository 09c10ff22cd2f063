"""Data sets whose masks are told by an ending of their own: DAGM, KolektorSDD and ISIC."""

from __future__ import annotations

import re
from pathlib import Path

from acl_runtime.data.layouts.reading import Reading, masked_samples
from acl_runtime.data.masks import read_grey
from acl_runtime.data.samples import (
    GOOD,
    Sample,
    find_folder,
    list_folders,
    list_images,
    pair_masks,
)
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

DAGM_CLASS = re.compile(r"class\d+", re.IGNORECASE)
DAGM_ORIGINAL = re.compile(r"class\d+_def", re.IGNORECASE)
KOLEKTOR = re.compile(r"kos\d+", re.IGNORECASE)
LABEL = "_label"
HALVES = (
    "each picture of SDD is two samples, its upper and its lower half, cut at half the height; a half is "
    "defective where its part of the label is not black"
)
CHOICE = "the paper judges 181 of SDD's good halves and which ones is not published, so here all of them are judged"


def read_dagm(root: Path) -> Reading | None:
    """DAGM 2007 as uploaded to Kaggle: the "Test" split; a defective image has a label, a good one has none.

        Class<i>/Test/0001.PNG
        Class<i>/Test/Label/0001_label.PNG, Labels.txt

    The root is the data set or one class.
    """
    folders = [root, *list_folders(root)]
    if any(DAGM_ORIGINAL.fullmatch(folder.name) for folder in folders):
        raise InputError(
            f"{root}: is DAGM's original archive; take the Kaggle upload, which has Class1/Test/"
        )
    classes = [folder for folder in folders if DAGM_CLASS.fullmatch(folder.resolve().name)]
    if not any(list_images(part) for folder in classes for part in _dagm_splits(folder)):
        return None
    return Reading([sample for folder in classes for sample in _read_dagm_class(folder)], "DAGM")


def _dagm_splits(root: Path) -> list[Path]:
    return [folder for folder in list_folders(root) if folder.name.lower() in ("train", "test")]


def _read_dagm_class(root: Path) -> list[Sample]:
    test = find_folder(root, "test")
    if test is None:
        raise InputError(f"{root}: has no folder Test; unpack the whole class again")
    labels = find_folder(test, "label")
    if labels is None:
        raise InputError(f"{test}: has no folder Label, which says what is defective; unpack it there")
    images, category = list_images(test), root.resolve().name.capitalize()
    masks = pair_masks(images, list_images(labels), suffix=LABEL)
    pairs = list(zip(images, masks, strict=True))
    good = [
        Sample(path=path, mask=None, label=0, category=category, defect=GOOD)
        for path, mask in pairs
        if mask is None
    ]
    return good + [
        Sample(path=path, mask=mask, label=1, category=category, defect="defect")
        for path, mask in pairs
        if mask is not None
    ]


def read_sdd(root: Path) -> Reading | None:
    """KolektorSDD as downloaded, each picture cut into two halves as in the paper.

    kos01/Part0.jpg   kos01/Part0_label.bmp
    """
    folders = [folder for folder in list_folders(root) if KOLEKTOR.fullmatch(folder.name)]
    if not any(list_images(folder) for folder in folders):
        return None
    samples = [half for folder in folders for part in _kolektor_parts(folder) for half in _halves(*part)]
    return Reading(samples, "SDD", (HALVES, CHOICE))


def _kolektor_parts(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures with their labels; every one has a label, which is black where the part is good."""
    files = list_images(folder)
    images = [path for path in files if not path.stem.lower().endswith(LABEL)]
    labels = pair_masks(images, [path for path in files if path not in images], suffix=LABEL)
    bare = [path.name for path, label in zip(images, labels, strict=True) if label is None]
    if bare:
        raise InputError(f"{folder}: {shorten(bare)} has no {LABEL}.bmp beside it; unpack KolektorSDD again")
    return [(path, label) for path, label in zip(images, labels, strict=True) if label is not None]


def _halves(path: Path, label: Path) -> list[Sample]:
    marked = read_grey(label) > 0  # (H, W)
    middle, height = len(marked) // 2, len(marked)
    return [
        Sample(path=path, mask=label, label=1, category="electrical commutators", defect="defect", rows=rows)
        if marked[slice(*rows)].any()
        else Sample(path=path, mask=None, label=0, category="electrical commutators", defect=GOOD, rows=rows)
        for rows in ((0, middle), (middle, height))
    ]


def read_isic(root: Path) -> Reading | None:
    """The test part of ISIC 2016's segmentation task, as downloaded or as the published code wants it.

        ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg
        ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png

        skin/test/ISBI2016_ISIC_Part1_Test_Data/...
        skin/ISBI2016_ISIC_Part1_Test_GroundTruth/...

    The root may be the folder skin, too.
    """
    inner = find_folder(root, "skin") or root
    places = [*list_folders(inner), *list_folders(inner / "test")]
    ours = [folder for folder in places if folder.name.lower().startswith("isbi2016_isic_part1")]
    test = [folder for folder in ours if "_test_" in folder.name.lower()]
    images = next((folder for folder in test if folder.name.lower().endswith("_data")), None)
    truth = next((folder for folder in test if folder.name.lower().endswith("_groundtruth")), None)
    if not ours:
        return None
    if images is None or truth is None:
        wanted = "ISBI2016_ISIC_Part1_Test_" + ("Data" if images is None else "GroundTruth")
        raise InputError(
            f"{inner}: holds {shorten(f.name for f in ours)} and no {wanted}; unpack it there too"
        )
    samples = masked_samples(images, truth, category="skin", defect="lesion", suffix="_segmentation")
    return Reading(samples, "ISIC")

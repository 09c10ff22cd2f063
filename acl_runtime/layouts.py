"""Readers of the folder layouts in which data sets are published; a new one is a function, named below."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acl_runtime.samples import (
    GOOD,
    Sample,
    bad_samples,
    good_samples,
    list_folders,
    list_images,
    pair_masks,
    shorten,
)

GOOD_FOLDERS = frozenset({"good", "normal", "ok"})  # compared in lower case
BAD_FOLDERS = frozenset({"bad", "defect", "defective", "anomaly", "anomalous", "ng"})
MASK_FOLDERS = ("masks", "ground_truth")


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set on disk."""

    name: str
    looks_like: str  # what the reader looks for
    read: Callable[[Path], list[Sample] | None]  # the folder's samples; None where it is laid out otherwise


def read_meta_json(root: Path) -> list[Sample] | None:
    """The "test" split of the published code's `meta.json`, in its order.

    The published code learns from the test split and is judged on it, so this is its only split here too.
    """
    path = root / "meta.json"
    if not path.is_file():
        return None
    try:
        records = [
            record for category in json.loads(path.read_bytes())["test"].values() for record in category
        ]
        return [_meta_sample(root, record) for record in records]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: is not the published code's list of images ({type(error).__name__}: {error}); "
            f"write it anew, or remove it to have the folders read"
        ) from error


def _meta_sample(root: Path, record: Mapping[str, Any]) -> Sample:
    path = _inside(root, record["img_path"])
    category = str(record["cls_name"])
    if not record["anomaly"]:
        return Sample(path, None, 0, category, GOOD)
    mask = _inside(root, record["mask_path"])
    has_mask = bool(record["mask_path"]) and not mask.is_dir()  # a folder stands for "no mask" there
    return Sample(path, mask if has_mask else None, 1, category, record.get("specie_name") or "defect")


def _inside(root: Path, path: str) -> Path:
    """Where `path` is: relative to the root or, as some published scripts write, with the root before it."""
    parts = Path(path).parts
    name = root.resolve().name
    tails = [root.joinpath(*parts[i + 1 :]) for i, part in enumerate(parts) if part == name]
    return next((place for place in (root / path, *tails) if place.exists()), root / path)


def read_mvtec(root: Path) -> list[Sample] | None:
    """MVTec AD, and what follows it (MPDD, BTAD, DTD-Synthetic): the root is the data set or one category.

    Good parts lie in a folder called good or ok; any other is a defect. A mask has its image's name, with or
    without `_mask`.
    """
    categories = [root] if (root / "test").is_dir() else list_folders(root)
    tested = [category for category in categories if list_folders(category / "test")]
    if not tested:
        return None
    untested = [folder.name for folder in categories if folder not in tested and (folder / "train").is_dir()]
    if untested:
        raise ValueError(f"{root}: {shorten(untested)} has train but no test images; download it again")
    return [sample for category in tested for sample in _mvtec_category(category)]


def _mvtec_category(root: Path) -> list[Sample]:
    name = root.resolve().name
    folders = list_folders(root / "test")
    good = [
        sample for folder in folders if _is_good(folder) for sample in good_samples(folder, category=name)
    ]
    bad = [
        sample
        for folder in folders
        if not _is_good(folder)
        for sample in bad_samples(folder, root / "ground_truth" / folder.name, category=name)
    ]
    places = [root / "ground_truth", *list_folders(root / "ground_truth")]
    _refuse_strays(places, known={folder.name for folder in folders})
    return good + bad


def _refuse_strays(places: list[Path], *, known: set[str]) -> None:
    """Masks where no image looks for them; those of good parts are blank and not read."""
    for place in places:
        if place.name not in known and not _is_good(place) and list_images(place):
            raise ValueError(f"{place}: has masks that belong to no folder of images; name it as its images'")


def read_visa(root: Path) -> list[Sample] | None:
    """VisA as downloaded: the rows of `split_csv/1cls.csv` whose split is "test", in its order."""
    path = root / "split_csv" / "1cls.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    missing = {"object", "split", "label", "image", "mask"} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: has no column {shorten(missing)}; take the file that comes with VisA")
    return [_visa_sample(root, row) for row in rows if row["split"] == "test"]


def _visa_sample(root: Path, row: Mapping[str, str]) -> Sample:
    if row["label"] == "normal":
        return Sample(root / row["image"], None, 0, row["object"], GOOD)
    mask = root / row["mask"] if row["mask"] else None
    return Sample(root / row["image"], mask, 1, row["object"], row["label"])


def read_visa_reorganised(root: Path) -> list[Sample] | None:
    """VisA after its own `prepare_data` script: MVTec AD's tree inside a folder called `1cls`."""
    return read_mvtec(root / "1cls")


def read_good_and_bad(root: Path) -> list[Sample] | None:
    """A folder of good and a folder of bad images, with or without a folder of masks."""
    folders = [folder for folder in list_folders(root) if list_images(folder)]
    good = [folder for folder in folders if _is_good(folder)]
    bad = [folder for folder in folders if folder.name.lower() in BAD_FOLDERS]
    if not good and not bad:
        return None
    known = {*good, *bad, *(root / name for name in MASK_FOLDERS)}
    unknown = [folder.name for folder in folders if folder not in known]
    if unknown:
        raise ValueError(
            f"{root}: {shorten(unknown)} is neither good ({_names(GOOD_FOLDERS)}) nor bad "
            f"({_names(BAD_FOLDERS)}); rename it, or name the folder that holds test/"
        )
    category = root.resolve().name
    good_parts = [sample for folder in good for sample in good_samples(folder, category=category)]
    return good_parts + _bad_parts(root, bad, good_parts, category=category)


def _bad_parts(root: Path, folders: list[Path], good: list[Sample], *, category: str) -> list[Sample]:
    """Masks lie in `masks` or `ground_truth`, or there in a folder named as the images'."""
    inner = [place for name in MASK_FOLDERS for place in list_folders(root / name)]
    _refuse_strays(inner, known={folder.name for folder in folders})
    places = [*(root / name for name in MASK_FOLDERS), *inner]
    masks = [mask for place in places if not _is_good(place) for mask in list_images(place)]
    images = [image for folder in folders for image in list_images(folder)]
    paired = pair_masks(images, masks, [sample.path for sample in good])
    return [
        Sample(path, mask, 1, category, path.parent.name) for path, mask in zip(images, paired, strict=True)
    ]


def _is_good(folder: Path) -> bool:
    return folder.name.lower() in GOOD_FOLDERS


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


LAYOUTS: tuple[Layout, ...] = (  # the first that recognises a folder reads it
    Layout("published", "meta.json", read_meta_json),
    Layout("visa", "split_csv/1cls.csv", read_visa),
    Layout("visa-reorganised", "1cls/<category>/test/<defect>/", read_visa_reorganised),
    Layout("mvtec", "test/<defect>/ or <category>/test/<defect>/", read_mvtec),
    Layout("good-and-bad", "good/ and bad/ with images", read_good_and_bad),
)

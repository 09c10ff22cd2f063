"""Data sets that come with a table of their images: VisA and HeadCT."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from acl_runtime.data.layouts.published import name_by_categories
from acl_runtime.data.layouts.reading import Reading
from acl_runtime.data.samples import GOOD, Sample, find_folder, list_folders, list_images, shorten

VISA_COLUMNS = {"object", "split", "label", "image", "mask"}
HEAD_CT_COLUMNS = {"id", "hemorrhage"}


def read_visa(root: Path) -> Reading | None:
    """VisA as downloaded: the rows of the table whose split is "test", in its order.

        split_csv/1cls.csv
        <category>/Data/Images/{Normal/0000.JPG,Anomaly/000.JPG}
        <category>/Data/Masks/Anomaly/000.png

    A category whose whole folder is missing is passed over.
    """
    path = root / "split_csv" / "1cls.csv"
    if not path.is_file():
        _refuse_visa_without_table(root)
        return None
    rows = _read_table(path)
    missing = VISA_COLUMNS - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: has no column {shorten(missing)}; take the file that comes with VisA")
    there = {name for name in {row["object"] for row in rows} if (root / name).is_dir()}
    if not there:
        raise ValueError(f"{root}: has VisA's table and none of its categories; unpack the images there too")
    samples = [_visa_sample(root, row) for row in rows if row["split"] == "test" and row["object"] in there]
    return Reading(samples, name_by_categories(samples, among=["VisA"]))


def _refuse_visa_without_table(root: Path) -> None:
    if list_folders(root / "Data" / "Images"):
        raise ValueError(
            f"{root}: is one category of VisA; name the folder that holds it and split_csv/1cls.csv"
        )
    if any(list_folders(folder / "Data" / "Images") for folder in list_folders(root)):
        raise ValueError(
            f"{root}: has VisA's folders and no split_csv/1cls.csv, which says what is for testing; put there "
            f"the one that comes with VisA"
        )


def _visa_sample(root: Path, row: Mapping[str, str]) -> Sample:
    if row["label"] == "normal":
        return Sample(root / row["image"], None, 0, row["object"], GOOD)
    mask = root / row["mask"] if row["mask"] else None
    return Sample(root / row["image"], mask, 1, row["object"], row["label"])


def read_head_ct(root: Path) -> Reading | None:
    """HeadCT as downloaded: no masks, haemorrhages by the table, which lies beside or above the images.

        labels.csv                  id, hemorrhage
        head_ct/head_ct/000.png     the id, with zeros before it

    The root may be any of the folders.
    """
    images = _head_ct_images(root)
    if not list_images(images):
        return None
    tables = [folder / "labels.csv" for folder in (root, images, *images.parents[:2], root.parent)]
    table = next((path for path in tables if _is_head_ct_table(path)), None)
    if table is None:
        _refuse_head_ct_without_table(root, images)
        return None
    labels = _head_ct_labels(table)
    by_id = {int(path.stem): path for path in list_images(images) if path.stem.isdecimal()}
    _refuse_other_ids(images, table, set(labels), set(by_id))
    return Reading([_head_ct_sample(by_id[number], label) for number, label in labels.items()], "HeadCT")


def _refuse_head_ct_without_table(root: Path, images: Path) -> None:
    if images != root or root.resolve().name.lower() == "head_ct":
        raise ValueError(
            f"{images}: has no labels.csv with a column hemorrhage beside it or above; put HeadCT's there"
        )


def _head_ct_labels(table: Path) -> dict[int, int]:
    """0 or 1 by id."""
    rows = _read_table(table)
    wrong = [row["id"] for row in rows if not (row["id"].isdecimal() and row["hemorrhage"] in ("0", "1"))]
    if wrong:
        raise ValueError(f"{table}: the row {shorten(wrong)} is no id with 0 or 1; take HeadCT's own table")
    return {int(row["id"]): int(row["hemorrhage"]) for row in rows}


def _head_ct_images(root: Path) -> Path:
    inner = find_folder(root, "head_ct")
    return root if inner is None else _head_ct_images(inner)


def _is_head_ct_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {name.strip() for name in next(csv.reader(file), [])} >= HEAD_CT_COLUMNS


def _refuse_other_ids(images: Path, table: Path, listed: set[int], found: set[int]) -> None:
    if listed - found:
        raise ValueError(f"{images}: lacks the image {_ids(listed - found)} of {table}; unpack it again")
    if found - listed:
        raise ValueError(f"{table}: has no row for the image {_ids(found - listed)}; take the whole table")


def _ids(numbers: set[int]) -> str:
    return shorten(f"{number:03}" for number in numbers)


def _head_ct_sample(path: Path, label: int) -> Sample:
    return Sample(path, None, label, "brain", "hemorrhage" if label else GOOD)


def _read_table(path: Path) -> list[dict[str, str]]:
    """Rows by column name, without spaces around either: HeadCT's header is `id, hemorrhage`."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    names = [name.strip() for name in rows[0]] if rows else []
    return [dict(zip(names, (cell.strip() for cell in row), strict=False)) for row in rows[1:] if row]

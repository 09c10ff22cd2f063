"""Data sets that come with a table of their images: VisA and HeadCT."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from acl_runtime.data.layouts.published import name_by_categories
from acl_runtime.data.layouts.reading import Reading, inside
from acl_runtime.data.pointers import refuse_pointers
from acl_runtime.data.samples import GOOD, Sample, find_folder, list_folders, list_images
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

VISA_COLUMNS = {"object", "split", "label", "image", "mask"}
VISA_WORDS = {"split": ("train", "test"), "label": ("normal", "anomaly")}
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
    rows = _read_table(path, VISA_COLUMNS, "take the file that comes with VisA")
    for number, row in rows.items():
        _check_visa_row(path, number, row)
    there = {name for name in {row["object"] for row in rows.values()} if (root / name).is_dir()}
    if not there:
        raise InputError(f"{root}: has VisA's table and none of its categories; unpack the images there too")
    tested = [row for row in rows.values() if row["split"] == "test" and row["object"] in there]
    samples = [_visa_sample(root, row) for row in tested]
    return Reading(samples, name_by_categories(samples, among=["VisA"]))


def _refuse_visa_without_table(root: Path) -> None:
    if list_folders(root / "Data" / "Images"):
        raise InputError(
            f"{root}: is one category of VisA; name the folder that holds it and split_csv/1cls.csv"
        )
    if any(list_folders(folder / "Data" / "Images") for folder in list_folders(root)):
        raise InputError(
            f"{root}: has VisA's folders and no split_csv/1cls.csv, which says what is for testing; put there "
            f"the one that comes with VisA"
        )


def _check_visa_row(path: Path, number: int, row: Mapping[str, str]) -> None:
    """A word that is not known would make a good image a defective one, or leave it out in silence."""
    for column, words in VISA_WORDS.items():
        if row[column] not in words:
            raise InputError(
                f"{path}: row {number} has the {column} {row[column]!r}, not {' or '.join(words)}; "
                f"take the file that comes with VisA"
            )


def _visa_sample(root: Path, row: Mapping[str, str]) -> Sample:
    if row["label"] == "normal":
        return Sample(
            path=inside(root, row["image"]), mask=None, label=0, category=row["object"], defect=GOOD
        )
    mask = inside(root, row["mask"]) if row["mask"] else None
    return Sample(
        path=inside(root, row["image"]), mask=mask, label=1, category=row["object"], defect=row["label"]
    )


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
        raise InputError(
            f"{images}: has no labels.csv with a column hemorrhage beside it or above; put HeadCT's there"
        )


def _head_ct_labels(table: Path) -> dict[int, int]:
    """0 or 1 by id."""
    remedy = "take HeadCT's own table"
    labels: dict[int, int] = {}
    for number, row in _read_table(table, HEAD_CT_COLUMNS, remedy).items():
        if not (row["id"].isdecimal() and row["hemorrhage"] in ("0", "1")):
            raise InputError(f"{table}: row {number} is no id with 0 or 1; {remedy}")
        if int(row["id"]) in labels:
            raise InputError(f"{table}: row {number} has the id {row['id']} a second time; {remedy}")
        labels[int(row["id"])] = int(row["hemorrhage"])
    return labels


def _head_ct_images(root: Path) -> Path:
    inner = find_folder(root, "head_ct")
    return root if inner is None else _head_ct_images(inner)


def _is_head_ct_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:  # any table may be called labels.csv
        names = file.readline(1000).split(",")
    return {name.strip().strip('"') for name in names} >= HEAD_CT_COLUMNS


def _refuse_other_ids(images: Path, table: Path, listed: set[int], found: set[int]) -> None:
    if listed - found:
        raise InputError(f"{images}: lacks the image {_ids(listed - found)} of {table}; unpack it again")
    if found - listed:
        raise InputError(f"{table}: has no row for the image {_ids(found - listed)}; take the whole table")


def _ids(numbers: set[int]) -> str:
    return shorten(f"{number:03}" for number in numbers)


def _head_ct_sample(path: Path, label: int) -> Sample:
    return Sample(path=path, mask=None, label=label, category="brain", defect="hemorrhage" if label else GOOD)


def _read_table(path: Path, columns: set[str], remedy: str) -> dict[int, dict[str, str]]:
    """The rows, by number in the file and column name.

    Raises:
        ValueError: It is no table in UTF-8, lacks a column, or a row has more or fewer cells than the header.
    """
    rows = _read_cells(path, remedy)
    names = rows.pop(min(rows)) if rows else []
    if columns - set(names):
        raise InputError(f"{path}: has no column {shorten(columns - set(names))}; {remedy}")
    for number, cells in rows.items():
        if len(cells) != len(names):
            raise InputError(f"{path}: row {number} has {len(cells)} cells, not {len(names)}; {remedy}")
    return {number: dict(zip(names, cells, strict=True)) for number, cells in rows.items()}


def _read_cells(path: Path, remedy: str) -> dict[int, list[str]]:
    """Rows that are not empty, without spaces around the cells: HeadCT's header is `id, hemorrhage`."""
    reader = csv.reader(io.StringIO(_read_text(path, remedy), newline=""))
    rows: dict[int, list[str]] = {}
    try:
        for row in reader:
            rows[reader.line_num] = [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num} cannot be read ({error}); {remedy}") from error
    return {number: cells for number, cells in rows.items() if any(cells)}


def _read_text(path: Path, remedy: str) -> str:
    refuse_pointers(path.parent, [path])
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: row {row} is not UTF-8; save the file as UTF-8, or {remedy}") from error

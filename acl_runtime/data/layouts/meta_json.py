"""The list of images that the published code's scripts write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acl_runtime.data.layouts.published import BRAINS, POLYPS, name_by_categories, name_by_folder
from acl_runtime.data.layouts.reading import Reading, inside
from acl_runtime.data.pointers import refuse_pointers
from acl_runtime.data.samples import GOOD, Sample
from acl_runtime.files.errors import InputError

UNNAMED = "anomaly"  # a defect without a name; in VisA they have none, and its own table calls them so


def read_meta_json(root: Path) -> Reading | None:
    """The "test" split of the published code's `meta.json`, in its order.

        {"train": ..., "test": {<category>: [{"img_path", "mask_path", "cls_name", "specie_name", "anomaly"}]}}

    The published code learns from the test split and is judged on it, so this is its only split here too; of
    DAGM its script writes "Test".

    Raises:
        ValueError: It is another file, or a record has values of other types.
    """
    path = root / "meta.json"
    if not path.is_file():
        return None
    refuse_pointers(root, [path])
    try:
        splits = json.loads(path.read_bytes())
        test = splits["Test"] if "test" not in splits and "Test" in splits else splits["test"]
        records = [record for category in test.values() for record in category]
        samples = [_sample(root, record) for record in records]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is not the published code's list of images ({type(error).__name__}: {error}); "
            f"write it anew, or remove it to have the folders read"
        ) from error
    return Reading(samples, _paper_name(root, samples))


def _paper_name(root: Path, samples: list[Sample]) -> str | None:
    categories = {sample.category for sample in samples}
    if categories == {"colon"}:
        return name_by_folder(root, POLYPS)
    return name_by_folder(root, BRAINS) if categories == {"brain"} else name_by_categories(samples)


def _sample(root: Path, record: Mapping[str, Any]) -> Sample:
    _check_types(record)
    path, category = inside(root, record["img_path"]), record["cls_name"]
    if record["anomaly"] == 0:
        return Sample(path=path, mask=None, label=0, category=category, defect=GOOD)
    mask = inside(root, record["mask_path"])
    has_mask = bool(record["mask_path"]) and not mask.is_dir()  # a folder stands for "no mask" there
    return Sample(
        path=path,
        mask=mask if has_mask else None,
        label=1,
        category=category,
        defect=record.get("specie_name") or UNNAMED,
    )


def _check_types(record: Mapping[str, Any]) -> None:
    """Raise TypeError where a value would be misread, as the text "0" for an anomaly."""
    texts = {key: record[key] for key in ("img_path", "cls_name")}
    if record["anomaly"] != 0:
        texts |= {"mask_path": record["mask_path"], "specie_name": record.get("specie_name") or ""}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(f"{key} must be a text, got {value!r}")
    if record["anomaly"] not in (0, 1):
        raise TypeError(f"anomaly must be 0 or 1, got {record['anomaly']!r}")

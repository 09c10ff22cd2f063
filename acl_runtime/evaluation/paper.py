"""What the paper reports for AnomalyCLIP, to stand beside our own numbers."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


def paper_value(published: str | None, category: str, metric: str) -> float | None:
    """A number of the paper, 0 to 1, as printed: to a tenth of a percent.

    Args:
        published: The paper's name of the data set; None if it is none of the paper's.
        category: Name of its folder, or "mean" for the data set's own number. Case and what stands between the
            words do not matter: "Metal Nut" is "metal_nut".
        metric: A column of an eval row, such as "image_auroc".

    Returns:
        None where the paper has no such number, as for pixels without masks.
    """
    if published not in _load()["datasets"]:
        return None
    results = {_key(name): values for name, values in _load()["datasets"][published]["results"].items()}
    percent = results.get(_key(category), {}).get(metric)
    return None if percent is None else round(percent / 100, 3)


def paper_source(published: str | None) -> str | None:
    """Where a data set's numbers are printed, and how they were obtained; None where the paper has none."""
    document = _load()
    if published not in document["datasets"]:
        return None
    tables = document["datasets"][published]["tables"]
    plural = "s" if "," in tables else ""
    return f"{document['source']}, Table{plural} {tables}: {document['obtained']}."


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _load() -> dict[str, Any]:
    text = (
        resources.files("acl_runtime.evaluation").joinpath("paper_results.json").read_text(encoding="utf-8")
    )
    document: dict[str, Any] = json.loads(text)
    return document

"""Names of files for people: in natural order, and a few where there are many."""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key by which `2.png` comes before `10.png`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def shorten(names: Iterable[str], *, most: int = 3) -> str:
    """A few names for an error message, in natural order, and how many more there are."""
    ordered = sorted(names, key=natural_key)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def category_words(category: str) -> str:
    """A folder's name as prompts say it: "metal_nut" is "metal nut"."""
    return category.replace("_", " ")

"""Names of files for people: in natural order, and a few where there are many."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_NOT_SHOWN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])  # control, format, surrogate, private ...
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


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


def printable(text: str) -> str:
    """The text as one line that a terminal shows as it is: what is no picture of a character becomes an escape.

    A file may be called `z\\rOK  0.001`, which would overwrite its own line, or hold escape sequences, marks that turn
    the direction of reading, or bytes that are no text.
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _NOT_SHOWN else char
        for char in text
    )


def table_cell(text: str) -> str:
    """The text as a cell of a CSV file that no spreadsheet takes for a formula; on one line, as `printable`.

    Spreadsheets compute a cell that begins with one of `_FORMULA`, which may start programs or send data away; a
    quote before it makes it text (OWASP, "CSV Injection").
    """
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)

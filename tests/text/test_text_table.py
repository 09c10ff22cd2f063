"""Names of any kind stay on their line and in their column."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from acl_runtime.text.names import printable
from acl_runtime.text.text_table import left, name_width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nut 1", "nut 1"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\udcff", "\\udcff"),
        ("ネジ", "ネジ"),
    ],
)
def test_what_has_no_picture_is_written_as_its_code(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode("utf-8")


@pytest.mark.parametrize(
    "text", ["", "nut", "a name that is far too long", "とても長い製品の名前です", "a" * 20]
)
def test_a_cell_has_its_width(text: str) -> None:
    assert cell_len(left(text, 20)) == 20


def test_what_is_too_long_loses_its_middle() -> None:
    assert left("surface_scratched_left", 12) == "surfa.._left"


def test_the_column_is_as_wide_as_its_longest_name_within_limits() -> None:
    assert name_width(["nut", "ネジ釘"], least=2, most=9) == 6
    assert name_width(["nut"], least=5, most=9) == 5
    assert name_width(["n" * 30], least=5, most=9) == 9

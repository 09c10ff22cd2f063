"""Names of any kind stay on their line and in their column."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from acl_runtime.text.text_table import left, name_width, printable, probability


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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.000"),
        (1, "1.000"),
        (0.5, "0.500"),
        (0.99976, "0.99976"),
        (0.0123, "0.012"),
        (1e-12, "0.000000"),
    ],
)
def test_a_probability_close_to_its_ends_has_more_decimals(value: float, shown: str) -> None:
    assert probability(value) == shown

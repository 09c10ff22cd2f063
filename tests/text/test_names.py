"""Names come in the order in which people count, and long lists of them are shortened."""

from __future__ import annotations

import pytest

from acl_runtime.text.names import natural_key, shorten


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["10.png", "a10b2", "2.png", "b", "a2b10", "a2b9", "a"]
    ordered = ["a", "a2b9", "a2b10", "a10b2", "b", "2.png", "10.png"]
    assert sorted(names, key=natural_key) == ordered


@pytest.mark.parametrize(
    ("names", "short"),
    [
        ([], ""),
        (["b", "a"], "a, b"),
        (["10", "9", "8"], "8, 9, 10"),
        ((str(number) for number in range(12, 0, -1)), "1, 2, 3 and 9 more"),
    ],
)
def test_three_names_and_how_many_more(names: list[str], short: str) -> None:
    assert shorten(names) == short


def test_more_names_may_be_asked_for() -> None:
    assert shorten("edcba", most=4) == "a, b, c, d and 1 more"

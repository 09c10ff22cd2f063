"""Shares are written alike on the terminal and on a page."""

from __future__ import annotations

import pytest

from acl_runtime.text.percent import counted_share, percent, points, probability


def test_shares_have_one_decimal_and_what_is_undefined_a_dash() -> None:
    assert [percent(share) for share in (0, 0.12345, 1, None)] == ["0.0", "12.3", "100.0", "-"]
    assert counted_share(3, 8) == "3 (37.5 %)"
    assert counted_share(0, 0) == "-"
    assert counted_share(0, 0, dash="&ndash;") == percent(None, dash="&ndash;") == "&ndash;"


def test_a_difference_has_a_sign_and_nothing_is_never_minus() -> None:
    differences = (0.012, -0.1, -0.0004, 0.0, -0.0006, None)
    assert [points(difference) for difference in differences] == ["+1.2", "-10.0", "+0.0", "+0.0", "-0.1", ""]


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

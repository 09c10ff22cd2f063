"""A card says what was found on a frame, whether it is right, and what is known about it; text stays text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cards import draw_card
from pages import Page, texts

from acl_runtime.report.cards import color_scale, small_card

HOSTILE = "<script>alert('&\"')</script>\x1b[2J\u202e"


@pytest.mark.parametrize(
    ("score", "label", "verdict", "judgement"),
    [
        (0.9, 1, "NG", "&#10003; right"),
        (0.1, 0, "OK", "&#10003; right"),
        (0.5, 0, "NG", "&#10007; false alarm"),
        (0.4999, 1, "OK", "&#10007; missed defect"),
        (0.7, None, "NG", "? not labelled"),
    ],
)
def test_a_verdict_and_whether_it_is_right_are_said_in_words(
    score: float, label: int | None, verdict: str, judgement: str
) -> None:
    article = texts(small_card(draw_card(score=score, label=label)), "article")[0]
    assert f"{verdict}{judgement}" in article
    assert f"score {score:.3f}threshold 0.500" in article


def test_a_card_shows_its_peak_only_where_that_decides() -> None:
    card = draw_card(score=0.4)
    assert "map peak" not in small_card(card)
    article = texts(small_card(replace(card, peak_threshold=0.7)), "article")[0]
    assert "NG&#10003; right" in article
    assert "map peak 0.750threshold 0.700" in article


@pytest.mark.parametrize(
    ("label", "marked", "caption"),
    [
        (1, True, "Ground truth, outlined"),
        (1, False, "Ground truth: defective, not outlined"),
        (0, False, "Ground truth: good"),
        (None, False, "Ground truth: unknown"),
    ],
)
def test_the_caption_says_what_is_known(label: int | None, marked: bool, caption: str) -> None:
    assert texts(small_card(draw_card(label=label, marked=marked)), "figcaption")[0] == caption


def test_a_title_is_shown_as_text_and_what_would_steer_a_reader_as_its_code() -> None:
    text = small_card(draw_card(HOSTILE)) + color_scale()
    page = Page(text)
    assert page.open == []
    assert page.all("script") == []
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert any(
        "<script>alert('&\"')</script>\\x1b[2J\\u202e" in (image["alt"] or "") for image in page.all("img")
    )

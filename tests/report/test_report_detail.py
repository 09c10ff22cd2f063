"""A card of a large frame shows the place that matters at the frame's own resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acl_runtime.images.overlay import colorize
from acl_runtime.report.cards import SMALL_SIDE, small_card
from acl_runtime.report.detail import draw_detail, mark_place
from acl_runtime.report.pictures import Card, draw_panels

HEIGHT, WIDTH = 1000, 2000
RNG = np.random.default_rng(0)


def large_card(*, peak: tuple[int, int] = (700, 1500), score: float = 0.9) -> Card:
    """A frame of noise with a small and a larger defect; the map, half as fine, has its peak elsewhere."""
    frame = RNG.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[100:110, 100:110] = True
    mask[400:440, 600:640] = True
    anomaly_map = np.full((HEIGHT // 2, WIDTH // 2), 0.1, np.float32)
    anomaly_map[peak[0] // 2, peak[1] // 2] = 0.4
    return Card(
        title="wire", frame=frame, mask=mask, anomaly_map=anomaly_map, score=score, threshold=0.5, label=1
    )


@pytest.mark.parametrize(("peak", "rows", "columns"), [
    ((700, 1500), (651, 751), (1451, 1551)),
    ((0, 1999), (0, 100), (1900, 2000)),
    ((999, 0), (900, 1000), (0, 100)),
])  # fmt: skip
def test_the_detail_is_the_frame_around_the_peak_pixel_by_pixel(
    peak: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    card = large_card(peak=peak)
    detail = draw_detail(card, side=100)
    assert detail is not None
    assert (detail.rows, detail.columns, detail.is_defect) == (rows, columns, False)
    np.testing.assert_array_equal(detail.truth, card.frame[slice(*rows), slice(*columns)])
    expected = np.repeat(np.repeat(card.anomaly_map, 2, axis=0), 2, axis=1)[slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(detail.anomaly_map, colorize(expected))
    assert expected.max() == np.float32(0.4)


def test_of_a_missed_defect_the_largest_one_is_shown_with_an_outline_that_does_not_hide_it() -> None:
    card = large_card(score=0.2)
    detail = draw_detail(card, side=100)
    assert detail is not None
    assert detail.is_defect
    assert (detail.rows, detail.columns) == ((370, 470), (570, 670))
    changed = (detail.truth != card.frame[370:470, 570:670]).any(axis=2)
    assert changed[26, 26:74].all()
    assert changed[26:74, 73].all()
    assert not changed[30:70, 30:70].any()


def test_a_bent_defect_is_shown_and_not_its_empty_middle() -> None:
    card = large_card(score=0.2)
    ring = np.zeros((HEIGHT, WIDTH), np.bool_)
    ring[100:900, 500:1300] = True
    ring[110:890, 510:1290] = False
    detail = draw_detail(replace(card, mask=ring), side=100)
    assert detail is not None
    assert ring[slice(*detail.rows), slice(*detail.columns)].any()


def test_a_missed_part_without_an_outline_is_shown_around_its_peak() -> None:
    for mask in (None, np.zeros((HEIGHT, WIDTH), np.bool_)):
        detail = draw_detail(replace(large_card(score=0.2), mask=mask), side=100)
        assert detail is not None
        assert not detail.is_defect


def test_a_frame_whose_map_a_picture_shows_has_no_detail() -> None:
    card = large_card()
    assert draw_detail(card, side=500) is None
    assert draw_detail(card, side=499) is not None
    squashed = replace(card, anomaly_map=np.zeros((518, 518), np.float32))
    assert draw_detail(squashed, side=SMALL_SIDE) is None
    assert small_card(squashed).count("<img") == 2


def test_a_narrow_frame_is_shown_in_its_whole_height() -> None:
    card = large_card()
    detail = draw_detail(replace(card, frame=card.frame[:50], mask=card.mask[:50]), side=100)  # type: ignore[index]
    assert detail is not None
    assert detail.rows == (0, 50)
    assert detail.truth.shape == detail.anomaly_map.shape == (50, 100, 3)


def test_the_box_lies_where_the_detail_is() -> None:
    card = large_card()
    detail = draw_detail(card, side=100)
    assert detail is not None
    overview = draw_panels(card, side=400).truth  # a fifth of the frame
    changed = (mark_place(overview, detail, card) != overview).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[0], rows[-1]) == (pytest.approx(130, abs=2), pytest.approx(150, abs=2))
    assert (columns[0], columns[-1]) == (pytest.approx(290, abs=2), pytest.approx(310, abs=2))
    assert not changed[136:145, 296:305].any()


def test_a_card_of_a_large_frame_has_four_pictures_and_says_what_the_detail_is() -> None:
    text = small_card(large_card())
    assert text.count("<img") == 4
    assert "In the box: 300 x 300 pixels of the frame around the map&#x27;s peak" in text
    assert "around a missed defect" in small_card(large_card(score=0.2))
    assert len(text) < 300_000  # noise: the worst that a JPEG can be of

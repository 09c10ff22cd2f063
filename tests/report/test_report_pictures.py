"""Pictures of inspected frames are to scale, and the contact sheet shows them all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from cards import draw_card

from acl_runtime.images.overlay import colorize
from acl_runtime.report.contact_sheet import contact_sheet
from acl_runtime.report.pictures import Card, draw_panels


def test_maps_have_one_absolute_scale() -> None:
    card = draw_card()
    panels = draw_panels(card, side=60)
    np.testing.assert_array_equal(panels.anomaly_map[15, 15], colorize(np.full((1, 1), 0.75))[0, 0])
    np.testing.assert_array_equal(panels.anomaly_map[15, 50], colorize(np.zeros((1, 1)))[0, 0])
    np.testing.assert_array_equal(panels.overlay[15, 50], card.frame[15, 50])


def test_the_outline_runs_round_the_defect() -> None:
    panels = draw_panels(draw_card(), side=60)
    changed = (panels.truth != panels.frame).any(axis=2)
    assert changed[10, 10:20].all()
    assert not changed[:, 25:].any()
    assert not changed[14, 14]


def test_a_scratch_thinner_than_a_pixel_is_outlined() -> None:
    mask = np.zeros((3000, 3000), np.bool_)
    mask[1500, 600:2400] = True
    frame = np.zeros((3000, 3000, 3), np.uint8)
    card = Card(
        title="scratch",
        frame=frame,
        mask=mask,
        anomaly_map=np.zeros((8, 8), np.float32),
        score=0.1,
        threshold=0.5,
        label=1,
    )
    assert draw_panels(card, side=100).truth[50, 25:75].any(axis=1).all()


def test_a_card_that_cannot_be_drawn_to_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"score must lie in 0\.\.1, got 1\.2 for nut"):
        draw_card(score=1.2)
    with pytest.raises(ValueError, match=r"peak_threshold must lie in 0\.\.1, got -1 for nut"):
        replace(draw_card(), peak_threshold=-1)
    with pytest.raises(ValueError, match=r"anomaly_map must be \(height, width\), got \(1, 4, 4\) for nut"):
        Card(
            title="nut",
            frame=np.zeros((4, 4, 3), np.uint8),
            mask=None,
            anomaly_map=np.zeros((1, 4, 4), np.float32),
            score=0.1,
            threshold=0.5,
            label=0,
        )


def test_a_card_is_judged_as_the_detector_judges() -> None:
    card = draw_card(score=0.2, label=1)  # its peak is 0.75
    assert (card.peak, card.is_anomalous, card.is_right) == (0.75, False, False)
    assert card.margin == pytest.approx(math.log(0.25))  # odds of 1 : 4 against odds of 1
    either = replace(card, peak_threshold=0.5)
    assert (either.is_anomalous, either.is_right) == (True, True)
    assert either.margin == pytest.approx(math.log(3))
    assert not replace(card, peak_threshold=0.8).is_anomalous


def test_the_contact_sheet_has_a_row_for_every_card() -> None:
    one, two = contact_sheet([draw_card()]), contact_sheet([draw_card(), draw_card(label=None, marked=False)])
    assert one.dtype == np.uint8
    assert two.shape[0] - one.shape[0] == 120 + 30 + 12  # the tile, its caption, the gap
    assert two.shape[1:] == one.shape[1:]
    grey = (two == 128).all(axis=2).sum()
    assert grey > 4 * 240 * 120  # the inputs, and what is not marked on truth and overlay
    with pytest.raises(ValueError, match="cards must be at least one"):
        contact_sheet([])

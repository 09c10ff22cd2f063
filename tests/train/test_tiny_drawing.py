"""Drawn products: every one can be drawn, and the mask says what the defect changed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from acl_train.tiny import corpus
from acl_train.tiny.corpus import DEFECTS, FAMILIES, draw_dataset, draw_frame
from acl_train.tiny.products import OBJECTS, draw_product

SIZE = 64


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_a_picture_with_something_in_it(family: str) -> None:
    frame, mask = draw_frame(family, None, size=SIZE, seed=0)
    assert frame.shape == (SIZE, SIZE, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 1
    assert not mask.any()


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("family", ["weave", "marble", "nut", "zipper"])
def test_a_defect_changes_the_picture_where_its_mask_says(family: str, defect: str) -> None:
    good, _ = draw_frame(family, None, size=SIZE, seed=5)
    damaged, mask = draw_frame(family, defect, size=SIZE, seed=5)
    change = np.abs(good.astype(int) - damaged).max(axis=2)
    reach = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # the camera blurs
    assert mask.any()
    assert change[mask].mean() > 4
    assert change[~reach].max(initial=0) <= 1


@pytest.mark.parametrize("family", OBJECTS)
def test_no_defect_lies_outside_the_product(family: str) -> None:
    body = draw_product(family, corpus.stream(family, 2, 0), SIZE).body
    for defect in ("stain", "missing part", "thread"):
        _, mask = draw_frame(family, defect, size=SIZE, seed=2)
        assert not (mask & (body <= 0.5)).any()


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    first, mask = draw_frame("capsule", "stain", size=SIZE, seed=1)
    again, same_mask = draw_frame("capsule", "stain", size=SIZE, seed=1)
    other, _ = draw_frame("capsule", "stain", size=SIZE, seed=2)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(mask, same_mask)
    assert (first != other).any()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"family must be one of .*'weave'.*, got 'cheese'"):
        draw_frame("cheese", None, size=SIZE, seed=0)
    with pytest.raises(ValueError, match=r"defect must be one of .*'scratch'.*, got 'mould'"):
        draw_frame("weave", "mould", size=SIZE, seed=0)


def test_what_is_held_out_exists_and_is_not_learned_from() -> None:
    assert set(corpus.HELD_OUT_FAMILIES) | set(corpus.LEARNING_FAMILIES) <= set(FAMILIES)
    assert set(corpus.HELD_OUT_DEFECTS) | set(corpus.LEARNING_DEFECTS) <= set(DEFECTS)
    assert not set(corpus.HELD_OUT_FAMILIES) & set(corpus.LEARNING_FAMILIES)
    assert not set(corpus.HELD_OUT_DEFECTS) & set(corpus.LEARNING_DEFECTS)


def test_a_data_set_has_the_layout_of_mvtec(tmp_path: Path) -> None:
    draw_dataset(
        tmp_path, families=["nut"], defects=["hole", "stain"], good=2, defective=3, size=SIZE, seed=0
    )
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert written == [
        "nut/ground_truth/hole/000_mask.png",
        "nut/ground_truth/hole/001_mask.png",
        "nut/ground_truth/stain/000_mask.png",
        "nut/test/good/000.png",
        "nut/test/good/001.png",
        "nut/test/hole/000.png",
        "nut/test/hole/001.png",
        "nut/test/stain/000.png",
    ]
    mask = cv2.imread(str(tmp_path / "nut/ground_truth/hole/000_mask.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert mask.shape == (SIZE, SIZE)
    assert set(np.unique(mask)) == {0, 255}

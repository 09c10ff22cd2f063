"""Masks are paired by name, made as the published code makes them, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from folders import draw, draw_category
from PIL import Image

from acl_runtime.data.datasets import (
    Sample,
    check_mask_size,
    load_mask,
    load_sample,
    read_dataset,
    require_both,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "fixtures"


@pytest.mark.parametrize("fixture", ["mini_70_last", "mini_70_multi"])
def test_masks_are_those_of_the_published_code(fixture: str) -> None:
    dataset = read_dataset(GOLDEN / "mini")
    with np.load(GOLDEN / f"{fixture}.npz") as golden:
        masks, labels = golden["mask"].astype(bool), golden["label"]
    assert dataset.layout == "published"
    assert dataset.has_masks
    assert dataset.categories == ("01", "02", "03")
    assert [sample.label for sample in dataset.samples] == labels.tolist()
    for sample, mask in zip(dataset.samples, masks, strict=True):
        np.testing.assert_array_equal(load_mask(sample, height=70, width=70), mask)


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    draw_category(tmp_path)
    (tmp_path / "ground_truth" / "hole" / "10_mask.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 defective parts have no mask \(test/hole/10\.png\)"):
        read_dataset(tmp_path)


def test_a_defect_folder_without_masks_beside_one_with_masks_is_refused(tmp_path: Path) -> None:
    draw_category(tmp_path)
    draw(tmp_path / "test" / "crack" / "0.png")
    with pytest.raises(ValueError, match=r"1 of 3 defective parts have no mask"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "stray", ["ground_truth/hole/11_mask.png", "ground_truth/dent/2_mask.png", "ground_truth/2_mask.png"]
)
def test_a_mask_without_an_image_is_refused(tmp_path: Path, stray: str) -> None:
    draw_category(tmp_path)
    draw(tmp_path / stray)
    with pytest.raises(ValueError, match=r"no image belongs to 11_mask\.png|belong to no folder of images"):
        read_dataset(tmp_path)


def test_two_masks_for_one_image_are_refused(tmp_path: Path) -> None:
    draw_category(tmp_path)
    draw(tmp_path / "ground_truth" / "hole" / "2_mask.bmp")
    with pytest.raises(ValueError, match="has the same name as"):
        read_dataset(tmp_path)


def test_hidden_files_are_not_images(tmp_path: Path) -> None:
    draw_category(tmp_path)
    (tmp_path / "test" / "hole" / "._2.png").write_bytes(b"Finder")
    (tmp_path / "test" / "hole" / "Thumbs.db").write_bytes(b"Explorer")
    assert len(read_dataset(tmp_path).samples) == 4


def test_a_set_without_masks_says_so(tmp_path: Path) -> None:
    draw(tmp_path / "test" / "good" / "0.png")
    draw(tmp_path / "test" / "hole" / "0.png")
    dataset = read_dataset(tmp_path)
    assert not dataset.has_masks
    with pytest.raises(ValueError, match="is defective and has no mask"):
        load_mask(dataset.samples[1], height=8, width=8)


def test_learning_needs_good_and_defective_parts(tmp_path: Path) -> None:
    draw(tmp_path / "only_good" / "good" / "0.png")
    draw(tmp_path / "only_bad" / "bad" / "0.png")
    with pytest.raises(ValueError, match="has no defective parts"):
        require_both(read_dataset(tmp_path / "only_good"))
    with pytest.raises(ValueError, match="has no good parts"):
        require_both(read_dataset(tmp_path / "only_bad"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: is not a folder"):
        read_dataset(tmp_path / "nowhere")


def test_a_known_layout_without_images_says_which_files_it_reads(tmp_path: Path) -> None:
    (tmp_path / "test" / "good").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds no images; put bmp, gif, j2k, jfif"):
        read_dataset(tmp_path)


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    record = {"img_path": "a/0.png", "mask_path": "", "cls_name": "a", "specie_name": "good", "anomaly": 0}
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"a": [record]}}))
    with pytest.raises(FileNotFoundError, match=r"lacks a/0\.png"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("mode", "color"), [("L", 255), ("L", 1), ("RGB", 255), ("P", 1), ("1", 1), ("I;16", 9)]
)
def test_whatever_is_not_black_is_a_defect(tmp_path: Path, mode: str, color: int) -> None:
    image = draw(tmp_path / "image.png", mode="RGB")
    mask = tmp_path / "mask.png"
    picture = Image.new(mode, (12, 8))
    if mode == "P":
        picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.paste((color, 0, 0) if mode == "RGB" else color, (0, 0, 6, 4))
    picture.save(mask)
    loaded = load_mask(
        Sample(path=image, mask=mask, label=1, category="nut", defect="hole"), height=4, width=4
    )
    assert loaded.dtype == np.bool_
    np.testing.assert_array_equal(loaded, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("rows", [None, (1, 6)])
def test_masks_of_any_size_are_cut_marked_and_resized_in_this_order(
    tmp_path: Path, rows: tuple[int, int] | None
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 12), np.uint8)
    Image.fromarray(grey).save(tmp_path / "0.png")
    sample = Sample(
        path=tmp_path / "0.png", mask=tmp_path / "0.png", label=1, category="nut", defect="hole", rows=rows
    )
    cut = grey if rows is None else grey[1:6]
    black_and_white = Image.fromarray(np.where(cut > 100, 255, 0).astype(np.uint8))
    expected = np.asarray(black_and_white.resize((7, 5), Image.Resampling.BILINEAR)) > 127
    np.testing.assert_array_equal(load_mask(sample, height=5, width=7, above=100), expected)
    np.testing.assert_array_equal(load_mask(sample, height=len(cut), width=12, above=100), cut > 100)
    np.testing.assert_array_equal(load_sample(sample), cut)


def test_a_grey_level_above_all_is_refused(tmp_path: Path) -> None:
    sample = Sample(path=draw(tmp_path / "0.png"), mask=None, label=0, category="nut", defect="good")
    with pytest.raises(ValueError, match="above must be a grey level from 0 to 254, got 255"):
        load_mask(sample, height=5, width=5, above=255)


def test_the_mask_of_a_good_part_is_empty(tmp_path: Path) -> None:
    sample = Sample(path=draw(tmp_path / "0.png"), mask=None, label=0, category="nut", defect="good")
    assert load_mask(sample, height=5, width=7).shape == (5, 7)
    assert not load_mask(sample, height=5, width=7).any()


def test_a_mask_of_another_size_names_both_sizes(tmp_path: Path) -> None:
    image, mask = draw(tmp_path / "0.png"), draw(tmp_path / "0_mask.png", size=(6, 4))
    sample = Sample(path=image, mask=mask, label=1, category="nut", defect="hole")
    with pytest.raises(ValueError, match=r"is 6x4 and its image .* is 12x8"):
        check_mask_size(sample)
    with pytest.raises(ValueError, match=r"is 6x4 and its image .* is 12x8"):
        load_mask(sample, height=4, width=4)


@pytest.mark.parametrize(("kept", "problem"), [(10, "cannot be decoded"), (60, "cannot be decoded")])
def test_a_broken_mask_is_named(tmp_path: Path, kept: int, problem: str) -> None:
    image, mask = draw(tmp_path / "0.png"), draw(tmp_path / "0_mask.png")
    mask.write_bytes(mask.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"0_mask.png: {problem}"):
        load_mask(Sample(path=image, mask=mask, label=1, category="nut", defect="hole"), height=4, width=4)

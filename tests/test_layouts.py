"""Data sets are recognised by their folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import draw, draw_category

from acl_runtime.datasets import Dataset, load_mask, read_dataset
from acl_runtime.layouts import LAYOUTS

GOLDEN = Path(__file__).parent / "golden" / "fixtures"


def named(dataset: Dataset) -> list[tuple[str, str | None, int, str, str]]:
    """The samples with paths relative to the root."""
    return [
        (
            sample.path.relative_to(dataset.root).as_posix(),
            None if sample.mask is None else sample.mask.relative_to(dataset.root).as_posix(),
            sample.label,
            sample.category,
            sample.defect,
        )
        for sample in dataset.samples
    ]


def test_the_folders_of_a_published_set_say_the_same_as_its_list() -> None:
    listed = read_dataset(GOLDEN / "mini")
    folders = read_dataset(GOLDEN / "mini" / "02")
    assert folders.layout == "mvtec"
    assert set(folders.samples) == {sample for sample in listed.samples if sample.category == "02"}


def test_one_mvtec_category_is_read_in_natural_order(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    dataset = read_dataset(tmp_path / "nut")
    assert (dataset.name, dataset.layout, dataset.has_masks) == ("nut", "mvtec", True)
    assert named(dataset) == [
        ("test/good/2.png", None, 0, "nut", "good"),
        ("test/good/10.png", None, 0, "nut", "good"),
        ("test/hole/2.png", "ground_truth/hole/2_mask.png", 1, "nut", "hole"),
        ("test/hole/10.png", "ground_truth/hole/10_mask.png", 1, "nut", "hole"),
    ]


def test_all_mvtec_categories_are_read_and_train_is_not(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    draw_category(tmp_path / "screw", suffix="", good="ok")  # as BTAD names them
    draw(tmp_path / "nut" / "train" / "good" / "000.png")
    draw(tmp_path / "screw" / "ground_truth" / "ok" / "2.png", color=0)
    (tmp_path / "readme.txt").write_text("licence")
    dataset = read_dataset(tmp_path)
    assert dataset.categories == ("nut", "screw")
    assert len(dataset.samples) == 8
    assert {sample.defect for sample in dataset.samples} == {"good", "hole"}


def test_a_category_without_test_images_is_named(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    draw(tmp_path / "screw" / "train" / "good" / "000.png")
    with pytest.raises(ValueError, match="screw has train but no test images"):
        read_dataset(tmp_path)


def test_visa_is_read_from_its_table(tmp_path: Path) -> None:
    draw(tmp_path / "pcb1/Data/Images/Normal/0001.JPG")
    draw(tmp_path / "pcb1/Data/Images/Anomaly/001.JPG")
    draw(tmp_path / "pcb1/Data/Masks/Anomaly/001.png", color=3)  # a class index
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text(
        "object,split,label,image,mask\n"
        "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\n"
        "pcb1,test,normal,pcb1/Data/Images/Normal/0001.JPG,\n"
        "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/001.JPG,pcb1/Data/Masks/Anomaly/001.png\n"
    )
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "visa"
    assert named(dataset) == [
        ("pcb1/Data/Images/Normal/0001.JPG", None, 0, "pcb1", "good"),
        ("pcb1/Data/Images/Anomaly/001.JPG", "pcb1/Data/Masks/Anomaly/001.png", 1, "pcb1", "anomaly"),
    ]
    assert load_mask(dataset.samples[1], image_size=8).sum() == 16


def test_visa_reorganised_is_read_below_its_folder(tmp_path: Path) -> None:
    draw_category(tmp_path / "1cls" / "pcb1")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.categories) == ("visa-reorganised", ("pcb1",))


@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("OK", "NG"), ("normal", "anomalous")])
@pytest.mark.parametrize("masks", ["masks", "ground_truth", "masks/bad", None])
def test_a_good_and_a_bad_folder_are_a_data_set(
    tmp_path: Path, good: str, bad: str, masks: str | None
) -> None:
    draw(tmp_path / good / "1.bmp")
    draw(tmp_path / bad / "2.jpeg")
    draw(tmp_path / bad / "3.WEBP", mode="RGB")
    place = None if masks is None else tmp_path / masks.replace("bad", bad)
    if place is not None:
        draw(place / "2_mask.png")
        draw(place / "3.TIF")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.has_masks) == ("good-and-bad", masks is not None)
    assert [(sample.label, sample.defect) for sample in dataset.samples] == [(0, "good"), (1, bad), (1, bad)]
    assert dataset.samples[2].mask == (None if place is None else place / "3.TIF")


def test_a_mask_named_as_a_good_image_is_not_a_stray(tmp_path: Path) -> None:
    for path in ("good/1.png", "bad/2.png", "masks/2.png"):
        draw(tmp_path / path)
    draw(tmp_path / "masks/1.png", color=0)
    assert read_dataset(tmp_path).samples[1].mask == tmp_path / "masks/2.png"


def test_a_folder_that_is_neither_good_nor_bad_is_named(tmp_path: Path) -> None:
    draw_category(tmp_path)
    with pytest.raises(ValueError, match="hole is neither good"):
        read_dataset(tmp_path / "test")


def test_published_paths_may_start_with_the_root(tmp_path: Path) -> None:
    root = tmp_path / "colon"
    image, mask = draw(root / "images" / "1.png"), draw(root / "masks" / "1.png")
    record = {"cls_name": "colon", "specie_name": "", "anomaly": 1}
    records = [
        record | {"img_path": str(image), "mask_path": str(mask)},
        record | {"img_path": "./data/colon/images/1.png", "mask_path": "./data/colon/masks/1.png"},
    ]
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"colon": records}}))
    dataset = read_dataset(root)
    assert {(sample.path, sample.mask) for sample in dataset.samples} == {(image, mask)}
    assert dataset.samples[0].defect == "defect"


@pytest.mark.parametrize(
    "text", ["{", '{"Test": {}}', '{"test": {"a": [{"anomaly": 0}]}}', '{"test": []}', '{"test": {"a": [1]}}']
)
def test_another_json_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json: is not the published code's list .*remove it"):
        read_dataset(tmp_path)


def test_an_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    draw(tmp_path / "0.png")
    with pytest.raises(ValueError, match="laid out in no known way") as caught:
        read_dataset(tmp_path)
    assert all(layout.looks_like in str(caught.value) for layout in LAYOUTS)

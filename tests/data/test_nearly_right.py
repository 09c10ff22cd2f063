"""A tree that is nearly a known data set says in one sentence what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trees
from folders import draw, draw_category

from acl_runtime.data.datasets import load_mask, read_dataset

Draw = Callable[[Path], Path]


def remove(*paths: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in paths:
            if (root / path).is_dir():
                shutil.rmtree(root / path)
            else:
                (root / path).unlink()

    return change


def add(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        draw(root / path)

    return change


ISIC = "ISBI2016_ISIC_Part1_Test"
TN3K = "Thyroid Dataset/tn3k"
CASES: dict[str, tuple[Draw, Callable[[Path], None], str]] = {
    "mvtec untested": (
        trees.mvtec,
        remove("grid/test"),
        "grid has train but no test images; download it again",
    ),
    "visa without table": (trees.visa, remove("split_csv"), "has VisA's folders and no split_csv/1cls.csv"),
    "visa without images": (
        trees.visa,
        remove("candle", "fryum"),
        "has VisA's table and none of its categories",
    ),
    "visa with gaps": (
        trees.visa,
        remove("fryum/Data/Masks/Anomaly/000.png"),
        "lacks fryum/Data/Masks/Anomaly",
    ),
    "mpdd without a mask": (
        trees.mpdd,
        remove("tubes/ground_truth/anomalous/000_mask.png"),
        "1 of 2 defective parts have no mask (tubes/test/anomalous/000.png); add theirs",
    ),
    "dtd with a mask too many": (
        trees.dtd,
        add("Mesh_114/ground_truth/bad/3_mask.png"),
        "no image belongs to 3_mask.png; name a mask <image name>_mask",
    ),
    "sdd without a label": (trees.sdd, remove("kos01/Part1_label.bmp"), "kos01: Part1.jpg has no _label.bmp"),
    "sdd without an image": (trees.sdd, remove("kos01/Part1.jpg"), "no image belongs to Part1_label.bmp"),
    "dagm without labels": (
        trees.dagm,
        remove("DAGM_KaggleUpload/Class2/Test/Label"),
        "Class2/Test: has no folder Label, which says what is defective",
    ),
    "dagm without a test": (
        trees.dagm,
        remove("DAGM_KaggleUpload/Class2/Test"),
        "Class2: has no folder Test",
    ),
    "dagm's original archive": (
        trees.dagm,
        add("DAGM_KaggleUpload/Class1_def/1.png"),
        "take the Kaggle upload",
    ),
    "isic without truth": (
        trees.isic,
        remove(f"{ISIC}_GroundTruth"),
        f"and no {ISIC}_GroundTruth; unpack it",
    ),
    "isic with an empty truth": (
        trees.isic_nested,
        remove(f"skin/{ISIC}_GroundTruth/ISIC_0000003_segmentation.png"),
        "holds no masks for the images in",
    ),
    "isic without images": (trees.isic, remove(f"{ISIC}_Data"), f"and no {ISIC}_Data; unpack it"),
    "clinic without a mask": (
        trees.clinic_db_original,
        remove("Ground Truth/10.tif"),
        "1 of 3 defective parts have no mask (Original/10.tif)",
    ),
    "tn3k without the test part": (
        trees.tn3k,
        remove(f"{TN3K}/test-image", f"{TN3K}/test-mask"),
        "has TN3K's trainval-image and no test-image",
    ),
    "tn3k without masks": (trees.tn3k, remove(f"{TN3K}/test-mask"), "has no folder of masks beside it"),
    "head ct without table": (
        trees.head_ct,
        remove("labels.csv"),
        "has no labels.csv with a column hemorrhage",
    ),
    "head ct with less images": (
        trees.head_ct,
        remove("head_ct/head_ct/010.png"),
        "lacks the image 010 of",
    ),
    "br35h with only yes": (trees.br35h, remove("no"), "has the folder yes and no folder no; unpack both"),
    "brain mri with an empty folder": (
        trees.brain_mri,
        remove(*(f"brain_tumor_dataset/yes/{name}" for name in ("Y1.JPG", "Y2.jpg"))),
        "yes: holds no images",
    ),
    "covid without normal": (
        trees.covid_first,
        remove("COVID-19 Radiography Database/NORMAL"),
        "has no folder NORMAL with images; unpack COVID-19 again",
    ),
    "covid without covid": (
        trees.covid_current,
        remove("COVID-19_Radiography_Dataset/COVID"),
        "has no folder COVID-19 or COVID",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_nearly_right_tree_says_what_is_wrong(tmp_path: Path, case: str) -> None:
    build, change, message = CASES[case]
    root = build(tmp_path / "data")
    change(root)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_dataset(root)
    text = str(caught.value)
    assert message in text
    assert str(root) in text
    assert ";" in text  # and what to do
    assert "\n" not in text


def test_a_part_of_a_set_that_would_be_misread_is_refused(tmp_path: Path) -> None:
    trees.visa(tmp_path / "visa")
    with pytest.raises(ValueError, match=r"candle: is one category of VisA; name the folder that holds it"):
        read_dataset(tmp_path / "visa/candle")
    trees.covid_current(tmp_path / "covid")
    with pytest.raises(ValueError, match=r"COVID: is one class of COVID-19 and its masks are lungs"):
        read_dataset(tmp_path / "covid/COVID-19_Radiography_Dataset/COVID")


def test_a_polyp_set_without_masks_is_told_by_its_name(tmp_path: Path) -> None:
    trees.polyps(tmp_path / "CVC-ColonDB")
    shutil.rmtree(tmp_path / "CVC-ColonDB/masks")
    with pytest.raises(ValueError, match=r"images: has no folder of masks beside it"):
        read_dataset(tmp_path / "CVC-ColonDB")


def test_a_mask_of_another_size_names_both(tmp_path: Path) -> None:
    trees.sdd(tmp_path)
    trees.draw_rows(tmp_path / "kos01/Part0_label.bmp", [1], height=9)
    sample = read_dataset(tmp_path).samples[0]
    with pytest.raises(ValueError, match=r"Part0_label.bmp: is 10x9 and its image .* is 10x11"):
        load_mask(sample, height=5, width=10)


def test_a_folder_of_several_data_sets_asks_for_one(tmp_path: Path) -> None:
    trees.polyps(tmp_path / "Polyp_DataSet/CVC-ColonDB")
    trees.polyps(tmp_path / "Polyp_DataSet/Kvasir")
    trees.visa(tmp_path / "VisA")
    shutil.rmtree(tmp_path / "VisA/split_csv")  # nearly right is a data set too
    with pytest.raises(ValueError, match="name one of them") as caught:
        read_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds 3 data sets (Polyp_DataSet/CVC-ColonDB, Polyp_DataSet/Kvasir, VisA); "
        "name one of them"
    )


def test_a_folder_that_is_neither_good_nor_bad_is_named(tmp_path: Path) -> None:
    draw_category(tmp_path)
    with pytest.raises(ValueError, match="hole is neither good"):
        read_dataset(tmp_path / "test")


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([], "neither folders nor images"),
        (["0.png", "1.png"], "2 images"),
        (["a/0.png", "b/0.png", "0.png"], "the folders a, b and 1 image"),
    ],
)
def test_an_unknown_layout_says_what_was_found_and_what_is_known(
    tmp_path: Path, paths: list[str], found: str
) -> None:
    for path in paths:
        draw(tmp_path / path)
    with pytest.raises(ValueError, match="laid out in no known way") as caught:
        read_dataset(tmp_path)
    text = str(caught.value)
    assert f"it holds {found}; name the folder of a data set as unpacked (MVTec AD, VisA, " in text
    assert len(text) - len(str(tmp_path)) < 450

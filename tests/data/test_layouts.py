"""Every data set of the paper is read as it is downloaded, from its folders and names alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trees
from folders import draw, draw_category

from acl_runtime.data.datasets import Dataset, load_mask, load_sample, read_dataset
from acl_runtime.data.layouts.published import PAPER_SETS
from acl_runtime.data.samples import Sample

GOLDEN = Path(__file__).parents[1] / "golden" / "fixtures"
Draw = Callable[[Path], Path]


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


def stem(sample: Sample) -> str:
    """What a mask is called after its image, whatever the data set puts behind."""
    assert sample.mask is not None
    return sample.mask.stem.lower().removesuffix("_mask").removesuffix("_label").removesuffix("_segmentation")


CASES: dict[str, tuple[Draw, str | None, str, tuple[str, ...], int, int, bool]] = {
    # folder: builder, the paper's name, layout, categories, good, defective, masks
    "mvtec": (trees.mvtec, "MVTec AD", "mvtec", ("bottle", "grid"), 4, 3, True),
    "VisA": (trees.visa, "VisA", "visa", ("candle", "fryum"), 2, 2, True),
    "VisA_pytorch": (trees.visa_reorganised, "VisA", "visa-reorganised", ("candle",), 1, 1, True),
    "MPDD": (trees.mpdd, "MPDD", "mvtec", ("bracket_black", "tubes"), 2, 2, True),
    "BTAD": (trees.btad, "BTAD", "mvtec", ("01", "02", "03"), 3, 6, True),
    "KolektorSDD": (trees.sdd, "SDD", "sdd", ("electrical commutators",), 3, 3, True),
    "SDD": (trees.sdd_prepared, "SDD", "mvtec", ("electrical commutators",), 1, 1, True),
    "DAGM": (trees.dagm, "DAGM", "dagm", ("Class1", "Class2", "Class10"), 6, 3, True),
    "DTD-Synthetic": (trees.dtd, "DTD-Synthetic", "mvtec", ("Mesh_114", "Woven_001"), 2, 6, True),
    "ISIC": (trees.isic, "ISIC", "isic", ("skin",), 0, 2, True),
    "ISBI": (trees.isic_nested, "ISIC", "isic", ("skin",), 0, 1, True),
    "clinic": (trees.clinic_db_original, "CVC-ClinicDB", "clinicdb", ("colon",), 0, 3, True),
    "CVC-ClinicDB": (trees.polyps, "CVC-ClinicDB", "polyps", ("colon",), 0, 3, True),
    "CVC-ColonDB": (trees.polyps, "CVC-ColonDB", "polyps", ("colon",), 0, 3, True),
    "Kvasir": (trees.polyps, "Kvasir", "polyps", ("colon",), 0, 3, True),
    "Kvasir-SEG": (trees.kvasir_original, "Kvasir", "polyps", ("colon",), 0, 2, True),
    "EndoTect_2020_Segmentation_Test_Dataset": (trees.endo, "Endo", "polyps", ("colon",), 0, 2, True),
    "tn3k.zip": (trees.tn3k, "TN3K", "tn3k", ("thyroid",), 0, 3, True),
    "head-ct-hemorrhage": (trees.head_ct, "HeadCT", "headct", ("brain",), 2, 1, False),
    "HeadCT_anomaly_detection": (trees.head_ct_converted, "HeadCT", "mvtec", ("brain",), 2, 1, False),
    "archive": (trees.brain_mri, "BrainMRI", "yes-and-no", ("brain",), 3, 2, False),
    "Br35H": (trees.br35h, "Br35H", "yes-and-no", ("brain",), 2, 1, False),
    "covid": (trees.covid_first, "COVID-19", "covid", ("chest",), 2, 2, False),
    "covid-now": (trees.covid_current, "COVID-19", "covid", ("chest",), 1, 1, False),
    "finetuning": (trees.colon_db_and_endo, "ColonDB+Endo", "polyps", ("colon",), 1, 3, True),
}


@pytest.mark.parametrize("folder", CASES)
def test_every_data_set_of_the_paper_is_read_as_downloaded(tmp_path: Path, folder: str) -> None:
    build, published, layout, categories, good, bad, masks = CASES[folder]
    dataset = read_dataset(build(tmp_path / folder))
    assert (dataset.published, dataset.name, dataset.layout) == (published, published, layout)
    assert dataset.categories == categories
    assert [sum(sample.label == label for sample in dataset.samples) for label in (0, 1)] == [good, bad]
    assert dataset.has_masks == masks
    for sample in dataset.samples:
        frame = load_sample(sample)
        assert frame.ndim in (2, 3)
        if masks:
            mask = load_mask(sample, height=frame.shape[0], width=frame.shape[1], above=0)
            assert mask.any() == sample.label
        if sample.mask is not None:
            assert stem(sample) == sample.path.stem.lower()


def test_all_sets_of_the_paper_are_among_the_cases() -> None:
    assert {case[1] for case in CASES.values()} == set(PAPER_SETS)


@pytest.mark.parametrize("folder", sorted(CASES.keys() - {"tn3k.zip"}))  # which has two already
def test_outer_folders_of_archives_do_not_matter(tmp_path: Path, folder: str) -> None:
    build, published, layout, *_ = CASES[folder]
    draw(tmp_path / "outer/__MACOSX/test/good/._000.png")
    inner = build(tmp_path / "outer" / folder)
    dataset = read_dataset(tmp_path / "outer")
    assert (dataset.published, dataset.layout) == (published, layout)
    assert dataset.root == inner or dataset.root.is_relative_to(inner)
    assert len(dataset.samples) == len(read_dataset(inner).samples)


@pytest.mark.parametrize(
    ("build", "inner"),
    [
        (trees.visa_reorganised, "1cls"),
        (trees.mvtec, "bottle"),
        (trees.dagm, "DAGM_KaggleUpload"),
        (trees.dagm, "DAGM_KaggleUpload/Class10"),
        (trees.isic_nested, "skin"),
        (trees.tn3k, "Thyroid Dataset"),
        (trees.tn3k, "Thyroid Dataset/tn3k"),
        (trees.head_ct, "head_ct"),
        (trees.head_ct, "head_ct/head_ct"),
        (trees.head_ct_converted, "brain"),
        (trees.brain_mri, "brain_tumor_dataset"),
        (trees.covid_current, "COVID-19_Radiography_Dataset"),
    ],
)
def test_the_folder_inside_may_be_named_too(tmp_path: Path, build: Draw, inner: str) -> None:
    root = build(tmp_path / "outer")
    whole, part = read_dataset(root), read_dataset(root / inner)
    assert part.published == whole.published
    assert set(part.samples) <= set(whole.samples)


def test_the_folders_of_a_published_set_say_the_same_as_its_list() -> None:
    listed = read_dataset(GOLDEN / "mini")
    folders = read_dataset(GOLDEN / "mini" / "02")
    assert (listed.layout, folders.layout) == ("published", "mvtec")
    assert listed.published is None  # categories as in BTAD, defects not
    assert set(folders.samples) == {sample for sample in listed.samples if sample.category == "02"}


def test_one_mvtec_category_is_read_in_natural_order(tmp_path: Path) -> None:
    draw_category(tmp_path / "nut")
    dataset = read_dataset(tmp_path / "nut")
    assert (dataset.name, dataset.layout, dataset.has_masks) == ("nut", "mvtec", True)
    assert (dataset.published, dataset.notes) == (None, ())
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


def test_visa_is_read_from_its_table(tmp_path: Path) -> None:
    dataset = read_dataset(trees.visa(tmp_path))
    assert named(dataset) == [
        ("candle/Data/Images/Normal/0001.JPG", None, 0, "candle", "good"),
        ("candle/Data/Images/Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png", 1, "candle", "anomaly"),
        ("fryum/Data/Images/Normal/001.JPG", None, 0, "fryum", "good"),
        ("fryum/Data/Images/Anomaly/000.JPG", "fryum/Data/Masks/Anomaly/000.png", 1, "fryum", "anomaly"),
    ]
    assert load_mask(dataset.samples[1], height=8, width=8).sum() == 16
    shutil.rmtree(tmp_path / "candle")
    assert read_dataset(tmp_path).categories == ("fryum",)


def test_the_pictures_of_sdd_are_two_halves(tmp_path: Path) -> None:
    dataset = read_dataset(trees.sdd(tmp_path))
    halves = [(s.path.parent.name, s.path.stem, s.rows, s.label, s.mask is None) for s in dataset.samples]
    assert halves == [
        ("kos01", "Part0", (0, 5), 1, False),
        ("kos01", "Part0", (5, 11), 0, True),
        ("kos01", "Part1", (0, 5), 1, False),  # rows 4 and 5 are marked: across the cut
        ("kos01", "Part1", (5, 11), 1, False),
        ("kos02", "Part0", (0, 5), 0, True),
        ("kos02", "Part0", (5, 11), 0, True),
    ]
    assert [load_sample(sample).shape for sample in dataset.samples[:2]] == [(5, 10), (6, 10)]
    masks = [load_mask(dataset.samples[index], height=size, width=10) for index, size in ((2, 5), (3, 6))]
    assert [mask.any(axis=1).nonzero()[0].tolist() for mask in masks] == [[4], [0]]


def test_haemorrhages_are_told_by_number_and_table(tmp_path: Path) -> None:
    dataset = read_dataset(trees.head_ct(tmp_path))
    assert [(s.path.name, s.label) for s in dataset.samples] == [
        ("000.png", 1),
        ("001.png", 0),
        ("010.png", 0),
    ]
    shutil.move(tmp_path / "labels.csv", tmp_path / "head_ct/labels.csv")
    assert read_dataset(tmp_path).samples == dataset.samples


def test_images_are_not_counted_twice_and_other_folders_are_not_read(tmp_path: Path) -> None:
    brain = read_dataset(trees.brain_mri(tmp_path / "brain"))
    assert all("brain_tumor_dataset" in sample.path.parts for sample in brain.samples)
    shutil.rmtree(tmp_path / "brain/brain_tumor_dataset")
    assert (read_dataset(tmp_path / "brain").published, len(brain.samples)) == ("BrainMRI", 5)
    covid = read_dataset(trees.covid_current(tmp_path / "covid"))
    assert [sample.path.stem for sample in covid.samples] == ["Normal-1", "COVID-1"]
    assert all(sample.mask is None for sample in covid.samples)


def test_noise_of_jpeg_masks_counts_as_published_and_can_be_left_out(tmp_path: Path) -> None:
    sample = read_dataset(trees.tn3k(tmp_path)).samples[0]
    assert load_mask(sample, height=16, width=24).mean() > 0.9
    clear = load_mask(sample, height=16, width=24, above=127)
    assert clear[:7, :11].all()
    assert clear.sum() == 8 * 12


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
    assert dataset.samples[0].defect == "anomaly"

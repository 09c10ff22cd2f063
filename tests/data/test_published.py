"""The paper's data sets are told from others, and what figures on them do not say is noted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trees
from folders import draw, draw_category

from acl_runtime.data.datasets import read_dataset
from acl_runtime.data.layouts.mvtec import LIKE_MVTEC
from acl_runtime.data.layouts.published import PAPER_SETS


def test_the_paper_s_counts_add_up() -> None:
    for name, paper in PAPER_SETS.items():
        counts = [counts for counts in paper.categories.values() if counts is not None]
        if name != "SDD" and counts:
            assert tuple(np.sum(counts, axis=0)) == paper.counts
        assert paper.defects.keys() <= {"", *paper.categories}
    defects = PAPER_SETS["MVTec AD"].defects
    assert (len(defects), sum(len(names) for names in defects.values())) == (15, 73)
    industrial = ["MVTec AD", "VisA", "MPDD", "BTAD", "SDD", "DAGM", "DTD-Synthetic"]
    assert tuple(np.sum([PAPER_SETS[name].counts for name in industrial], axis=0)) == (9590, 5105)


def test_a_category_of_the_paper_with_other_defects_is_somebody_s_own(tmp_path: Path) -> None:
    draw_category(tmp_path / "screw")  # MVTec AD's screws have no "hole"
    dataset = read_dataset(tmp_path)
    assert (dataset.published, dataset.name) == (None, tmp_path.name)


@pytest.mark.parametrize(
    ("category", "defect"),
    [
        ("connector", "dent"),
        ("tubes", "crack"),
        ("metal_plate", "defect"),
        ("cashew", "hole"),
        ("candle", "defect"),
        ("electrical commutators", "crack"),
        ("Woven_001", "hole"),
        ("01", "defect"),
        ("screw", "rust"),
    ],
)
def test_parts_of_somebody_named_as_the_paper_s_are_not_the_paper_s(
    tmp_path: Path, category: str, defect: str
) -> None:
    draw(tmp_path / category / "test/good/0.png")
    dataset = read_dataset(tmp_path)
    assert (dataset.published, dataset.name, dataset.notes[1:]) == (None, tmp_path.name, ())
    draw(tmp_path / category / f"test/{defect}/0.png")
    dataset = read_dataset(tmp_path)
    assert (dataset.published, dataset.name, dataset.notes[1:]) == (None, tmp_path.name, ())


def test_every_industrial_set_in_this_tree_is_told_by_its_defects() -> None:
    mpdd = PAPER_SETS["MPDD"]
    assert mpdd.defects.keys() == mpdd.categories.keys()
    assert sum(map(len, mpdd.defects.values())) == 11
    for name in LIKE_MVTEC:
        known = PAPER_SETS[name].defects
        assert "" in known or known.keys() == PAPER_SETS[name].categories.keys()


def test_yes_and_no_of_somebody_are_not_the_paper_s(tmp_path: Path) -> None:
    for path in ("yes/cat.png", "no/dog.png"):
        draw(tmp_path / "pets" / path)
    dataset = read_dataset(tmp_path / "pets")
    assert (dataset.published, dataset.name, dataset.categories) == (None, "pets", ("pets",))


def test_images_and_masks_without_a_known_name_are_read_as_defects_and_say_so(tmp_path: Path) -> None:
    dataset = read_dataset(trees.polyps(tmp_path / "mine"))
    assert (dataset.published, dataset.categories, len(dataset.samples)) == (None, ("mine",), 3)
    assert "read as defects alone" in dataset.notes[0]


@pytest.mark.parametrize(
    ("folder", "published"),
    [
        ("CVC_ClinicDB", "CVC-ClinicDB"),
        ("kvasir-seg", "Kvasir"),
        ("Endo", "Endo"),
        ("endotect", "Endo"),
        ("vendor", None),
        ("colondb-kvasir", None),
    ],
)
def test_polyp_sets_are_told_apart_by_the_name_of_the_folder(
    tmp_path: Path, folder: str, published: str | None
) -> None:
    root = trees.polyps(tmp_path / folder)
    assert read_dataset(root).published == published
    draw(root / "good/7.png")
    assert read_dataset(root).published == ("ColonDB+Endo" if folder == "colondb-kvasir" else published)


@pytest.mark.parametrize("folder", ["ColonDB+Endo", "colondb_endo", "CVC-ColonDB"])
def test_colon_db_with_good_images_is_the_paper_s_own_set(tmp_path: Path, folder: str) -> None:
    root = trees.polyps(tmp_path / folder)
    draw(root / "good/7.png")
    assert read_dataset(root).published == "ColonDB+Endo"


def test_a_prepared_sdd_may_have_an_underscore_and_masks_named_as_images(tmp_path: Path) -> None:
    inner = trees.sdd_prepared(tmp_path) / "electrical commutators"
    (inner / "ground_truth/defect/kos01_Part5_0_mask.png").rename(
        inner / "ground_truth/defect/kos01_Part5_0.png"
    )
    inner.rename(tmp_path / "electrical_commutators")
    dataset = read_dataset(tmp_path)
    assert (dataset.published, dataset.categories) == ("SDD", ("electrical commutators",))
    assert dataset.has_masks


def test_classes_of_somebody_are_not_dagm_s(tmp_path: Path) -> None:
    for path in ("good/1.png", "bad/1.png"):
        draw(tmp_path / "Class1" / path)
    assert read_dataset(tmp_path / "Class1").layout == "good-and-bad"


def test_what_is_not_read_beside_a_data_set_is_noted(tmp_path: Path) -> None:
    draw_category(tmp_path / "data/more/nut")
    draw(tmp_path / "papers/figure.png")
    dataset = read_dataset(tmp_path)
    assert dataset.root == tmp_path / "data/more"
    assert dataset.notes == ("only data/more is read; papers beside it is no data set that is known",)


def test_a_full_set_as_in_the_paper_has_nothing_to_note(tmp_path: Path) -> None:
    rows = ["id, hemorrhage"]
    for number in range(200):
        draw(tmp_path / f"head_ct/head_ct/{number:03}.png", size=(2, 2))
        rows.append(f"{number},{int(number < 100)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert read_dataset(tmp_path).notes == ("there are no masks, so there are image-level metrics only",)


@pytest.mark.parametrize(
    ("split", "folder", "category", "published"),
    [
        ("test", "any", "skin", "ISIC"),
        ("test", "any", "candle", "VisA"),
        ("test", "any", "tubes", None),
        ("Test", "any", "Class1", "DAGM"),
        ("test", "Kvasir", "colon", "Kvasir"),
        ("test", "any", "colon", None),
        ("test", "Br35H", "brain", "Br35H"),
    ],
)
def test_published_lists_are_recognised_by_their_categories(
    tmp_path: Path, split: str, folder: str, category: str, published: str | None
) -> None:
    draw(tmp_path / folder / "a/1.png")
    record = {"img_path": "a/1.png", "mask_path": "", "cls_name": category, "specie_name": "", "anomaly": 1}
    (tmp_path / folder / "meta.json").write_text(json.dumps({split: {category: [record]}}))
    assert read_dataset(tmp_path / folder).published == published


def notes(root: Path) -> str:
    return "\n".join(read_dataset(root).notes)


def test_notes_name_what_is_missing_and_what_differs_from_the_paper(tmp_path: Path) -> None:
    said = notes(trees.mvtec(tmp_path / "mvtec"))
    assert "13 of the 15 categories of MVTec AD are missing (cable, capsule, carpet, hazelnut," in said
    assert "bottle (2 good and 2 defective, not 20 good and 63 defective), grid (" in said
    said = notes(trees.btad(tmp_path / "btad"))
    assert (
        "here BTAD has 3 good and 6 defective images, in the paper 451 good and 290 defective; diff" in said
    )
    assert "missing" not in said


def test_notes_say_what_the_layouts_cannot_give(tmp_path: Path) -> None:
    said = notes(trees.sdd(tmp_path / "sdd"))
    assert "two samples, its upper and its lower half" in said
    assert "181 of SDD's good halves and which ones is not published" in said
    assert "first" in notes(trees.covid_current(tmp_path / "now"))
    assert "this is the current release" not in notes(trees.covid_first(tmp_path / "then"))
    assert "coarse ellipses" in notes(trees.dagm(tmp_path / "dagm"))
    assert "no masks, so there are image-level metrics only" in notes(trees.br35h(tmp_path / "br35h"))
    said = notes(trees.kvasir_original(tmp_path / "Kvasir"))
    assert "no good images, so image-level metrics are undefined, as in the paper" in said
    trees.draw_rows(tmp_path / "bad/kos01/Part0.jpg", [0], height=11)
    trees.draw_rows(tmp_path / "bad/kos01/Part0_label.bmp", [4, 5], height=11)
    assert read_dataset(tmp_path / "bad").notes[-1] == (
        "there are no good images, so image-level metrics are undefined"  # the paper has 181
    )
    assert "--mask-above 127 counts only the clear ones" in said
    assert "JPEG" not in notes(trees.polyps(tmp_path / "CVC-ClinicDB"))

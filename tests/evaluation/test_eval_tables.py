"""The tables of an evaluation: the same figures on the terminal, in Markdown, in CSV and in JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trees
from evaluations import draw_dataset, judge_dataset
from rich.cells import cell_len

from acl_runtime.data.datasets import read_dataset
from acl_runtime.evaluation.change_table import change_table
from acl_runtime.evaluation.evaluate import DatasetEvaluation
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.evaluation.paper import paper_value
from acl_runtime.evaluation.rows import all_decisions, compared_rows, dataset_notes, decisions
from acl_runtime.evaluation.tables import (
    csv_table,
    json_document,
    json_text,
    markdown_table,
    shown_rows,
    terminal_table,
)

KEYS = [
    *("dataset", "category", "images", "image_auroc", "image_ap", "image_f1max"),
    *("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"),
]
MVTEC = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
    *("tile", "toothbrush", "transistor", "wood", "zipper"),
)
HOSTILE = 'a|b, "c"\n<d> & *e*'


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> DatasetEvaluation:
    return judge_dataset(draw_dataset(tmp_path_factory.mktemp("parts")))


@pytest.fixture(scope="module")
def mvtec(parts: DatasetEvaluation) -> DatasetEvaluation:
    """The same figures as if they were those of MVTec AD."""
    dataset = replace(parts.dataset, name="MVTec AD", published="MVTec AD")
    metrics = dict(zip(METRICS, (0.915, 0.9, 0.8, 1.0, 0.05, 0.1, 0.77777), strict=True))
    bottle = replace(parts.categories[0], metrics=metrics)
    return DatasetEvaluation(dataset, tuple(replace(bottle, category=category) for category in MVTEC))


def rename(evaluation: DatasetEvaluation, category: str) -> DatasetEvaluation:
    return replace(evaluation, categories=(replace(evaluation.categories[0], category=category),))


def test_decisions_count_what_the_verdicts_did(parts: DatasetEvaluation) -> None:
    nut, bolt = decisions(parts)
    assert (nut.dataset, nut.category, bolt.category) == ("parts", "nut", "bolt")
    assert (nut.good, nut.rejected, nut.defective, nut.missed) == (4, 1, 5, 1)
    everything = all_decisions(parts)
    assert (everything.good, everything.rejected, everything.defective, everything.missed) == (8, 2, 10, 2)


def test_the_paper_stands_beside_each_category_and_the_mean(mvtec: DatasetEvaluation) -> None:
    *categories, mean = compared_rows(mvtec)
    assert [row.category for row in categories] == list(MVTEC)
    for row in (*categories, mean):
        assert row.paper.keys() == {"image_auroc", "image_ap", "pixel_auroc", "aupro"}
        for metric, value in row.paper.items():
            assert value == paper_value("MVTec AD", row.category, metric)
    assert mean.difference("image_auroc") == pytest.approx(0)
    assert mean.difference("image_f1max") is None


def test_a_mean_over_other_categories_is_not_compared(mvtec: DatasetEvaluation) -> None:
    some = replace(mvtec, categories=mvtec.categories[:3])
    assert compared_rows(some)[-1].paper == {}
    assert compared_rows(some)[0].paper
    renamed = replace(mvtec, categories=(rename(mvtec, "bolt").categories[0], *mvtec.categories[1:]))
    assert compared_rows(renamed)[-1].paper == {}


def test_what_differs_from_the_paper_is_noted_once(tmp_path: Path) -> None:
    missing, other, source = dataset_notes(judge_dataset(read_dataset(trees.mvtec(tmp_path) / "grid")))
    assert missing.startswith("14 of the 15 categories of MVTec AD are missing")
    assert missing.endswith("so the mean is not the paper's")
    assert other == (
        "not as many images as in the paper: grid (2 good and 1 defective, not 21 good and 57 defective)"
    )
    assert source.startswith("Paper: AnomalyCLIP, ICLR 2024")


def test_the_notes_are_the_data_set_s_own_and_whose_numbers_the_paper_s_are(
    parts: DatasetEvaluation, mvtec: DatasetEvaluation
) -> None:
    assert dataset_notes(parts) == []
    noted = replace(mvtec, dataset=replace(mvtec.dataset, notes=("Halves of pictures.",)))
    assert dataset_notes(noted)[0] == "Halves of pictures."
    assert dataset_notes(noted)[1].startswith(
        "Paper: AnomalyCLIP, ICLR 2024, arXiv 2310.18961, Tables 1, 15-18"
    )
    assert len(dataset_notes(noted)) == 2


def test_a_metric_out_of_range_is_refused(parts: DatasetEvaluation) -> None:
    metrics = {**parts.categories[0].metrics, "aupro": 1.5}
    wrong = replace(parts, categories=(replace(parts.categories[0], metrics=metrics),))
    with pytest.raises(ValueError, match=r"metrics must be None or lie in 0..1, got 1.5"):
        compared_rows(wrong)


def test_the_terminal_shows_percent_and_marks_the_mean(parts: DatasetEvaluation) -> None:
    lines = terminal_table([parts]).splitlines()
    assert lines[0] == "parts"
    assert lines[1].split() == ["Image"] * 3 + ["Pixel"] * 3
    assert lines[2].split() == ["category", "images", *["AUROC", "AP", "F1-max"] * 2, "AUPRO"]
    for line, row in zip((lines[3], lines[4], lines[6]), parts.rows, strict=True):
        values = ["-" if row[metric] is None else f"{100 * row[metric]:.1f}" for metric in METRICS]
        assert line.split() == [row["category"], str(row["images"]), *values]
    assert set(lines[5]) == {"-"}
    assert [line.split() for line in lines[8:]] == [
        ["verdicts", "good", "rejected", "defective", "missed"],
        ["nut", "4", "1", "(25.0", "%)", "5", "1", "(20.0", "%)"],
        ["bolt", "4", "1", "(25.0", "%)", "5", "1", "(20.0", "%)"],
        ["all", "8", "2", "(25.0", "%)", "10", "2", "(20.0", "%)"],
    ]


def test_the_terminal_shows_the_paper_and_the_difference_below_a_row(mvtec: DatasetEvaluation) -> None:
    lines = terminal_table([mvtec]).splitlines()
    assert lines[3].split() == ["bottle", "9", "91.5", "90.0", "80.0", "100.0", "5.0", "10.0", "77.8"]
    paper = ["89.3", "+2.2", "97.0", "-7.0", "90.4", "+9.6", "80.9", "-3.1"]
    assert lines[4].split() == ["paper,", "difference", *paper]
    for first, second in (("91.5", "89.3"), ("90.0", "97.0"), ("100.0", "90.4"), ("77.8", "80.9")):
        assert lines[3].index(first) + len(first) == lines[4].index(second) + len(second)  # one column


def test_without_masks_a_dash_stands_for_every_pixel_metric(tmp_path: Path) -> None:
    evaluation = judge_dataset(draw_dataset(tmp_path, ("nut",), has_masks=False))
    row = terminal_table([evaluation]).splitlines()[3].split()
    assert row[5:] == ["-"] * 4
    assert csv_table([evaluation]).splitlines()[1].endswith(",,,,,,,,,4,1,5,1")


def test_without_good_parts_a_dash_stands_for_what_was_rejected(tmp_path: Path) -> None:
    evaluation = judge_dataset(draw_dataset(tmp_path, ("skin",), good=(), bad=(200, 100)))
    assert terminal_table([evaluation]).splitlines()[-1].split() == [
        "skin",
        "0",
        "-",
        "2",
        "1",
        "(50.0",
        "%)",
    ]


@pytest.mark.parametrize("category", ["x" * 90, "製品" * 30, HOSTILE, "\x1b[2J", "\udcff"])
def test_no_name_breaks_the_terminal_table(mvtec: DatasetEvaluation, category: str) -> None:
    dataset = replace(mvtec.dataset, notes=("A note " + "that is long " * 20,))
    named = replace(rename(mvtec, category), dataset=dataset)
    lines = terminal_table([named, mvtec]).splitlines()
    assert all(cell_len(line) <= 100 and line.isprintable() for line in lines)
    assert "\n".join(lines).encode("utf-8")


def test_markdown_has_the_figures_of_the_terminal(mvtec: DatasetEvaluation) -> None:
    lines = markdown_table([mvtec]).splitlines()
    assert lines[0] == "### MVTec AD"
    assert lines[2] == "| category | images | " + " | ".join(METRICS.values()) + " |"
    assert lines[4] == "| bottle | 9 | 91.5 | 90.0 | 80.0 | 100.0 | 5.0 | 10.0 | 77.8 |"
    assert lines[5] == "| *paper, difference* | | 89.3 +2.2 | 97.0 -7.0 |  | 90.4 +9.6 |  |  | 80.9 -3.1 |"
    assert any(line.startswith("| **mean** | **18** | **91.5** |") for line in lines)
    assert "| bottle | 4 | 1 (25.0 %) | 5 | 1 (20.0 %) |" in lines
    assert lines[-1].startswith("- Paper: AnomalyCLIP, ICLR 2024")


def test_markdown_takes_no_name_for_markup(parts: DatasetEvaluation) -> None:
    row = markdown_table([rename(parts, HOSTILE)]).splitlines()[4]
    assert row.startswith(r'| a\|b, "c"\\n\<d\> \& \*e\* | 9 |')


def test_csv_has_raw_values_and_the_papers_in_columns_of_their_own(mvtec: DatasetEvaluation) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table([mvtec]))))
    paper = ["paper_image_auroc", "paper_image_ap", "paper_pixel_auroc", "paper_aupro"]
    assert list(rows[0]) == [*KEYS, *paper, "good", "rejected", "defective", "missed"]
    assert len(rows) == 16
    assert rows[0]["aupro"] == "0.77777"
    assert [rows[0][name] for name in paper] == ["0.893", "0.97", "0.904", "0.809"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_no_name_is_a_formula_in_a_spreadsheet(parts: DatasetEvaluation, sign: str) -> None:
    formula = f'{sign}cmd|" /C calc"!A0'
    named = replace(rename(parts, formula), dataset=replace(parts.dataset, name=formula))
    (row, _) = csv.DictReader(io.StringIO(csv_table([named])))
    for cell in (row["dataset"], row["category"]):
        assert cell.startswith("'")
        assert cell.isprintable()
    assert float(row["image_auroc"]) > 0  # numbers stay numbers


def test_csv_has_what_the_verdicts_did_and_its_sum_in_the_row_of_the_mean(
    parts: DatasetEvaluation, mvtec: DatasetEvaluation
) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table([parts, mvtec]))))
    counts = [[int(row[name]) for name in ("good", "rejected", "defective", "missed")] for row in rows]
    assert [row["category"] for row in rows[:3]] == ["nut", "bolt", "mean"]
    assert counts[:3] == [[4, 1, 5, 1], [4, 1, 5, 1], [8, 2, 10, 2]]
    assert counts[3:] == [*[[4, 1, 5, 1]] * 15, [60, 15, 75, 15]]


def test_a_single_category_is_not_repeated_as_mean_for_people_but_is_for_programs(
    parts: DatasetEvaluation,
) -> None:
    single = rename(parts, "nut")
    assert "mean" not in terminal_table([single])
    assert "----" not in terminal_table([single])
    assert "mean" not in markdown_table([single])
    assert [row["category"] for row in json_document([single], settings={})["rows"]] == ["nut", "mean"]
    assert [line.split(",")[1] for line in csv_table([single]).splitlines()[1:]] == ["nut", "mean"]


def test_what_the_paper_has_for_a_data_set_as_a_whole_stands_beside_its_single_category(
    parts: DatasetEvaluation,
) -> None:
    single = rename(parts, "skin")
    isic = replace(single, dataset=replace(single.dataset, name="ISIC", published="ISIC"))
    category, mean = compared_rows(isic)
    assert not category.paper
    (row,) = shown_rows(isic)
    assert (row.category, row.paper) == ("skin", mean.paper)
    lines = terminal_table([isic]).splitlines()
    assert (lines[3].split()[0], lines[4].split()[:2]) == ("skin", ["paper,", "difference"])
    assert "89.7" in lines[4]


def test_csv_keeps_names_with_commas_and_quotes(parts: DatasetEvaluation) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table([rename(parts, HOSTILE)]))))
    assert [row["category"] for row in rows] == [HOSTILE.replace("\n", "\\n"), "mean"]
    assert rows[0]["paper_aupro"] == ""


def test_json_rows_have_the_contracts_keys_and_values(
    parts: DatasetEvaluation, mvtec: DatasetEvaluation
) -> None:
    document = json.loads(json_text([parts, mvtec], settings={"exact": True}))
    assert list(document) == ["rows", "paper", "decisions", "settings", "notes", "bad_frames"]
    assert all(list(row) == KEYS for row in document["rows"])
    assert document["rows"] == [*parts.rows, *mvtec.rows]
    assert document["settings"] == {"exact": True}
    assert document["decisions"][0] == {
        **{"dataset": "parts", "category": "nut"},
        **{"good": 4, "rejected": 1, "defective": 5, "missed": 1},
    }
    assert len(document["decisions"]) == 17
    assert len(document["paper"]) == 16
    assert document["paper"][-1] == {
        **{"dataset": "MVTec AD", "category": "mean"},
        **{"image_auroc": 0.915, "image_ap": 0.962, "pixel_auroc": 0.911, "aupro": 0.814},
    }
    assert {note["dataset"] for note in document["notes"]} == {"MVTec AD"}


def test_json_has_null_where_a_metric_is_undefined(tmp_path: Path) -> None:
    evaluation = judge_dataset(draw_dataset(tmp_path, ("nut",), has_masks=False))
    for row in json_document([evaluation], settings={})["rows"]:
        assert [row[metric] for metric in KEYS[6:]] == [None] * 4


def drift_rows(*values: float | None) -> list[dict[str, object]]:
    return [
        {"dataset": "parts", "category": category, "images": 9, **dict.fromkeys(METRICS, value)}
        for category, value in zip(("nut", HOSTILE, "mean"), values, strict=True)
    ]


def test_drift_shows_both_and_the_difference_to_a_ten_thousandth_of_a_point() -> None:
    table = change_table(
        drift_rows(0.9, 0.5001, None), drift_rows(0.9, 0.5, 0.7), score_difference=1.5e-6, map_difference=2e-4
    )
    lines = table.splitlines()
    assert all(cell_len(line) <= 100 for line in lines)
    assert lines[0] == "parts"
    assert lines[3] == "nut"
    assert lines[4].split() == ["bundle", *["90.000"] * 7]
    assert lines[6].split() == ["difference", *["+0.0000"] * 7]
    assert lines[10].split() == ["difference", *["+0.0100"] * 7]
    assert lines[12].split() == ["bundle", *["-"] * 7]
    assert lines[14].split() == ["difference", *["-"] * 7]
    assert lines[16] == "largest difference of a score 1.5e-06, of a map 2.0e-04"
    assert lines[17].startswith("largest difference of a metric 0.0100 percentage points (Image AUROC of a|b")


def test_drift_of_an_evaluation_with_itself_is_nothing(parts: DatasetEvaluation) -> None:
    table = change_table(parts.rows, parts.rows, score_difference=0.0, map_difference=0.0)
    assert "largest difference of a metric 0.0000 percentage points" in table.splitlines()[-1]
    values = np.array(
        [float(word) for line in table.splitlines() if "difference  " in line for word in line.split()[1:]]
    )
    assert not values.any()


def test_drift_of_other_images_is_refused() -> None:
    rows = drift_rows(0.9, 0.5, 0.7)
    with pytest.raises(ValueError, match="reference_rows must be of the same images as rows"):
        change_table(rows, rows[1:], score_difference=0.0, map_difference=0.0)

"""The paper's numbers are those that are printed, and are found by the names that folders have."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from acl_runtime.data.layouts.published import PAPER_SETS
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.evaluation.paper import paper_source, paper_value

DATASETS = json.loads(resources.files("acl_runtime.evaluation").joinpath("paper_results.json").read_text())[
    "datasets"
]
PER_CATEGORY = ("MVTec AD", "VisA", "MPDD")


@pytest.mark.parametrize(
    ("published", "category", "metric", "value"),
    [
        ("MVTec AD", "mean", "image_auroc", 0.915),
        ("MVTec AD", "mean", "aupro", 0.814),
        ("MVTec AD", "metal_nut", "pixel_auroc", 0.744),
        ("VisA", "mean", "image_ap", 0.854),
        ("VisA", "pipe_fryum", "pixel_auroc", 0.982),
        ("MPDD", "bracket_black", "aupro", 0.852),
        ("BTAD", "mean", "image_auroc", 0.883),
        ("COVID-19", "mean", "image_ap", 0.587),
        ("ISIC", "mean", "pixel_auroc", 0.897),
    ],
)
def test_a_number_is_as_printed(published: str, category: str, metric: str, value: float) -> None:
    assert paper_value(published, category, metric) == value


@pytest.mark.parametrize("category", ["metal_nut", "Metal Nut", "metal-nut", "METALNUT"])
def test_case_and_what_stands_between_words_do_not_matter(category: str) -> None:
    assert paper_value("MVTec AD", category, "image_ap") == 0.985


@pytest.mark.parametrize(
    ("published", "category", "metric"),
    [
        (None, "mean", "image_auroc"),
        ("ColonDB+Endo", "mean", "pixel_auroc"),
        ("MVTec AD", "bolt", "image_auroc"),
        ("MVTec AD", "bottle", "pixel_f1max"),
        ("ISIC", "mean", "image_auroc"),
        ("Br35H", "mean", "aupro"),
        ("BTAD", "01", "image_auroc"),
    ],
)
def test_what_the_paper_does_not_give_is_none(published: str | None, category: str, metric: str) -> None:
    assert paper_value(published, category, metric) is None


@pytest.mark.parametrize("published", PER_CATEGORY)
def test_the_mean_is_that_of_the_categories(published: str) -> None:
    results = DATASETS[published]["results"]
    assert results.keys() == {"mean", *PAPER_SETS[published].categories}
    categories = [values for name, values in results.items() if name != "mean"]
    for metric, printed in results["mean"].items():
        mean = sum(values[metric] for values in categories) / len(categories)
        assert mean == pytest.approx(printed, abs=0.06)  # both are rounded


def test_every_data_set_of_the_paper_has_a_mean() -> None:
    assert DATASETS.keys() == PAPER_SETS.keys() - {"ColonDB+Endo"}
    for name, dataset in DATASETS.items():
        has_good = any(metric.startswith("image") for metric in dataset["results"]["mean"])
        assert has_good == (PAPER_SETS[name].counts[0] > 0)
        for values in dataset["results"].values():
            assert values.keys() <= METRICS.keys()
            assert all(0 < percent <= 100 for percent in values.values())


def test_the_sizes_of_the_paper_s_test_sets_stand_in_one_place() -> None:
    assert all(dataset.keys() == {"tables", "results"} for dataset in DATASETS.values())


def test_the_source_names_the_tables_and_the_conditions() -> None:
    assert paper_source("VisA") == (
        "AnomalyCLIP, ICLR 2024, arXiv 2310.18961, Tables 1, 19-22: ViT-L/14@336 at 518 px; prompts learned on "
        "the test data of MVTec AD, and for MVTec AD itself on those of VisA."
    )
    assert "Table 2:" in (paper_source("ISIC") or "")
    assert paper_source("ColonDB+Endo") is None
    assert paper_source(None) is None

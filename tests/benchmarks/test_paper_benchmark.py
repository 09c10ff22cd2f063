"""The tables of the paper: every row can be made, learning and judging are shared, and costs are those of the graph."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_train.weights import load_weights
from benchmarks.drawn_groups import Counts, Group, draw_groups, draw_learning
from benchmarks.paper import FIRST_SEED, Accuracy, Settings
from benchmarks.paper_rows import FULL, TABLES, Row
from benchmarks.paper_speed import measure_costs
from benchmarks.paper_text import printed_words, to_text

SMALL = Counts(learning=1, good=1, known=1, held_out=1)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_read_out_and_a_way_to_learn(name: str) -> None:
    weights, (_, rows) = load_weights("tiny"), TABLES[name]
    assert len({row.label for row in rows}) == len(rows)
    settings = set()
    for row in rows:
        vision, config = row.vision(weights, None), row.config(seed=1, epochs=None)
        settings.add((row.method, vision, config, row.named))
    assert len(settings) == len(rows)  # no two rows are the same


def test_methods_are_learned_judged_and_printed(tmp_path: Path) -> None:
    weights = load_weights("tiny")
    groups = draw_groups(tmp_path / "judged", SMALL)
    learning = draw_learning(tmp_path / "learning", SMALL)
    settings = Settings(2, 1, 56, learning, [Group("drawn", groups[1].samples)])
    accuracy = Accuracy(weights, settings, tmp_path / "cache")
    rows = TABLES["4"][1]
    records = {row.label: accuracy.records(row) for row in rows}
    assert accuracy.records(rows[0]) is records[rows[0].label]  # judged once
    assert [record["seed"] for record in records["hand-written prompts"]] == [FIRST_SEED]
    assert [record["seed"] for record in records["+ four layers"]] == [FIRST_SEED, FIRST_SEED + 1]
    for found in records.values():
        assert all(0 <= record["image_auroc"] <= 1 and math.isfinite(record["aupro"]) for record in found)
    text = to_text("4", records, {}, {})
    assert "### Table 4: modules, one after the other" in text
    assert "| + four layers " in text


def test_the_papers_numbers_stand_beside_ours() -> None:
    assert printed_words("AnomalyCLIP", "VisA", ("image_auroc", "image_ap")) == "82.1 / 85.4"
    assert printed_words("AnomalyCLIP", "Endo", ("image_auroc", "aupro")).startswith("- / ")
    assert printed_words("CLIP", None, ("image_auroc",)) == "-"
    record = {
        "seed": 1,
        "group": "VisA",
        "image_auroc": 0.5,
        "image_ap": 0.5,
        "pixel_auroc": 0.5,
        "aupro": 0.5,
    }
    table = to_text("vectors", {row.label: [record] for row in TABLES["vectors"][1]}, {"VisA": "VisA"}, {})
    assert "printed in the paper" in table
    assert "82.1 / 85.4" in table


def test_costs_are_of_graphs_that_equal_their_reference(tmp_path: Path) -> None:
    rows = (Row("CLIP", "clip"), Row("VAND", "vand"), Row("WinCLIP", "winclip"), FULL)
    costs = measure_costs(load_weights("tiny"), rows, 56, tmp_path, seconds=0)
    assert list(costs) == ["CLIP", "VAND", "WinCLIP", FULL.label]
    assert costs["CLIP"].reference_ratio == costs["CLIP"].exported_ratio == 1
    for cost in costs.values():
        assert cost.speed_up > 0
        assert cost.image_logits < 5e-5
        assert cost.anomaly_map < 1e-5
    flop = {label: cost.giga_flop for label, cost in costs.items()}
    assert flop["WinCLIP"] > flop[FULL.label] > flop["CLIP"]  # type: ignore[operator]
    assert "the paper's" in to_text(
        "8", {}, {}, dict.fromkeys((row.label for row in TABLES["8"][1]), costs["CLIP"])
    )

"""The tables of the paper: every row can be made, learning and judging are shared, and costs are those of the graph."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MINI

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.data.datasets import Sample, read_dataset
from acl_train.weights import load_weights
from benchmarks.drawn_groups import Counts, Group, draw_groups, draw_learning
from benchmarks.paper import FIRST_SEED, Accuracy, Settings, judge_samples
from benchmarks.paper_rows import FULL, TABLES, Row
from benchmarks.paper_speed import measure_costs
from benchmarks.paper_text import METHODS, PRINTED, printed_words, to_text

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
    image = ("image_auroc", "image_ap")
    assert printed_words("1", "AnomalyCLIP", "VisA", image) == "82.1 / 85.4"
    assert printed_words("vectors", "AnomalyCLIP", "VisA", image) == "82.1 / 85.4"
    assert printed_words("1", "AnomalyCLIP", "HeadCT", image) == "93.4 / 91.6"  # of table 2
    assert printed_words("14", "damaged", "HeadCT", image) == "93.4 / 91.6"
    assert printed_words("3", "VAND", "HeadCT", image) == "89.1 / 89.4"
    assert printed_words("7", "without T4 (several layers)", "VisA", image) == "81.9 / 85.2"
    assert printed_words("1", "AnomalyCLIP", "Endo", ("image_auroc", "aupro")).startswith("- / ")
    assert printed_words("1", "CLIP", None, ("image_auroc",)) == "-"
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


def test_rows_are_called_as_the_paper_prints_them() -> None:
    tables = json.loads(PRINTED.read_text(encoding="utf-8"))["tables"]
    for name, (_, rows) in TABLES.items():
        places = [name] if name in tables and name not in METHODS else METHODS
        printed = {row for place in places for found in tables[place].values() for row in found}
        for row in rows:
            known = printed | {
                "AnomalyCLIP without DPAM",
                "CLIP-AC",
            }  # whose speed, or accuracy, is not printed
            assert row.printed is None or row.printed in known, f"{name}: {row.printed}"


def test_a_medical_set_without_masks_has_the_metrics_that_it_has() -> None:
    samples = [replace(sample, mask=None) for sample in read_dataset(MINI).samples]

    def judge(given: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([float(sample.label) for sample in given]), np.zeros((len(given), 8, 8), np.float32)

    found = judge_samples(judge, Group("HeadCT", tuple(samples)), 8)
    assert found["image_auroc"] == 1
    assert math.isnan(found["pixel_auroc"])


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

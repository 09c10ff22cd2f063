"""Which pictures the demonstration shows first: chosen by a rule that its page states, misses among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evaluations import HALF, draw_dataset, judge_by

from acl_export.demo_report import FOUND, MISSED, choose_sheet, highlights, typical
from acl_runtime.data.datasets import Dataset, load_sample
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import evaluate_dataset
from acl_runtime.report.evaluation import Judge, write_eval_report
from acl_runtime.scoring.rule import Rule

BAD = (
    250,
    110,
    140,
    200,
    60,
    100,
    220,
)  # grey levels: at half of white 110, 60 and 100 are missed, four are found


def judged(folder: Path) -> tuple[Dataset, list[Verdict]]:
    dataset = draw_dataset(folder, ("nut", "bolt"), bad=BAD)
    judge = judge_by(HALF)
    return dataset, [judge(load_sample(sample)) for sample in dataset.samples]


def levels(dataset: Dataset, indices: tuple[int, ...] | list[int]) -> list[tuple[str, int]]:
    """Product and grey level of the samples."""
    return [(dataset.samples[i].category, int(np.max(load_sample(dataset.samples[i])))) for i in indices]


def test_a_typical_part_is_the_middle_one_of_its_product(tmp_path: Path) -> None:
    dataset, verdicts = judged(tmp_path)
    found, missed = (typical(dataset.samples, verdicts, found=which) for which in (True, False))
    assert levels(dataset, found) == [
        ("nut", 200),
        ("bolt", 200),
    ]  # of 140, 200, 220 and 250 the one less clear
    assert levels(dataset, missed) == [("nut", 100), ("bolt", 100)]  # of 110, 100 and 60


def test_the_product_with_most_finds_or_misses_comes_first(tmp_path: Path) -> None:
    dataset, verdicts = judged(tmp_path)
    kept = [  # of the nuts only the first defective part, one that is found
        index for index, sample in enumerate(dataset.samples) if sample.category == "bolt" or index < 5
    ]
    samples, fewer = [dataset.samples[index] for index in kept], [verdicts[index] for index in kept]
    assert [samples[index].category for index in typical(samples, fewer, found=True)] == ["bolt", "nut"]
    assert [samples[index].category for index in typical(samples, fewer, found=False)] == ["bolt"]


def test_the_sheet_shows_finds_then_a_miss_then_a_good_part(tmp_path: Path) -> None:
    dataset, verdicts = judged(tmp_path)
    shown = [dataset.samples[index] for index in choose_sheet(dataset.samples, verdicts)]
    assert [(sample.category, sample.label) for sample in shown] == [
        ("nut", 1),
        ("bolt", 1),
        ("nut", 1),
        ("nut", 0),
    ]


def test_the_page_begins_with_finds_and_shows_misses_further_down_each_with_its_rule(tmp_path: Path) -> None:
    dataset, verdicts = judged(tmp_path / "data")
    strict = Rule(0.9, None)
    own = {"bolt": Judge(judge_by(strict), strict)}
    groups = highlights(dataset.samples, verdicts)
    assert [(group.title, group.total) for group in groups] == [(FOUND, 8), (MISSED, 6)]
    page = write_eval_report(
        tmp_path / "page",
        [evaluate_dataset(dataset, judge_by(HALF))],
        judge_by(HALF),
        rule=HALF,
        facts=[],
        notes=[],
        own=own,
        highlights=groups,
    ).read_text(encoding="utf-8")
    places = [page.index(text) for text in (f">{FOUND}<", 'id="d0"', f">{MISSED}<", 'id="d0-c0"')]
    assert places == sorted(places)
    assert "2 of 8: of each product the defective part in the middle of those found" in page
    assert "2 of 6: of each product the defective part in the middle of those missed" in page
    assert "Each product has thresholds of its own" in page
    nut, bolt = page.index('id="d0-c0"'), page.index('id="d0-c1"')
    assert "NG from score 0.5" in page[nut:bolt]
    assert "NG from score 0.9" in page[bolt:]

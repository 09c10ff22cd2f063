"""The benchmarks measure what they say: both sides compute the same, on cases that take seconds."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.data.datasets import load_mask
from acl_train.config import LearnConfig, Recipe
from acl_train.tiny import tower
from acl_train.tiny.corpus import draw_dataset
from acl_train.weights import Weights
from benchmarks import cameras, feature_cache, map_operator
from benchmarks.drawn_groups import MEANINGS, Counts, draw_groups, draw_learning, thin
from benchmarks.judges import as_ranks, at_threshold, color_contrast, judge_by_color
from benchmarks.learning import METRICS, Plan, measure, random_clip, read_out, to_tables, without_nan
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table
from benchmarks.timing import in_turn

SMALL = Counts(learning=1, good=1, known=1, held_out=1)


@pytest.mark.parametrize("case", [map_operator.Case(70, 5, 2), map_operator.Case(56, 7, 1)])
def test_the_map_operator_is_compared_with_equal_maps(case: map_operator.Case) -> None:
    measured = map_operator.measure(case, threads=1, turns=2)
    assert measured.worst_difference < 3e-6
    assert measured.pairs.reference.shape == measured.pairs.ours.shape == (2, 2)
    assert map_operator.to_record(measured)["ratio"] == measured.pairs.ratio
    assert f"{case.image_size} px from {case.grid}²" in map_operator.to_table([measured])


def test_cosines_have_the_log_odds_they_were_made_from() -> None:
    logits = map_operator.draw_logits(map_operator.Case(70, 5, 2), seed=0)[0]
    normal, anomalous = map_operator.as_cosines(logits).numpy().transpose(3, 0, 1, 2) / 0.07
    np.testing.assert_allclose((anomalous - normal).reshape(logits.shape), logits, rtol=1e-5)


def test_an_fp32_cache_changes_no_loss_and_an_fp16_one_hardly(weights: Weights, tmp_path: Path) -> None:
    samples = feature_cache.draw_samples(tmp_path / "drawn", images=8)
    config = LearnConfig(epochs=3, batch_size=8)
    compared = feature_cache.compare(weights, samples, config, image_size=70, cache=tmp_path / "cache")
    assert len(compared.uncached.losses) == 3
    assert compared.single.losses == compared.uncached.losses
    assert compared.half.losses == pytest.approx(compared.uncached.losses, abs=1e-3)
    assert compared.difference(compared.single) == 0 < compared.difference(compared.half)
    assert len(compared.encodings) == feature_cache.ENCODINGS
    assert "0 (exactly)" in feature_cache.to_table([compared])


def untrained() -> Weights:
    """The embedded backbone's architecture before its pre-training."""
    clip = tower.build_clip(64)
    tower.initialise(clip)
    state = {name: tensor.detach() for name, tensor in clip.state_dict().items()}
    return Weights(state, clip.architecture, "tiny", "untrained", "untrained")


def test_every_way_is_judged_on_every_group(tmp_path: Path) -> None:
    plan = Plan((Recipe.released,), seeds=1, epochs=1, image_size=32, counts=SMALL, most=8)
    draw_dataset(tmp_path / "mine", families=["egg"], defects=["hole"], good=2, defective=2, size=64, seed=0)
    records = measure(untrained(), plan, [tmp_path / "mine"], drawn=tmp_path / "d", cache=tmp_path / "c")
    assert {record["group"] for record in records} == {*MEANINGS, "mine"}
    assert len({record["method"] for record in records}) == 6
    assert len(records) == 6 * 5
    json.dumps([without_nan(record) for record in records], allow_nan=False)
    assert all(0 <= record["image_auroc"] <= 1 and 0 <= record["pixel_auroc"] <= 1 for record in records)
    assert to_tables(records).count("| learned prompts") == 2 * (len(METRICS) + 1)


def test_groups_hold_what_their_names_say(tmp_path: Path) -> None:
    groups = {group.name: group for group in draw_groups(tmp_path, SMALL)}
    defects = {name: {sample.defect for sample in group.samples} for name, group in groups.items()}
    learned = {(sample.category, sample.defect) for sample in draw_learning(tmp_path / "learning", SMALL)}
    assert not {category for category, _ in learned} & {
        c for group in groups.values() for c in group.categories
    }
    assert groups["a"].categories == groups["c"].categories
    assert groups["b"].categories == groups["d"].categories
    assert not set(groups["a"].categories) & set(groups["b"].categories)
    assert (defects["a"] | defects["b"]) & (defects["c"] | defects["d"]) == {"good"}
    assert not {defect for _, defect in learned} & (defects["c"] | defects["d"]) - {"good"}
    assert len(defects["a"]) > 10  # families begin with different ones


def test_random_networks_differ_by_seed_only() -> None:
    weights = untrained()
    vision = read_out(weights, Plan(image_size=64))
    names = [random_clip(weights, vision, seed)[1] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_color_contrast_finds_a_spot(tmp_path: Path) -> None:
    image = np.full((64, 64, 3), (200, 180, 20), np.uint8)
    image[20:30, 40:50] = 0
    contrast = color_contrast(image)
    assert contrast.shape == (64, 64)
    row, column = np.unravel_index(contrast.argmax(), contrast.shape)
    assert {int(row), int(column)} <= {24, 25, 44, 45}
    assert contrast[50:, :20].max() == 0
    samples = draw_learning(tmp_path, SMALL)[:2]
    scores, maps = judge_by_color(32)(samples)
    assert maps.shape == (2, 32, 32) == (len(scores), *load_mask(samples[0], height=32, width=32).shape)
    assert (scores <= maps.max(axis=(1, 2)) + 1e-6).all()


def test_ranks_keep_the_order_and_the_ties() -> None:
    ranks = as_ranks(np.array([[[0.1, 0.9], [0.1, 0.2]]], np.float32))
    np.testing.assert_array_equal(ranks, [[[0.5, 1.0], [0.5, 0.75]]])


def test_threshold_metrics_by_hand() -> None:
    scores, labels = np.array([0.5, 0.49, 0.9, 0.1]), np.array([1, 1, 0, 0])
    assert at_threshold(scores, labels) == {"f1_at_half": 0.5, "accuracy_at_half": 0.5}
    assert at_threshold(np.zeros(2), np.zeros(2)) == {"f1_at_half": 0.0, "accuracy_at_half": 1.0}


def test_thinning_is_even(tmp_path: Path) -> None:
    samples = draw_learning(tmp_path, SMALL)
    assert thin(samples, 1000) == tuple(samples)
    assert thin(samples, 4) == tuple(samples[len(samples) * index // 4] for index in range(4))


def test_blocks_alternate_and_cover_every_turn() -> None:
    calls: list[tuple[str, int]] = []

    def record(name: str, turn: int) -> None:
        calls.append((name, turn))
        time.sleep(0.02)

    pairs = in_turn(partial(record, "reference"), partial(record, "ours"), turns=5, block=2)
    assert pairs.reference.shape == pairs.ours.shape == (5, 2)
    order = [name for index, (name, _) in enumerate(calls) if index == 0 or calls[index - 1][0] != name]
    assert order == ["ours", "reference", "ours", "reference"]  # blocks two and three begin as the last ended
    assert {turn for name, turn in calls if name == "ours"} == set(range(5))


def test_tables_are_markdown() -> None:
    assert markdown_table(["a", "bb"], [["x", "1"]]) == "| a | bb |\n| - | -: |\n| x |  1 |"


def test_lines_that_a_camera_loses_are_counted() -> None:
    row = cameras.read("drawn:1?width=64&height=8&rate=80000&loss=0.3&buffers=60000", [], 0.5)
    assert row.lost / (row.lost + 0.5 * row.lines_per_s) == pytest.approx(0.3, abs=0.05)
    assert 0 < row.core < 2
    assert cameras.correct(np.uint8, 64, 0.02).lines_per_s > 10_000


def test_the_machine_is_named() -> None:
    machine = describe_machine()
    assert all(machine.values())
    assert f"torch {machine['torch']}" in machine_line(machine)

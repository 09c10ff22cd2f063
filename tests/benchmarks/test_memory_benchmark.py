"""The benchmarks of the memory judge what was not remembered, with the runtime's own arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from acl_runtime.calibration.memory_choice import CANDIDATES
from acl_runtime.data.samples import Sample
from acl_runtime.scoring.memory_kinds import kinds_text
from acl_train.clip import CLIP
from acl_train.config import Recipe
from acl_train.tiny import tower
from acl_train.tiny.corpus import draw_dataset
from benchmarks import memory_kinds
from benchmarks.drawn_groups import Counts
from benchmarks.judges import Tower
from benchmarks.learning import look_at
from benchmarks.memory import (
    MEMORY,
    METHODS,
    METRICS,
    SCALED,
    TEXT,
    answer,
    draw_cases,
    make_memory,
    measure,
    read_case,
    see,
    to_tables,
)
from benchmarks.memory_calibration import HEADER, split, to_row

SIZE = 32


@pytest.fixture(scope="module")
def clip() -> CLIP:
    torch.manual_seed(0)
    model = tower.build_clip(SIZE)
    tower.initialise(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def texts() -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(2, 128, generator=torch.Generator().manual_seed(0)), dim=1
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root, families=["egg"], defects=["hole"], good=40, defective=6, size=64, seed=0)
    return root / "egg"


def encode(clip: CLIP, samples: Sequence[Sample], cache: Path) -> Tower:
    return look_at(clip, "untrained", list(samples), cache)


def test_what_is_remembered_is_not_judged(data: Path, tmp_path: Path) -> None:
    case = read_case(data, most=100)
    (pool,) = {tuple(pool) for pool in case.pools.values()}
    assert (len(pool), len(case.group.samples)) == (20, 26)
    assert not set(pool) & set(case.group.samples)
    for drawn in draw_cases(tmp_path, Counts(1, 1, 1, 1), 3):
        assert drawn.group.name in {"b", "d"}
        judged = {sample.path.read_bytes() for sample in drawn.group.samples}
        assert not judged & {sample.path.read_bytes() for pool in drawn.pools.values() for sample in pool}
        assert set(drawn.group.categories) <= set(drawn.pools)


def test_every_method_is_measured(clip: CLIP, texts: torch.Tensor, data: Path, tmp_path: Path) -> None:
    case = read_case(data, most=100)
    looked = encode(clip, [*case.group.samples, *case.pools["egg"]], tmp_path)
    records = list(measure(looked, texts, Recipe.paper, [case], [2, 4], 2))
    assert len(records) == 1 + 2 * 2 * 3
    assert {record["method"] for record in records} == set(METHODS)
    assert all(0 <= record[name] <= 1 for record in records for name in METRICS)
    assert to_tables(records).count("| text and memory  ") == 2 * len(METRICS)


def test_every_kind_and_frames_that_nobody_looked_at_are_measured(
    clip: CLIP, texts: torch.Tensor, data: Path, tmp_path: Path
) -> None:
    case = read_case(data, most=100)
    looked = encode(clip, [*case.group.samples, *case.pools["egg"]], tmp_path)
    records = list(memory_kinds.measure(looked, texts, Recipe.paper, [case], [1, 4], 1))
    kinds = [kinds_text(kinds) for kinds in CANDIDATES]
    with_place = {kind for kind in kinds if "place" in kind}
    of_one, of_four = ({r["method"] for r in records if r["images"] == count} for count in (1, 4))
    assert of_four == {*kinds, memory_kinds.CHOSEN}
    assert of_one == of_four - with_place
    assert {r["images"] for r in records if r["method"] == memory_kinds.UNLABELLED} == {memory_kinds.FRAMES}
    assert all(0 <= record[name] <= 1 for record in records for name in memory_kinds.METRICS)
    taken, _ = memory_kinds.fit_unlabelled(
        looked, texts, Recipe.paper, case.group.samples, case.pools["egg"], 0
    )
    assert sum(taken) == 2
    assert all(sample.label for sample, is_taken in zip(case.group.samples, taken, strict=True) if is_taken)
    assert memory_kinds.to_tables(records).count("| as chosen ") == 2 * len(memory_kinds.METRICS)


def test_a_memory_that_says_nothing_leaves_the_text(
    clip: CLIP, texts: torch.Tensor, data: Path, tmp_path: Path
) -> None:
    case = read_case(data, most=100)
    looked = encode(clip, [*case.group.samples, *case.pools["egg"]], tmp_path)
    good, seen = (see(looked, each, texts, Recipe.paper) for each in (case.pools["egg"], case.group.samples))
    memory = make_memory(good, seed=0)
    same = answer(seen, None, MEMORY, SIZE), answer(seen, memory, TEXT, SIZE)
    np.testing.assert_array_equal(same[0][1], same[1][1])
    (scores, maps), (joint_scores, joint) = (
        answer(seen, memory, method, SIZE) for method in (SCALED, MEMORY)
    )
    assert np.abs(maps - joint).max() > 0.01
    assert np.corrcoef(maps.ravel(), joint.ravel())[0, 1] > 0.3
    assert scores.shape == joint_scores.shape == (26,)


def test_both_calibrate_on_the_same_images(
    clip: CLIP, texts: torch.Tensor, data: Path, tmp_path: Path
) -> None:
    case = read_case(data, most=100)
    samples = [*case.group.samples, *case.pools["egg"]]
    looked = encode(clip, samples, tmp_path)
    alone, both = (
        [split(looked, texts, Recipe.paper, samples, remembered, seed) for seed in range(2)]
        for remembered in (0, 4)
    )
    assert (alone[0].calibrating, both[0].calibrating) == (28, 24)
    assert both[0].promised > alone[0].promised
    assert all(0 <= share <= 1 for each in (*alone, *both) for share in (each.overkill, each.escapes))
    assert len(to_row("egg", Recipe.paper, 4, both, alone)) == len(HEADER)

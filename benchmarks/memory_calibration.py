"""What a memory leaves of the defects that pass, at the same promise. `python -m benchmarks.memory_calibration`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from acl_runtime.calibration.conformal import LEAST_IMAGES, Demand
from acl_runtime.calibration.thresholds import find_thresholds
from acl_runtime.data.datasets import Sample, read_dataset
from acl_runtime.data.samples import good_samples
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_kinds import Kind, parse_kinds
from acl_train.config import LearnConfig, Recipe
from acl_train.weights import build_clip, load_weights
from benchmarks.calibration import CALIBRATING, count_anomalous, percent, spread
from benchmarks.drawn_groups import Counts, draw_learning
from benchmarks.judges import Tower, learn_texts
from benchmarks.learning import FIRST_SEED, Plan, look_at, read_out
from benchmarks.machine import describe_machine, machine_line
from benchmarks.memory import MEMORY, TEXT, answer, make_memory, see
from benchmarks.tables import markdown_table, write_json

DEMAND = Demand(0.05)
HEADER = (
    "set",
    "prompts",
    "remembered",
    "calibrate",
    "promised",
    "overkill",
    "escapes",
    "escapes, difference",
)


@dataclass(frozen=True)
class Split:
    """One calibration, tried on images that it has not seen."""

    calibrating: int  # images, those that set the scales among them
    promised: float
    overkill: float  # share of the good images that were left
    escapes: float  # share of all defective images


def split(
    tower: Tower,
    texts: Tensor,
    recipe: Recipe,
    samples: Sequence[Sample],
    remembered: int,
    seed: int,
    kinds: tuple[Kind, ...] = ("patches",),
) -> Split:
    """Remember some of the good images that are given, calibrate on the others, judge those that are left."""
    good = [sample for sample in samples if sample.label == 0]
    order = np.random.default_rng([1, seed]).permutation(len(good))
    count = round(CALIBRATING * len(good))
    groups = order[:remembered], order[remembered:count], order[count:]
    known, given, left = ([good[row] for row in rows] for rows in groups)
    memory = make_memory(see(tower, known, texts, recipe), seed=seed, kinds=kinds) if known else None
    rows = judge(tower, texts, recipe, given, memory)
    found = find_thresholds(rows[:, 0], rows[:, 1], DEMAND, seed=seed)
    bad = judge(tower, texts, recipe, [sample for sample in samples if sample.label], memory)
    rejected = count_anomalous(found.rule, judge(tower, texts, recipe, left, memory))
    escapes = 1 - count_anomalous(found.rule, bad) / len(bad)
    return Split(len(given), found.promised_overkill, rejected / len(left), escapes)


def judge(
    tower: Tower, texts: Tensor, recipe: Recipe, samples: Sequence[Sample], memory: Memory | None
) -> np.ndarray:
    """(N, 2) float64 rows of score and peak."""
    size = tower.clip.visual.config.image_size
    scores, maps = answer(see(tower, samples, texts, recipe), memory, MEMORY if memory else TEXT, size)
    return np.stack([scores, maps.max(axis=(1, 2))], axis=1).astype(np.float64)


def measure(
    tower: Tower,
    texts: Tensor,
    recipe: Recipe,
    name: str,
    samples: Sequence[Sample],
    counts: Sequence[int],
    splits: int,
    kinds: tuple[Kind, ...],
) -> Iterator[tuple[str, Recipe, int, list[Split]]]:
    """All splits for each number of remembered images that leaves enough to calibrate on."""
    given = round(CALIBRATING * sum(sample.label == 0 for sample in samples))
    for remembered in (count for count in counts if given - count >= LEAST_IMAGES):
        yield (
            name,
            recipe,
            remembered,
            [split(tower, texts, recipe, samples, remembered, seed, kinds) for seed in range(splits)],
        )


def to_row(
    name: str, recipe: Recipe, remembered: int, splits: Sequence[Split], text: Sequence[Split]
) -> list[str]:
    """A line of the table; the difference is split by split from those of the text alone."""
    differences = [each.escapes - other.escapes for each, other in zip(splits, text, strict=True)]
    return [
        name,
        recipe.value,
        str(remembered or "-"),
        str(splits[0].calibrating),
        percent(splits[0].promised),
        percent(float(np.mean([each.overkill for each in splits]))),
        spread([each.escapes for each in splits]),
        _signed(differences) if remembered else "-",
    ]


def _signed(shares: Sequence[float]) -> str:
    """As `spread`, of numbers that may be negative."""
    low, median, high = 100 * np.quantile(shares, [0.1, 0.5, 0.9])
    return f"{median:.0f} % ({low:.0f} to {high:.0f})"


def main(
    data: Annotated[list[Path], typer.Option(help="Data set in MVTec AD's layout; may be repeated.")],
    recipe: Annotated[list[Recipe] | None, typer.Option(help="To learn with; may be repeated.")] = None,
    images: Annotated[str, typer.Option(metavar="A,B", help="Good images to remember.")] = "2,4,8",
    kind: Annotated[str, typer.Option(help="Kind of memory, as of acl calibrate.")] = "patches",
    splits: Annotated[int, typer.Option(min=1, help="Random splits of the good images.")] = 20,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the towers' outputs here for the next run.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Give the same good images to the text alone and to text and memory, and count what passes."""
    torch.set_num_threads(1)
    machine, weights = describe_machine(), load_weights("tiny")
    kinds = parse_kinds(kind)
    counts = [0, *(int(count) for count in images.split(","))]
    with TemporaryDirectory() as folder:
        learning = draw_learning(Path(folder) / "learning", Counts())
        sets = {
            root.name: [
                *read_dataset(root).samples,
                *good_samples(root / "train" / "good", category=root.name),
            ]
            for root in data
        }
        samples = list(dict.fromkeys([*learning, *(sample for each in sets.values() for sample in each)]))
        clip = build_clip(weights, read_out(weights, Plan()))
        tower = look_at(clip, weights.sha256, samples, cache or Path(folder) / "cache")
        rows, records = [], []
        for each in recipe or list(Recipe):
            texts = learn_texts(tower, learning, LearnConfig(recipe=each, seed=FIRST_SEED))
            for name, judged in sets.items():
                cases = list(measure(tower, texts, each, name, judged, counts, splits, kinds))
                rows += [to_row(*case, cases[0][3]) for case in cases]
                records += [
                    {
                        "set": case[0],
                        "recipe": case[1].value,
                        "remembered": case[2],
                        "splits": [vars(s) for s in case[3]],
                    }
                    for case in cases
                ]
    typer.echo(f"{machine_line(machine)}\n\n{markdown_table(HEADER, rows)}")
    write_json(json, {"machine": machine, "splits": splits, "cases": records})


if __name__ == "__main__":
    typer.run(main)

"""What each kind of memory of good parts is worth, and the one that is chosen. `python -m benchmarks.memory_kinds`"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from acl_runtime.calibration.drawn_defects import draw_defects
from acl_runtime.calibration.memory_choice import CANDIDATES, Trial, choose_kinds, measure_trials, possible
from acl_runtime.calibration.memory_fit import Fitted, Shown, fit_memory
from acl_runtime.calibration.memory_images import LEAST_COMPARED, OF_ONE
from acl_runtime.calibration.memory_trim import trim
from acl_runtime.data.datasets import Sample, load_mask
from acl_runtime.data.samples import good_samples
from acl_runtime.evaluation.metrics import evaluate
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.memory import Memory, memory_maps, patch_evidence, share_peaks
from acl_runtime.scoring.memory_kinds import kinds_text
from acl_train.config import BLUR_SIGMA, TEMPERATURE, TINY_LEARNING, Recipe
from acl_train.features import encode_images, load_images
from acl_train.losses import patch_log_odds
from acl_train.tiny.corpus import FAMILIES, LEARNING_FAMILIES, draw_dataset
from acl_train.weights import build_clip, load_weights
from benchmarks.drawn_groups import DRAWN_SIZE, MEANINGS, Counts, Group, draw_groups, draw_learning
from benchmarks.judges import PAIR, Tower, learn_texts, mean, write_texts
from benchmarks.learning import FIRST_SEED, Plan, look_at, read_out, say, without_nan
from benchmarks.machine import describe_machine, machine_line
from benchmarks.memory import (
    MEMORY,
    POOL_SEED,
    TEXT,
    Case,
    Seen,
    answer,
    read_case,
    see,
    spread_cell,
    to_shown,
)
from benchmarks.tables import markdown_table, write_json

CHOSEN = "as chosen"
UNLABELLED, FRAMES, SHARE = (
    "subspace, unlabelled",
    20,
    0.1,
)  # of the frames that nobody looked at are defective
METRICS = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC", "aupro": "AUPRO as published"}


def draw_cases(
    root: Path, counts: Counts, most: int, wanted: Sequence[str], families: int | None = None
) -> list[Case]:
    """Drawn groups by their names, and of each family, or the first few, `most` further good pictures."""
    names = [name for name in FAMILIES if name not in LEARNING_FAMILIES][:families]
    pool = root / "pool"
    draw_dataset(pool, families=names, defects=(), good=most, defective=0, size=DRAWN_SIZE, seed=POOL_SEED)
    pools = {name: good_samples(pool / name / "test" / "good", category=name) for name in names}
    groups = [group for group in draw_groups(root / "judged", counts) if group.name in wanted]
    kept = [
        Group(group.name, tuple(sample for sample in group.samples if sample.category in names))
        for group in groups
    ]
    return [Case(group, pools) for group in kept if group.samples]


def make_trials(
    tower: Tower, texts: Tensor, recipe: Recipe, samples: Sequence[Sample], good: Sequence[Shown]
) -> list[Trial]:
    """Drawn defects on pictures, each as its network input."""
    size, grid = tower.clip.visual.config.image_size, tower.clip.visual.grid
    rng = np.random.default_rng(4)
    drawn = [draw_defects(image, grid, rng) for image in load_images(samples, image_size=size)]
    _, patches = encode_images(tower.clip, np.stack([image for each in drawn for image, _ in each]))
    layers = recipe.layers(tower.clip.architecture.vision_layers)
    patches = patches[:, [tower.clip.visual.config.layers.index(layer) for layer in layers]]
    logits = patch_log_odds(patches, texts[None], TEMPERATURE).unflatten(-1, (grid, grid))
    bad = to_shown(Seen(np.zeros(len(patches)), logits.numpy(), patches.numpy()))
    covers = [(row, cover) for row, each in enumerate(drawn) for _, cover in each]
    return [Trial(row, good[row], shown, cover) for shown, (row, cover) in zip(bad, covers, strict=True)]


def measure(
    tower: Tower, texts: Tensor, recipe: Recipe, cases: Sequence[Case], images: Sequence[int], draws: int
) -> Iterator[dict[str, Any]]:
    """One record per kind, number of remembered images, draw and group."""
    size = tower.clip.visual.config.image_size
    for case in cases:
        rows: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        for category in case.group.categories:
            samples = [sample for sample in case.group.samples if sample.category == category]
            seen = see(tower, samples, texts, recipe)
            labels = np.array([sample.label for sample in samples])
            masks = np.stack([load_mask(sample, height=size, width=size) for sample in samples])
            judge = partial(_judge, labels=labels, masks=masks)
            rows.setdefault((TEXT, 0, 0), []).append(judge(*answer(seen, None, TEXT, size)))
            for count, draw, fitted, trials in fit_all(
                tower, texts, recipe, case.pools[category], images, draws
            ):
                for name, row in _judge_kinds(fitted, trials, seen, judge, size):
                    rows.setdefault((name, count, draw), []).append(row)
            for draw in range(draws):
                taken, remembered = fit_unlabelled(tower, texts, recipe, samples, case.pools[category], draw)
                row = judge(*answer(seen, remembered, MEMORY, size), left=~taken)
                rows.setdefault((UNLABELLED, FRAMES, draw), []).append(row)
        for (method, count, draw), found in rows.items():
            means = {name: mean([v for row in found if (v := row[name]) is not None]) for name in METRICS}
            chosen = [row["chosen"] for row in found if "chosen" in row]
            facts = {"method": method, "images": count, "draw": draw, "group": case.group.name}
            cost = {"ms": mean([row["ms"] for row in found if "ms" in row])}
            yield facts | means | cost | ({"chosen": chosen} if chosen else {})
        say(f"judged: {case.group.name}")


def fit_all(
    tower: Tower, texts: Tensor, recipe: Recipe, pool: Sequence[Sample], images: Sequence[int], draws: int
) -> Iterator[tuple[int, int, Fitted, list[Trial]]]:
    """Memories of some of the good pictures, and what chooses between their kinds."""
    for draw in range(draws):
        order = np.random.default_rng([3, draw]).permutation(len(pool))[: max(images)]
        samples = [pool[row] for row in order]
        good = to_shown(see(tower, samples, texts, recipe))
        trials = make_trials(tower, texts, recipe, samples, good)
        for count in images:
            fitted = fit_memory(good[:count], places=tower.clip.visual.grid**2, subject="", seed=draw)
            yield count, draw, fitted, [trial for trial in trials if trial.image < count]


def fit_unlabelled(
    tower: Tower,
    texts: Tensor,
    recipe: Recipe,
    samples: Sequence[Sample],
    pool: Sequence[Sample],
    draw: int,
) -> tuple[np.ndarray, Memory]:
    """Remember frames of which some are defective, as `acl calibrate --unlabelled` does.

    Args:
        tower: Looks.
        texts: (2, D).
        recipe: Names the layers.
        samples: To judge; the defective frames are taken from them.
        pool: Good images, which the other frames are taken from.
        draw: Which.

    Returns:
        Which samples were taken, (N,) bool, and the memory.
    """
    rng, count = np.random.default_rng([5, draw]), min(FRAMES, len(pool))
    bad = [row for row, sample in enumerate(samples) if sample.label]
    taken = rng.choice(bad, round(SHARE * count), replace=False)
    good = rng.permutation(len(pool))[: count - len(taken)]
    frames = [*(pool[row] for row in good), *(samples[row] for row in taken)]
    places = tower.clip.visual.grid**2
    kept = trim(to_shown(see(tower, frames, texts, recipe)), SHARE, places, seed=draw)
    chosen = np.isin(np.arange(len(samples)), taken)
    return chosen, fit_memory(kept, places=places, subject="", seed=draw).memory(("subspace",))


def _judge(
    scores: np.ndarray,
    maps: np.ndarray,
    *,
    labels: np.ndarray,
    masks: np.ndarray,
    left: np.ndarray | None = None,
) -> dict[str, Any]:
    rows = np.ones(len(labels), np.bool_) if left is None else left
    return dict(evaluate(scores[rows], labels[rows], maps[rows], masks[rows]))


def _judge_kinds(
    fitted: Fitted,
    trials: Sequence[Trial],
    seen: Seen,
    judge: Callable[[np.ndarray, np.ndarray], dict[str, Any]],
    size: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    candidates = possible(CANDIDATES, images=fitted.statistics.images)
    is_compared = fitted.statistics.images >= LEAST_COMPARED
    chosen = choose_kinds(measure_trials(fitted, trials, candidates)) if is_compared else OF_ONE
    for kinds in candidates:
        memory = fitted.memory(kinds)
        started = time.perf_counter()
        evidence = patch_evidence(memory, seen.patch_embeddings, seen.patch_logits)
        ms = 1000 * (time.perf_counter() - started) / len(evidence)
        maps, peaks = memory_maps(evidence, image_size=size, blur_sigma=BLUR_SIGMA)
        scores = sigmoid(share_peaks(seen.image_logits, peaks))
        row: dict[str, Any] = {**judge(scores, maps), "ms": ms}
        yield kinds_text(kinds), row
        if kinds == chosen:
            yield CHOSEN, row | {"chosen": kinds_text(kinds)}


def to_tables(records: Sequence[Mapping[str, Any]]) -> str:
    """One table per metric: a row per kind and number of images, a column per group, in per cent; and the time."""
    tables = [f"**{title}**\n\n{_table(records, name)}" for name, title in METRICS.items()]
    times: dict[str, list[float]] = {}
    for record in records:
        if record["method"] not in (TEXT, CHOSEN, UNLABELLED):
            times.setdefault(record["method"], []).append(record["ms"])
    rows = [[method, f"{mean(values):.2f}"] for method, values in times.items()]
    return "\n\n".join([*tables, markdown_table(["kind", "ms an image"], rows)])


def _table(records: Sequence[Mapping[str, Any]], metric: str) -> str:
    groups = list(dict.fromkeys(record["group"] for record in records))
    methods = [TEXT, *(kinds_text(kinds) for kinds in CANDIDATES), CHOSEN, UNLABELLED]
    rows = []
    for method, count in sorted(
        dict.fromkeys((r["method"], r["images"]) for r in records),
        key=lambda each: (methods.index(each[0]), each[1]),
    ):
        found = [r for r in records if (r["method"], r["images"]) == (method, count)]
        cells = [
            spread_cell(values) if (values := [r[metric] for r in found if r["group"] == group]) else "-"
            for group in groups
        ]
        rows.append([method, str(count or "-"), *cells])
    return markdown_table(["kind", "good images", *groups], rows)


def main(
    data: Annotated[
        list[Path] | None, typer.Option(help="Another data set to judge; may be repeated.")
    ] = None,
    groups: Annotated[str, typer.Option(metavar="A,B", help="Drawn groups to judge.")] = "a,b,c,d",
    families: Annotated[
        int | None, typer.Option(help="Drawn families to judge, the first of them.", show_default=False)
    ] = None,
    written: Annotated[
        bool,
        typer.Option(
            "--written", help="Take the hand-written pair of texts instead of prompts learned as by acl demo."
        ),
    ] = False,
    images: Annotated[str, typer.Option(metavar="A,B", help="Good images to remember.")] = "1,2,4,8,16",
    draws: Annotated[int, typer.Option(min=1, help="Random choices of these images.")] = 3,
    most: Annotated[int, typer.Option(min=2, help="Samples taken of each data set.")] = 160,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the towers' outputs here for the next run.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Judge with the text alone, with each kind of memory, and with the one that drawn defects choose.

    A last row remembers frames that nobody looked at, a tenth of them defective; these are not judged.
    """
    torch.set_num_threads(1)
    machine, started = describe_machine(), time.perf_counter()
    counts, weights = [int(count) for count in images.split(",")], load_weights("tiny")
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        cases = [
            *draw_cases(drawn, Counts(), max(counts) + 8, groups.split(","), families),
            *(read_case(root, most=most) for root in data or []),
        ]
        learning = [] if written else draw_learning(drawn / "learning", Counts())
        judged = [sample for case in cases for sample in case.group.samples]
        pools = [sample for case in cases for pool in case.pools.values() for sample in pool]
        clip = build_clip(weights, read_out(weights, Plan()))
        samples = list(dict.fromkeys([*learning, *judged, *pools]))
        tower = look_at(clip, weights.sha256, samples, cache or Path(folder) / "cache")
        if written:
            texts = write_texts(clip, PAIR)
        else:
            texts = learn_texts(tower, learning, replace(TINY_LEARNING, seed=FIRST_SEED))
        records = list(measure(tower, texts, TINY_LEARNING.recipe, cases, counts, draws))
    minutes = (time.perf_counter() - started) / 60
    meanings = "; ".join(f"**{name}** {meaning}" for name, meaning in MEANINGS.items())
    typer.echo(f"{machine_line(machine)}; {minutes:.0f} minutes\n\n{meanings}\n\n{to_tables(records)}")
    facts = {"weights_sha256": weights.sha256, "minutes": minutes, "draws": draws}
    write_json(json, {"machine": machine} | facts | {"records": [without_nan(record) for record in records]})


if __name__ == "__main__":
    typer.run(main)

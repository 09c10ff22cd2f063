"""Whether a memory of good parts is worth its images, against the text alone. `python -m benchmarks.memory`"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from acl_runtime.calibration.memory_fit import Shown, fit_memory
from acl_runtime.data.datasets import Sample
from acl_runtime.data.samples import good_samples
from acl_runtime.evaluation.metrics import auroc
from acl_runtime.scoring.maps import patches_to_map, sigmoid
from acl_runtime.scoring.memory import Memory, memory_maps, patch_evidence, share_peaks
from acl_runtime.scoring.memory_kinds import Kind, nearest_distances
from acl_train.config import BLUR_SIGMA, TEMPERATURE, LearnConfig, Recipe
from acl_train.losses import image_log_odds, patch_log_odds
from acl_train.tiny.corpus import HELD_OUT_FAMILIES, draw_dataset
from acl_train.weights import build_clip, load_weights
from benchmarks.drawn_groups import (
    DRAWN_SIZE,
    MEANINGS,
    Counts,
    Group,
    draw_groups,
    draw_learning,
    read_group,
)
from benchmarks.judges import Answers, Tower, judge_category, learn_texts, mean
from benchmarks.learning import FIRST_SEED, Plan, look_at, read_out, say, without_nan
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

HELD_OUT = ("b", "d")  # how to join text and memory was chosen on a and c
POOL_SEED = 5  # of the drawn good pictures to remember; those that are judged have others
TEXT, SCALED, PLAIN, MEMORY = (
    "text alone",
    "text, scaled by the good images",
    "text and memory, plain mean",
    "text and memory",
)
METRICS = {
    "image_auroc": "Image AUROC",
    "peak_auroc": "AUROC of the map's peak",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO as published: thresholds at equal steps of probability",
    "aupro_by_rank": "AUPRO with thresholds at equal steps of rank, so that certainty does not matter",
}


@dataclass(frozen=True)
class Case:
    """A group of samples to judge, and good images of each of its categories to remember."""

    group: Group
    pools: Mapping[str, Sequence[Sample]]


@dataclass(frozen=True)
class Seen:
    """What the network and the text say about B images, all float32."""

    image_logits: np.ndarray  # (B,)
    patch_logits: np.ndarray  # (B, L, G, G)
    patch_embeddings: np.ndarray  # (B, L, G·G, D)


def draw_cases(root: Path, counts: Counts, most: int) -> list[Case]:
    """The drawn groups of families that nothing has seen, and for each family `most` further good pictures."""
    groups = [group for group in draw_groups(root / "judged", counts) if group.name in HELD_OUT]
    pool = root / "pool"
    draw_dataset(
        pool, families=HELD_OUT_FAMILIES, defects=(), good=most, defective=0, size=DRAWN_SIZE, seed=POOL_SEED
    )
    pools = {name: good_samples(pool / name / "test" / "good", category=name) for name in HELD_OUT_FAMILIES}
    return [Case(group, pools) for group in groups]


def read_case(root: Path, *, most: int) -> Case:
    """A data set on disk: to remember its images for training or, where it has none, every other good one."""
    group, training = read_group(root, most=most), root / "train" / "good"
    pool = good_samples(training, category=group.name)
    if not pool:
        pool = [sample for sample in group.samples if sample.label == 0][::2]
        group = Group(group.name, tuple(sample for sample in group.samples if sample not in pool))
    return Case(group, dict.fromkeys(group.categories, pool))


def see(tower: Tower, samples: Sequence[Sample], texts: Tensor, recipe: Recipe) -> Seen:
    """Look at images."""
    images, patches = tower.read(samples, recipe.layers(tower.clip.architecture.vision_layers))
    grid, vectors = tower.clip.visual.grid, texts[None]
    patch_logits = patch_log_odds(patches, vectors, TEMPERATURE).unflatten(-1, (grid, grid))
    image_logits = image_log_odds(images, vectors, TEMPERATURE)
    return Seen(image_logits.numpy(), patch_logits.numpy(), patches.numpy())


def make_memory(good: Seen, *, seed: int, kinds: tuple[Kind, ...] = ("patches",)) -> Memory:
    """A memory of all of these images, of the nearest patches unless other kinds are named."""
    places = good.patch_embeddings.shape[2]
    return fit_memory(to_shown(good), places=places, subject="", seed=seed).memory(kinds)


def to_shown(seen: Seen) -> list[Shown]:
    """Each image by itself, as a memory is fitted to it."""
    logits = seen.patch_logits.reshape(*seen.patch_logits.shape[:2], -1).swapaxes(1, 2)  # (B, G·G, L)
    counted = np.ones(logits.shape[1], np.bool_)
    return [Shown(*pair, counted) for pair in zip(seen.patch_embeddings.swapaxes(1, 2), logits, strict=True)]


def answer(seen: Seen, memory: Memory | None, method: str, size: int) -> Answers:
    """Scores and maps as each method has them."""
    if memory is None or method == TEXT:
        maps = patches_to_map(seen.patch_logits, image_size=size, blur_sigma=BLUR_SIGMA)
        return sigmoid(seen.image_logits), maps
    if method == PLAIN:
        assert memory.nearest is not None
        distances = nearest_distances(seen.patch_embeddings, memory.nearest.patch_embeddings)
        text = sigmoid(seen.patch_logits).mean(axis=1)
        half = (text + distances.reshape(text.shape).clip(1e-6, 1 - 1e-6)) / 2
        maps = patches_to_map(np.log(half / (1 - half))[:, None], image_size=size, blur_sigma=BLUR_SIGMA)
        return (sigmoid(seen.image_logits) + maps.max(axis=(1, 2))) / 2, maps
    if method == SCALED:
        text = (seen.patch_logits.mean(axis=1) - memory.text.location) / memory.text.spread
        evidence = 0.5 * text - 3
    else:
        evidence = patch_evidence(memory, seen.patch_embeddings, seen.patch_logits)
    maps, peaks = memory_maps(evidence, image_size=size, blur_sigma=BLUR_SIGMA)
    return sigmoid(share_peaks(seen.image_logits, peaks)), maps


def measure(
    tower: Tower, texts: Tensor, recipe: Recipe, cases: Sequence[Case], images: Sequence[int], draws: int
) -> Iterator[dict[str, Any]]:
    """One record per method, number of remembered images, draw and group."""
    size = tower.clip.visual.config.image_size
    for case in cases:
        rows: dict[tuple[str, int, int], list[dict[str, float | None]]] = {}
        for category in case.group.categories:
            samples = [sample for sample in case.group.samples if sample.category == category]
            seen = see(tower, samples, texts, recipe)
            for key, memory in remember_all(tower, texts, recipe, case.pools[category], images, draws):
                scores, maps = answer(seen, memory, key[0], size)
                row = judge_category(scores, maps, samples, size)
                peaks, labels = maps.max(axis=(1, 2)), np.array([sample.label for sample in samples])
                rows.setdefault(key, []).append(row | {"peak_auroc": auroc(peaks, labels)})
        for (method, count, draw), found in rows.items():
            means = {name: mean([v for row in found if (v := row[name]) is not None]) for name in METRICS}
            yield (
                {"recipe": recipe.value, "method": method, "images": count, "draw": draw}
                | {"group": case.group.name}
                | means
            )
        say(f"judged: {recipe.value}, {case.group.name}")


def remember_all(
    tower: Tower, texts: Tensor, recipe: Recipe, pool: Sequence[Sample], images: Sequence[int], draws: int
) -> Iterator[tuple[tuple[str, int, int], Memory | None]]:
    """Method, number of images and draw, with the memory that belongs to them."""
    yield (TEXT, 0, 0), None
    for count in images:
        for draw in range(draws):
            chosen = np.random.default_rng([3, draw]).permutation(len(pool))[:count]
            memory = make_memory(see(tower, [pool[row] for row in chosen], texts, recipe), seed=draw)
            for method in (SCALED, PLAIN, MEMORY):
                yield (method, count, draw), memory


def to_tables(records: Sequence[dict[str, Any]]) -> str:
    """One table per recipe and metric: a row per method and number of images, a column per group, in per cent."""
    parts = []
    for recipe in dict.fromkeys(record["recipe"] for record in records):
        mine = [record for record in records if record["recipe"] == recipe]
        parts += [
            f"**{title}**, prompts of `{recipe}`\n\n{_table(mine, name)}" for name, title in METRICS.items()
        ]
    return "\n\n".join(parts)


def _table(records: Sequence[dict[str, Any]], metric: str) -> str:
    groups = list(dict.fromkeys(record["group"] for record in records))
    rows = []
    for method, count in sorted(
        dict.fromkeys((r["method"], r["images"]) for r in records), key=lambda each: METHODS.index(each[0])
    ):
        found = [r for r in records if (r["method"], r["images"]) == (method, count)]
        cells = [spread_cell([r[metric] for r in found if r["group"] == group]) for group in groups]
        rows.append([method, str(count or "-"), *cells])
    return markdown_table(["method", "good images", *groups], rows)


METHODS = (TEXT, SCALED, PLAIN, MEMORY)


def spread_cell(values: Sequence[float]) -> str:
    """The mean over draws, and half the distance of the largest from the least; a dash if one is not defined."""
    if any(map(math.isnan, values)):
        return "-"
    text = f"{100 * mean(values):.1f}"
    return f"{text} ± {50 * (max(values) - min(values)):.1f}" if len(values) > 1 else text


def main(
    data: Annotated[
        list[Path] | None, typer.Option(help="Another data set to judge; may be repeated.")
    ] = None,
    recipe: Annotated[list[Recipe] | None, typer.Option(help="To learn with; may be repeated.")] = None,
    images: Annotated[str, typer.Option(metavar="A,B", help="Good images to remember.")] = "2,4,8,16",
    draws: Annotated[int, typer.Option(min=1, help="Random choices of these images.")] = 3,
    most: Annotated[int, typer.Option(min=2, help="Samples taken of each data set.")] = 160,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the towers' outputs here for the next run.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Judge with the text alone and with memories of good parts, on what neither has seen."""
    torch.set_num_threads(1)
    machine, started = describe_machine(), time.perf_counter()
    counts = [int(count) for count in images.split(",")]
    weights = load_weights("tiny")
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        cases = [
            *draw_cases(drawn, Counts(), max(counts) + 8),
            *(read_case(root, most=most) for root in data or []),
        ]
        learning = draw_learning(drawn / "learning", Counts())
        judged = [sample for case in cases for sample in case.group.samples]
        pools = [sample for case in cases for pool in case.pools.values() for sample in pool]
        samples = list(dict.fromkeys([*learning, *judged, *pools]))
        clip = build_clip(weights, read_out(weights, Plan()))
        tower = look_at(clip, weights.sha256, samples, cache or Path(folder) / "cache")
        records = []
        for each in recipe or list(Recipe):
            texts = learn_texts(tower, learning, LearnConfig(recipe=each, seed=FIRST_SEED))
            records += list(measure(tower, texts, each, cases, counts, draws))
    minutes = (time.perf_counter() - started) / 60
    meanings = "; ".join(f"**{name}** {meaning}" for name, meaning in MEANINGS.items() if name in HELD_OUT)
    typer.echo(f"{machine_line(machine)}; {minutes:.0f} minutes\n\n{meanings}\n\n{to_tables(records)}")
    facts = {"weights_sha256": weights.sha256, "minutes": minutes, "draws": draws}
    write_json(json, {"machine": machine} | facts | {"records": [without_nan(record) for record in records]})


if __name__ == "__main__":
    typer.run(main)

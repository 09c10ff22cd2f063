"""Whether learning prompts is worth it, and what the network adds. `python -m benchmarks.learning`"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from acl_runtime.data.datasets import Sample
from acl_train.clip import CLIP
from acl_train.config import TINY_LEARNING, LearnConfig, Recipe, VisionConfig
from acl_train.features import cached_features
from acl_train.methods import make_vision_config
from acl_train.mosaics import Picture
from acl_train.tiny.tower import initialise
from acl_train.weights import Weights, build_clip, load_weights
from benchmarks.drawn_groups import MEANINGS, Counts, draw_groups, draw_learning, read_group
from benchmarks.judges import (
    ENSEMBLE,
    PAIR,
    Judge,
    Tower,
    judge_by_color,
    judge_group,
    judge_with_texts,
    learn_texts,
    mean,
    write_texts,
)
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

FIRST_SEED = 111
GENTLE = "learned prompts, as the demonstration does"
COLOR = "colour contrast, no network"  # its scores are no probabilities, so no threshold is its default
METRICS = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO as published: thresholds at equal steps of probability",
    "aupro_by_rank": "AUPRO with thresholds at equal steps of rank, so that certainty does not matter",
}
THRESHOLD_METRICS = ("f1_at_half", "accuracy_at_half", "image_f1max")
THRESHOLD_TITLE = (
    "Images at the default threshold 0.5: F1 / accuracy / F1 at the best threshold of each category"
)


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        recipes: That prompts are learned with.
        seeds: Of prompt learning, and of random towers: how many of each.
        epochs: Of prompt learning.
        image_size: Side of the network input, in pixels; None for the backbone's own.
        counts: How many pictures are drawn.
        most: Samples taken of each data set on disk.
    """

    recipes: tuple[Recipe, ...] = (Recipe.released, Recipe.paper)
    seeds: int = 3
    epochs: int = 15
    image_size: int | None = None
    counts: Counts = field(default_factory=Counts)
    most: int = 160


def measure(
    weights: Weights, plan: Plan, data: Sequence[Path], *, drawn: Path, cache: Path
) -> list[dict[str, Any]]:
    """One record per method, seed and group, with every metric.

    Args:
        weights: Of the backbone.
        plan: What is compared.
        data: More data sets to judge, with masks.
        drawn: Empty folder for the pictures.
        cache: Folder of the vision towers' outputs; what is there already is not computed again.
    """
    groups = [
        *draw_groups(drawn / "judged", plan.counts),
        *(read_group(root, most=plan.most) for root in data),
    ]
    learning = draw_learning(drawn / "learning", plan.counts)
    samples = list(dict.fromkeys([*learning, *(sample for group in groups for sample in group.samples)]))
    vision = read_out(weights, plan)
    records = []
    for method, seed, judge in _methods(weights, vision, plan, learning, samples, cache):
        for group in groups:
            metrics = judge_group(judge, group, image_size=vision.image_size)
            if method == COLOR:
                metrics |= dict.fromkeys(("f1_at_half", "accuracy_at_half"), math.nan)
            records.append({"method": method, "seed": seed, "group": group.name} | metrics)
        say(f"judged: {method}, seed {seed}")
    return records


def read_out(weights: Weights, plan: Plan) -> VisionConfig:
    """All layers that any recipe needs."""
    depth = weights.architecture.vision_layers
    return make_vision_config(weights.backbone, depth, recipe=Recipe.paper, image_size=plan.image_size)


def _methods(
    weights: Weights,
    vision: VisionConfig,
    plan: Plan,
    learning: Sequence[Sample],
    samples: Sequence[Sample],
    cache: Path,
) -> Iterator[tuple[str, int, Judge]]:
    """Name, seed and judge of everything that is compared, made when its turn comes.

    Random networks only for the tiny backbone, whose starting values are known.
    """
    tower = look_at(build_clip(weights, vision), weights.sha256, samples, cache)
    config = LearnConfig(epochs=plan.epochs)
    ways = {f"learned prompts, `{recipe.value}`": replace(config, recipe=recipe) for recipe in plan.recipes}
    if weights.backbone == "tiny":
        ways |= {GENTLE: TINY_LEARNING}
    for name, way in ways.items():
        for seed in range(FIRST_SEED, FIRST_SEED + plan.seeds):
            texts = learn_texts(tower, learning, replace(way, seed=seed))
            yield name, seed, judge_with_texts(tower, texts, way.recipe)
    for name, sentences in (("hand-written pair", PAIR), ("hand-written ensemble", ENSEMBLE)):
        for recipe in plan.recipes:
            judge = judge_with_texts(tower, write_texts(tower.clip, sentences), recipe)
            yield f"{name}, layers of `{recipe.value}`", 0, judge
    recipe = plan.recipes[0]
    for seed in range(plan.seeds if weights.backbone == "tiny" else 0):
        blind = look_at(*random_clip(weights, vision, seed), samples, cache)
        texts = learn_texts(blind, learning, replace(config, recipe=recipe, seed=FIRST_SEED))
        yield f"random network, learned, `{recipe.value}`", seed, judge_with_texts(blind, texts, recipe)
    yield COLOR, 0, judge_by_color(vision.image_size)


def random_clip(weights: Weights, vision: VisionConfig, seed: int) -> tuple[CLIP, str]:
    """The same architecture before any pre-training, and a name for its values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = CLIP(weights.architecture, vision)
        initialise(clip)
    digest = hashlib.sha256()
    for tensor in clip.visual.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return clip.eval().requires_grad_(False), digest.hexdigest()


def look_at(clip: CLIP, identity: str, samples: Sequence[Sample], cache: Path) -> Tower:
    """Encode all samples, or read what was encoded before."""
    started = time.perf_counter()
    features = cached_features(clip, samples, weights_sha256=identity, cache=cache)
    say(f"{len(samples)} images encoded in {time.perf_counter() - started:.0f} s")
    rows: dict[Picture, int] = {sample: row for row, sample in enumerate(samples)}
    return Tower(clip, features, rows, clip.visual.config.layers)


def to_tables(records: Sequence[dict[str, Any]]) -> str:
    """One table per metric: a row per method, a column per group, in per cent."""
    tables = {title: _table(records, (metric,)) for metric, title in METRICS.items()}
    tables[THRESHOLD_TITLE] = _table(records, THRESHOLD_METRICS)
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in tables.items())


def _table(records: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str:
    groups = list(dict.fromkeys(record["group"] for record in records))
    cells: dict[str, list[str]] = {}
    for method, group in dict.fromkeys((r["method"], r["group"]) for r in records):
        chosen = [r for r in records if (r["method"], r["group"]) == (method, group)]
        cell = " / ".join(_cell([r[metric] for r in chosen], spread=len(metrics) == 1) for metric in metrics)
        cells.setdefault(method, [method]).append(cell)
    return markdown_table(["method", *groups], list(cells.values()))


def _cell(values: Sequence[float], *, spread: bool) -> str:
    """The mean over seeds and, if wanted, half the distance of the largest from the least."""
    if math.isnan(values[0]):
        return "-"
    text = f"{100 * mean(values):.1f}"
    return f"{text} ± {50 * (max(values) - min(values)):.1f}" if spread and len(values) > 1 else text


def without_nan(record: dict[str, Any]) -> dict[str, Any]:
    """The record with None for what is not defined: JSON has no nan."""
    return {name: None if value != value else value for name, value in record.items()}  # noqa: PLR0124


def say(message: str) -> None:
    """Tell the one who waits."""
    typer.echo(message, err=True)


def main(
    backbone: Annotated[str, typer.Option(help="Name of the backbone.")] = "tiny",
    weights: Annotated[str | None, typer.Option(help="File with other weights of that backbone.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network input, in pixels.")] = None,
    recipe: Annotated[list[Recipe] | None, typer.Option(help="To learn with; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of prompt learning, and of random networks.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of prompt learning.")] = 15,
    data: Annotated[
        list[Path] | None, typer.Option(help="Another data set to judge; may be repeated.")
    ] = None,
    most: Annotated[int, typer.Option(min=2, help="Samples taken of each of these.")] = 160,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the towers' outputs here for the next run.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; its own default if not given.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Compare learned prompts with hand-written ones, random networks and colour on what was not learned from."""
    torch.set_num_threads(threads or torch.get_num_threads())
    machine, started = describe_machine(), time.perf_counter()
    plan = Plan(tuple(recipe or Plan.recipes), seeds, epochs, image_size, most=most)
    loaded = load_weights(backbone, weights)
    with TemporaryDirectory() as folder:
        drawn, kept = Path(folder) / "drawn", cache or Path(folder) / "cache"
        records = measure(loaded, plan, data or [], drawn=drawn, cache=kept)
    minutes = (time.perf_counter() - started) / 60
    meanings = "; ".join(f"**{name}** {meaning}" for name, meaning in MEANINGS.items())
    typer.echo(f"{machine_line(machine)}; {minutes:.0f} minutes\n\n{meanings}\n\n{to_tables(records)}")
    facts = {"weights_sha256": loaded.sha256, "minutes": minutes, "seeds": seeds, "epochs": epochs}
    write_json(json, {"machine": machine} | facts | {"records": [without_nan(record) for record in records]})


if __name__ == "__main__":
    typer.run(main)

"""The paper's tables with our numbers: methods, ablations and their cost. `python -m benchmarks.paper --table 1`"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from acl_runtime.data.datasets import Sample, load_mask, read_dataset
from acl_runtime.evaluation.metrics import METRICS, evaluate
from acl_train.config import LearnConfig, Recipe, VisionConfig
from acl_train.features import cached_features
from acl_train.learn import Head
from acl_train.mosaics import Picture, draw_mosaics
from acl_train.weights import Weights, build_clip, load_weights
from benchmarks.drawn_groups import Counts, Group, draw_groups, draw_learning, read_group, thin
from benchmarks.full_shot import FullShot, fit, training_images
from benchmarks.judges import Answers, Judge, Learned, Tower, judge_with, learn, mean
from benchmarks.machine import describe_machine, machine_line
from benchmarks.memory import MEMORY, answer, make_memory, see
from benchmarks.paper_rows import FULL, FULL_SHOT, REMEMBERED, TABLES, Row
from benchmarks.paper_speed import measure_costs
from benchmarks.paper_text import to_text
from benchmarks.tables import write_json

FIRST_SEED = 111
DRAWN = "drawn"


@dataclass(frozen=True)
class Settings:
    """What is compared on what.

    Attributes:
        seeds: How many of each learning.
        epochs: Of each; None for the method's own.
        image_size: Side of the network's input, in pixels; None for the backbone's own.
        learning: Samples that all methods learn from.
        mosaics: How many of four of them some learn from too, see `acl_train/mosaics.py`.
        groups: What they are judged on.
    """

    seeds: int
    epochs: int | None
    image_size: int | None
    learning: Sequence[Sample]
    groups: Sequence[Group]
    mosaics: int = 0


class Accuracy:
    """Learns and judges rows; what two tables share is done once."""

    def __init__(self, weights: Weights, settings: Settings, cache: Path) -> None:
        """Use one backbone; the vision tower's outputs are kept in `cache`."""
        self._weights, self._settings, self._cache = weights, settings, cache
        judged = [sample for group in settings.groups for sample in group.samples]
        self._mosaics = draw_mosaics(settings.learning, settings.mosaics, seed=FIRST_SEED)
        self._samples: list[Picture] = list(dict.fromkeys([*settings.learning, *judged, *self._mosaics]))
        self._towers: dict[VisionConfig, Tower] = {}
        self._found: dict[object, list[dict[str, Any]]] = {}

    def records(self, row: Row) -> list[dict[str, Any]]:
        """A record per seed and group, with every metric."""
        vision = row.vision(self._weights, self._settings.image_size)
        first = row.config(seed=0, epochs=self._settings.epochs)
        key = (row.method, vision, first, row.named)
        if key not in self._found:
            started = time.perf_counter()
            self._found[key] = self._judge(row, self._tower(vision))
            say(f"{row.label}: {time.perf_counter() - started:.0f} s")
        return self._found[key]

    def memory_judge(self, good: Sequence[Sample]) -> Judge:
        """Our memory of good images without prompts, over the paper's read-out."""
        vision = FULL.vision(self._weights, self._settings.image_size)
        tower, clip = self._tower(vision), build_clip(self._weights, vision)
        features = cached_features(clip, good, weights_sha256=self._weights.sha256, cache=self._cache)
        rows: dict[Picture, int] = {sample: row for row, sample in enumerate(good)}
        texts = torch.ones(2, clip.architecture.embed_dim)  # they say nothing
        memory = make_memory(
            see(Tower(clip, features, rows, vision.layers), good, texts, Recipe.paper), seed=FIRST_SEED
        )

        def judge(samples: Sequence[Sample]) -> Answers:
            return answer(see(tower, samples, texts, Recipe.paper), memory, MEMORY, vision.image_size)

        return judge

    def _tower(self, vision: VisionConfig) -> Tower:
        depth = self._weights.architecture.vision_layers
        recorded = vision if vision.windows else replace(vision, layers=Recipe.paper.layers(depth))
        if recorded not in self._towers:
            clip = build_clip(self._weights, recorded)
            features = cached_features(
                clip, self._samples, weights_sha256=self._weights.sha256, cache=self._cache
            )
            rows = {sample: row for row, sample in enumerate(self._samples)}
            self._towers[recorded] = Tower(clip, features, rows, recorded.layers)
        return replace(self._towers[recorded], clip=build_clip(self._weights, vision))

    def _judge(self, row: Row, tower: Tower) -> list[dict[str, Any]]:
        records = []
        for seed in range(FIRST_SEED, FIRST_SEED + self._settings.seeds):
            config = row.config(seed=seed, epochs=self._settings.epochs)
            layers = tower.clip.visual.config.layers
            if config is None:
                learned = Learned(Head(tower.clip, LearnConfig(method=row.method)), {}, layers)
            else:
                learning: list[Picture] = [*self._settings.learning, *self._mosaics[: config.mosaics]]
                learned = learn(tower, learning, config, layers)
            judge = judge_with(tower, learned, named=row.named)
            for group in self._settings.groups:
                metrics = judge_samples(judge, group, tower.clip.visual.config.image_size)
                records.append({"seed": seed, "group": group.name} | metrics)
            if config is None:
                break  # nothing is left to chance
        return records


def judge_samples(judge: Judge, group: Group, image_size: int) -> dict[str, float]:
    """Each metric's unweighted mean over the categories; nan where it is not defined in any, as without masks."""
    rows = []
    for category in group.categories:
        samples = [sample for sample in group.samples if sample.category == category]
        scores, maps = judge(samples)
        labels = np.array([sample.label for sample in samples])
        if any(sample.label and sample.mask is None for sample in samples):
            rows.append(evaluate(scores, labels))
        else:
            masks = np.stack([_mask(sample, image_size) for sample in samples])
            rows.append(evaluate(scores, labels, maps, masks))
    return {name: mean([value for row in rows if (value := row[name]) is not None]) for name in METRICS}


def full_shot_records(
    accuracy: Accuracy,
    groups: Sequence[Group],
    roots: Mapping[str, Path],
    settings: FullShot,
    image_size: int,
) -> dict[str, list[dict[str, Any]]]:
    """Of the methods of table 12 that see good images, a record per group.

    Args:
        accuracy: Has the towers of our memory.
        groups: What is judged.
        roots: Where each of them lies, with good images for training.
        settings: Of anomalib's methods.
        image_size: Side of our network's input, in pixels.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in FULL_SHOT:
        for group in groups:
            started, metrics = time.perf_counter(), []
            for category in group.categories:
                samples = tuple(sample for sample in group.samples if sample.category == category)
                good = training_images(roots[group.name], category)
                if row.method == "memory":
                    judge, size = accuracy.memory_judge(thin(good, REMEMBERED)), image_size
                else:
                    judge, size = fit(row.method, good, settings), settings.image_size
                metrics.append(judge_samples(judge, Group(group.name, samples), size))
            means = {
                name: mean([each[name] for each in metrics if not math.isnan(each[name])]) for name in METRICS
            }
            found.setdefault(row.label, []).append({"seed": settings.seed, "group": group.name} | means)
            say(f"{row.label}, {group.name}: {time.perf_counter() - started:.0f} s")
    return found


@lru_cache(maxsize=4096)
def _mask(sample: Sample, image_size: int) -> np.ndarray:
    return load_mask(sample, height=image_size, width=image_size)


def say(message: str) -> None:
    """Tell the one who waits."""
    typer.echo(message, err=True)


def _samples(
    learn_from: Sequence[Path], data: Sequence[Path], most: int, drawn: Path
) -> tuple[list[Sample], list[Group], dict[str, str]]:
    """What to learn from, what to judge, and which of it the paper has numbers for."""
    groups = [read_group(root, most=most, needs_masks=False) for root in data]
    datasets = [read_dataset(root) for root in data]
    published = {dataset.name: dataset.published for dataset in datasets if dataset.published is not None}
    if learn_from:
        return [sample for root in learn_from for sample in read_dataset(root).samples], groups, published
    found = draw_groups(drawn / "judged", Counts())
    unseen = tuple(dict.fromkeys(sample for group in found if group.name in "bd" for sample in group.samples))
    learning = draw_learning(drawn / "learning", Counts())
    return learning, [Group(DRAWN, unseen), *groups], published


def main(
    table: Annotated[list[str], typer.Option(help=f"Of {', '.join(TABLES)}, or all; may be repeated.")],
    data: Annotated[list[Path] | None, typer.Option(help="A data set to judge; may be repeated.")] = None,
    learn_from: Annotated[
        list[Path] | None,
        typer.Option(help="What all methods learn from; may be repeated. [default: drawn products]"),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name of the backbone; tiny without --weights.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="open_clip tag or file of its weights.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network input, in pixels.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of each learning.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each; the method's own.")] = None,
    most: Annotated[int, typer.Option(min=2, help="Samples taken of each data set to judge.")] = 160,
    speed_only: Annotated[
        bool, typer.Option("--speed-only", help="Only the cost, of values that nothing was learned for.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0, help="About how long to time a table's rows in turn.")
    ] = 60,
    full_shot_backbone: Annotated[
        str, typer.Option(help="Of PatchCore and RD4AD in table 12; anomalib fetches its weights.")
    ] = FullShot.backbone,
    random_backbone: Annotated[
        bool, typer.Option("--random-backbone", help="Of random weights, where nothing can be fetched.")
    ] = False,
    full_shot_epochs: Annotated[int, typer.Option(min=1, help="Of RD4AD.")] = FullShot.epochs,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the towers' outputs here for the next run.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; its own default if not given.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Print tables of the paper with our numbers.

    What is learned is learned here, on drawn products unless --learn-from names
    data, and judged on other drawn products and on --data. Table 8 is the cost;
    table 12 has methods that see good images, so it needs --data with train/good
    and anomalib, the extra full-shot.
    """
    names = list(TABLES) if table == ["all"] else table
    if unknown := [name for name in names if name not in TABLES]:
        raise typer.BadParameter(f"--table must be of {', '.join(TABLES)}, got {', '.join(unknown)}")
    torch.set_num_threads(threads or torch.get_num_threads())
    machine, loaded = describe_machine(), load_weights(backbone or (None if weights else "tiny"), weights)
    typer.echo(f"{machine_line(machine)}; backbone {loaded.backbone}, weights {loaded.sha256[:8]}\n")
    written: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        accuracy: Accuracy | None = None
        groups: list[Group] = []
        roots: dict[str, Path] = {}
        published: dict[str, str] = {}
        if not speed_only and names != ["8"]:
            learning, groups, published = _samples(learn_from or [], data or [], most, place)
            if "12" in names:
                groups = [group for group in groups if group.name != DRAWN]  # it has no images for training
            roots = {read_dataset(root).name: root for root in data or []}
            mosaics = max(row.learn.get("mosaics", 0) for name in names for row in TABLES[name][1])
            settings = Settings(seeds, epochs, image_size, learning, groups, mosaics)
            accuracy = Accuracy(loaded, settings, cache or place / "cache")
        for name in names:
            rows, costs, records = TABLES[name][1], {}, {}
            if name == "8" or speed_only:
                costs = measure_costs(loaded, rows, image_size, place / "bundles", seconds=seconds)
            elif accuracy is not None:
                records = {row.label: accuracy.records(row) for row in rows}
            if name == "12" and accuracy is not None:
                beside = FullShot(
                    full_shot_backbone, not random_backbone, epochs=full_shot_epochs, seed=FIRST_SEED
                )
                size = FULL.vision(loaded, image_size).image_size
                records |= full_shot_records(accuracy, groups, roots, beside, size)
            typer.echo(to_text(name, records, published, costs) + "\n")
            written[name] = {"records": records, "costs": {row: vars(cost) for row, cost in costs.items()}}
            write_json(json, {"machine": machine, "weights_sha256": loaded.sha256, "tables": written})


if __name__ == "__main__":
    typer.run(main)

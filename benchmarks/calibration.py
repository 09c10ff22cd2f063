"""Whether the promise of a calibration holds on photographs, and what it costs. `python -m benchmarks.calibration`"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import scipy.stats
import torch
import typer

from acl_export.config import ExportConfig
from acl_export.demo import DRAWN_SIZE, DemoConfig
from acl_export.export import export_bundle
from acl_runtime.bundle.bundle import MANIFEST
from acl_runtime.calibration.conformal import Demand, allowed_rejections
from acl_runtime.calibration.findings import IDLE
from acl_runtime.calibration.thresholds import find_region_threshold, find_thresholds
from acl_runtime.data.datasets import read_dataset
from acl_runtime.data.samples import good_samples
from acl_runtime.detection.detector import Detector
from acl_runtime.images.decode import load_frame
from acl_runtime.scoring.rule import Rule, log_odds
from acl_train.config import LearnConfig, Recipe
from acl_train.methods import make_vision_config
from acl_train.tiny.corpus import LEARNING_DEFECTS, draw_dataset
from acl_train.train import TrainFiles, train
from acl_train.weights import load_weights
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

CALIBRATING = 0.7  # share of the good images that the thresholds are found on; the others are rejected or not
DEMANDS = (Demand(0.01), Demand(0.05), Demand(0.1))
HEADER = (
    *("set", "prompts", "asked", "images", "promised", "overkill (expected)"),
    *("splits over the promise (expected)", "escapes", "escapes, score alone"),
    *("peak threshold", "idle", "NG with regions"),
)


@dataclass(frozen=True)
class Measured:
    """What the detector says about a data set: rows of score and peak."""

    name: str
    recipe: str
    good: np.ndarray  # (N, 2) in [0, 1]
    defective: np.ndarray  # (M, 2) in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Split:
    """One calibration, tried on images that it has not seen."""

    promised: float
    rejected: int  # of the good images that were left
    missed: int  # of all defective images
    missed_by_score: int  # by a rule found in the same way, the peak left out
    peak_threshold: float  # 1 where the score alone decides
    is_idle: bool  # whether the peak's threshold practically never decides
    with_regions: (
        int  # of the defective images that are not missed: have a place on the map above the regions' level
    )


@dataclass(frozen=True)
class Case:
    """All splits of one data set for one demand."""

    measured: Measured
    demand: Demand
    calibrating: int  # images, without those that set the scales
    scale_images: int
    left: int  # good images that the rule is tried on
    splits: tuple[Split, ...]

    @property
    def rejections(self) -> int:
        """Calibrating images that the rule may reject."""
        return allowed_rejections(self.calibrating, self.demand)

    @property
    def prediction(self) -> scipy.stats.rv_discrete:
        """Rejected images of those left: exactly beta-binomial, whatever the data."""
        return scipy.stats.betabinom(self.left, self.rejections + 1, self.calibrating - self.rejections)

    def is_over(self, rejected: int) -> bool:
        """Whether more were rejected than promised, which chance does to few images."""
        return rejected > self.splits[0].promised * self.left


def make_bundle(folder: Path, recipe: Recipe) -> Path:
    """Learn as `acl demo` does, and export; what is there already is used."""
    bundle, config = folder / f"bundle-{recipe.value}", DemoConfig()
    if (bundle / MANIFEST).is_file():
        return bundle
    draw_dataset(
        folder / "learning",
        families=config.learning,
        defects=LEARNING_DEFECTS,
        good=config.per_family,
        defective=config.per_family,
        size=DRAWN_SIZE,
        seed=config.seed,
    )
    weights, learn = load_weights("tiny"), LearnConfig(recipe=recipe, seed=config.seed)
    vision = make_vision_config(weights.backbone, weights.architecture.vision_layers, recipe=recipe)
    prompts = folder / f"{recipe.value}.safetensors"
    train([folder / "learning"], TrainFiles(prompts, folder / "cache"), weights, vision, learn)
    export_bundle(prompts, bundle, weights, ExportConfig())
    return bundle


def judge(bundle: Path, root: Path) -> Measured:
    """Judge every image of a data set once, those for training too."""
    detector, dataset = Detector(bundle, provider="cpu"), read_dataset(root)
    samples = [*dataset.samples, *good_samples(root / "train" / "good", category=dataset.name)]
    rows: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    for sample in samples:
        verdict = detector(load_frame(sample.path))
        rows[sample.label].append((verdict.score, verdict.peak))
    recipe = detector.bundle.manifest.prompts["recipe"]
    return Measured(dataset.name, recipe, np.array(rows[0]), np.array(rows[1]))


def split(measured: Measured, demand: Demand, splits: int) -> Case:
    """Calibrate on random parts of the good images."""
    count = round(CALIBRATING * len(measured.good))
    results, scale_images = [], 0
    for seed in range(splits):
        order = np.random.default_rng([1, seed]).permutation(len(measured.good))  # not the draw of the scales
        given, left = measured.good[order[:count]], measured.good[order[count:]]
        found = find_thresholds(given[:, 0], given[:, 1], demand, seed=seed)
        scale_images = int(found.sets_scales.sum())
        by_score = find_thresholds(given[:, 0], np.zeros(count), demand, seed=seed).rule
        missed, missed_by_score = (
            len(measured.defective) - count_anomalous(rule, measured.defective)
            for rule in (found.rule, Rule(by_score.score_threshold, None))
        )
        rejected, peak = count_anomalous(found.rule, left), found.rule.peak_threshold
        level = find_region_threshold(given[:, 1], found.rule)
        results.append(
            Split(
                promised=found.promised_overkill,
                rejected=rejected,
                missed=missed,
                missed_by_score=missed_by_score,
                peak_threshold=1.0 if peak is None else peak,
                is_idle=peak is None or log_odds(peak) - log_odds(given[:, 1].max()) > IDLE,
                with_regions=count_anomalous(
                    found.rule, measured.defective[measured.defective[:, 1] >= level]
                ),
            )
        )
    left_over = len(measured.good) - count
    return Case(measured, demand, count - scale_images, scale_images, left_over, tuple(results))


def count_anomalous(rule: Rule, rows: np.ndarray) -> int:
    """How many of (N, 2) rows of score and peak are anomalous."""
    return sum(rule.is_anomalous(score, peak) for score, peak in rows.tolist())


def to_row(case: Case) -> list[str]:
    """A case as a line of the table."""
    measured, splits, left = case.measured, case.splits, case.left
    over = np.mean([case.is_over(each.rejected) for each in splits])
    expected_over = 1 - case.prediction.cdf(math.floor(splits[0].promised * left))
    overkill = [each.rejected / left for each in splits]
    defective = len(measured.defective)
    found = sum(defective - each.missed for each in splits)
    low, median, high = np.quantile([each.peak_threshold for each in splits], [0.1, 0.5, 0.9])
    return [
        measured.name,
        measured.recipe,
        percent(case.demand.max_overkill),
        f"{case.calibrating} + {case.scale_images}, {left} left",
        percent(splits[0].promised),
        f"{percent(float(np.mean(overkill)))} ({percent(case.prediction.mean() / left)})",
        f"{percent(float(over))} ({percent(float(expected_over))})",
        spread([each.missed / defective for each in splits]),
        spread([each.missed_by_score / defective for each in splits]),
        f"{median:.3f} ({low:.3f}-{high:.3f})",
        percent(float(np.mean([each.is_idle for each in splits]))),
        percent(sum(each.with_regions for each in splits) / max(found, 1)),
    ]


def deviation(case: Case) -> float:
    """Probability that chance moves the mean overkill at least so far from its expectation (normal approximation)."""
    mean = float(np.mean([each.rejected for each in case.splits]))
    error = case.prediction.std() / math.sqrt(len(case.splits))
    return float(2 * scipy.stats.norm.sf(abs(mean - case.prediction.mean()) / error))


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def spread(shares: Sequence[float]) -> str:
    """Median and the middle eight tenths, in percent."""
    low, median, high = np.quantile(shares, [0.1, 0.5, 0.9])
    return f"{100 * median:.0f} % ({100 * low:.0f}-{100 * high:.0f})"


def measure(data: Sequence[Path], recipes: Sequence[Recipe], splits: int, cache: Path) -> Iterator[Case]:
    """Every set with every recipe and demand; demands that too few images make equal, once."""
    for recipe in recipes:
        bundle = make_bundle(cache, recipe)
        for root in data:
            measured = judge(bundle, root)
            cases = [split(measured, demand, splits) for demand in DEMANDS]
            distinct = {case.rejections: case for case in reversed(cases)}  # the strictest of equal ones
            yield from reversed(distinct.values())


def main(
    data: Annotated[list[Path], typer.Option(help="Data set in MVTec AD's layout; may be repeated.")],
    recipe: Annotated[list[Recipe] | None, typer.Option(help="To learn with; may be repeated.")] = None,
    splits: Annotated[int, typer.Option(min=1, help="Random splits of the good images.")] = 200,
    cache: Annotated[Path | None, typer.Option(help="Keep the bundles here for the next run.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Calibrate on some good images, count rejected ones among the others, and defective ones that are missed."""
    torch.set_num_threads(1)
    machine = describe_machine()
    with TemporaryDirectory() as folder:
        cases = list(measure(data, recipe or list(Recipe), splits, cache or Path(folder)))
    typer.echo(f"{machine_line(machine)}\n\n{markdown_table(HEADER, [to_row(case) for case in cases])}")
    least = min(map(deviation, cases))
    typer.echo(f"\nleast probable of {len(cases)} deviations from the expected overkill: p = {least:.3f}")
    write_json(json, {"machine": machine, "splits": splits, "cases": [to_record(case) for case in cases]})


def to_record(case: Case) -> dict[str, object]:
    """A case for scripts."""
    return {
        "dataset": case.measured.name,
        "recipe": case.measured.recipe,
        **asdict(case.demand),
        "calibrating": case.calibrating,
        "scale_images": case.scale_images,
        "left": case.left,
        "defective": len(case.measured.defective),
        "deviation_p": deviation(case),
        "splits": [asdict(each) for each in case.splits],
    }


if __name__ == "__main__":
    typer.run(main)

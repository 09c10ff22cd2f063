"""What `acl demo` does: the whole road on drawn products, from learning to a page one can look at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from acl_export.config import ExportConfig
from acl_export.demo_folder import demo_folder
from acl_export.demo_report import DemoResult, count_outcome, write_pages
from acl_export.demo_summary import write_summary
from acl_export.demo_web import WebDemo, WebResult, inspect_drawn_web
from acl_export.export import export_bundle
from acl_export.reference_candidate import make_reference
from acl_runtime.bench.candidates import make_candidates
from acl_runtime.bench.measure import measure
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.data.datasets import Dataset, load_sample, read_dataset, require_both
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import DatasetEvaluation, evaluate_dataset
from acl_runtime.files.errors import InputError
from acl_runtime.report.evaluation import INDEX
from acl_runtime.sources.files import list_sources
from acl_train.config import TINY_LEARNING, LearnConfig
from acl_train.methods import make_vision_config
from acl_train.prompts import Prompts, load_prompts
from acl_train.tiny.corpus import (
    DEFECTS,
    HELD_OUT_FAMILIES,
    LEARNING_DEFECTS,
    LEARNING_FAMILIES,
    draw_dataset,
)
from acl_train.train import Progress, TrainFiles, train
from acl_train.weights import Weights, build_clip, load_weights

DRAWN_SIZE = 256
CPU = "CPUExecutionProvider"
PROMPTS = "prompts.safetensors"
LEARNED = ("learning", "prompts.checkpoints")  # the folders that the learning leaves
TIMED_FRAMES = 30  # different ones


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo draws and learns.

    Attributes:
        learning: Products that the prompts learn from.
        unseen: Products that they are then tried on.
        per_family: Good, and as many defective, images of each product that the prompts learn from.
        per_unseen: Good, and as many defective, images of each product that they have never seen.
        per_calibration: Further good images of each of these, for its own thresholds. 73 can promise 5 %, but
            then reject 1.6 % and find less; with 201 it is 2.7 % (four of those 181 that calibrate).
        max_overkill: Share of a product's good parts that its thresholds may reject.
        epochs: Of prompt learning.
        timing_s: About how long both pipelines are timed, in turn.
        seed: Of the pictures and of the learning.
        web: The web that is inspected; None for none.
    """

    learning: tuple[str, ...] = LEARNING_FAMILIES
    unseen: tuple[str, ...] = HELD_OUT_FAMILIES
    per_family: int = 12
    per_unseen: int = len(DEFECTS)  # each kind of defect once, those never drawn in pre-training among them
    per_calibration: int = 201
    max_overkill: float = 0.05
    epochs: int = TINY_LEARNING.epochs
    timing_s: float = 8.0
    seed: int = 111
    web: WebDemo | None = field(default_factory=WebDemo)


def run_demo(
    output: Path,
    config: DemoConfig,
    *,
    data: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> DemoResult:
    """Draw products, learn prompts on some, export, calibrate, and judge others that were not in the learning.

    Args:
        output: Folder of everything the demo makes; an earlier demo there is replaced, see `demo_folder`.
        config: How much.
        data: The user's own labelled images to judge instead of drawn products; the thresholds stay the
            default, and prompts that an earlier demo in this folder learned in the same way are used again.
        progress: Called with what is done, how many and of how many.
        say: Called with a line for the user after each step.
    """
    dataset = None if data is None else read_dataset(data)  # what is wrong with it comes first
    if dataset is not None:
        require_both(dataset)
    weights = load_weights("tiny")
    learned = None if data is None else _learned_before(output, weights, config)
    with demo_folder(output, data, kept=() if learned is None else LEARNED):
        if learned is None:
            learned = _learn(output, weights, config, progress, say)
        else:
            say("the prompts that the earlier demo here learned are used again")
        return _run(output, config, dataset, weights, learned, progress, say)


def _run(
    output: Path,
    config: DemoConfig,
    dataset: Dataset | None,
    weights: Weights,
    prompts: Prompts,
    progress: Progress,
    say: Callable[[str], None],
) -> DemoResult:
    """The demonstration in an empty folder; `dataset` holds the user's images, None for drawn ones."""
    drawn = dataset is None
    if dataset is None:
        _draw(output / "unseen", config.unseen, DEFECTS, config.per_unseen, config.seed + 1)
        dataset = read_dataset(output / "unseen")
    manifest = export_bundle(output / PROMPTS, output / "bundle", weights, ExportConfig())
    say(
        f"exported {output / 'bundle'}: equal to PyTorch within {manifest.parity.image_logits:.1e} (log-odds) "
        f"and {manifest.parity.anomaly_map:.1e} (map)"
    )
    detector = Detector(output / "bundle", provider=CPU)
    own = _calibrate(output, config, progress, say) if drawn else {}
    evaluation, verdicts = _judge(detector, own, dataset, progress)
    clip = build_clip(weights, prompts.config.vision)
    frames = _frames(dataset, TIMED_FRAMES)
    entered = make_candidates(detector.bundle, detector.session, manifest.precision, [1])
    candidates = [make_reference(detector.bundle, clip), *entered]
    reference, ours = measure(candidates, frames, seconds=config.timing_s, progress=progress)
    outcome = count_outcome(dataset, verdicts)
    result = DemoResult(
        report=output / "report" / INDEX,
        manifest=manifest,
        rows=evaluation.rows,
        reference=reference,
        ours=ours,
        outcome=outcome,
        web=_inspect_web(output, config, progress) if drawn else None,
    )
    write_summary(output, result, dataset, verdicts, promised_overkill=config.max_overkill if drawn else None)
    write_pages(result, evaluation, verdicts, detector, own)
    return result


def _draw(root: Path, families: Sequence[str], defects: Sequence[str], count: int, seed: int) -> None:
    defective = count if defects else 0
    draw_dataset(
        root, families=families, defects=defects, good=count, defective=defective, size=DRAWN_SIZE, seed=seed
    )


def _learned_before(output: Path, weights: Weights, config: DemoConfig) -> Prompts | None:
    """The prompts of an earlier demo, if this one would learn from the same with the same weights and settings."""
    path = output / PROMPTS
    if not path.is_file():
        return None
    prompts = load_prompts(path)
    learned = prompts.config.learning
    images = 2 * config.per_family * len(config.learning)
    learn = _learning(config)
    wanted = {
        "seed": config.seed,
        "batch_size": learn.batch_size,
        "losses": list(learn.losses),
        "epochs": config.epochs,
        "images": images,
        "categories": sorted(config.learning),
    }
    is_same = all(learned.get(name) == value for name, value in wanted.items())
    return prompts if is_same and prompts.config.weights_sha256 == weights.sha256 else None


def _learning(config: DemoConfig) -> LearnConfig:
    return replace(TINY_LEARNING, epochs=config.epochs, seed=config.seed)


def _learn(
    output: Path, weights: Weights, config: DemoConfig, progress: Progress, say: Callable[[str], None]
) -> Prompts:
    _draw(output / "learning", config.learning, LEARNING_DEFECTS, config.per_family, config.seed)
    learn = _learning(config)
    vision = make_vision_config(weights.backbone, weights.architecture.vision_layers, recipe=learn.recipe)
    started = time.perf_counter()
    files = TrainFiles(output / PROMPTS, output / "cache")
    prompts = train([output / "learning"], files, weights, vision, learn, progress=progress, say=say)
    say(
        f"learned two prompts on {len(config.learning)} drawn products, "
        f"{prompts.config.learning['images']} images, in {time.perf_counter() - started:.0f} s"
    )
    return prompts


def _calibrate(
    output: Path, config: DemoConfig, progress: Progress, say: Callable[[str], None]
) -> dict[str, Detector]:
    """A copy of the bundle for each unseen product, its thresholds set on further good parts of that product alone."""
    _draw(output / "calibration", config.unseen, (), config.per_calibration, config.seed + 2)
    detectors: dict[str, Detector] = {}
    total = len(config.unseen) * config.per_calibration
    for product in config.unseen:
        past = len(detectors) * config.per_calibration
        path = output / "bundles" / product.replace(" ", "_")
        shutil.copytree(output / "bundle", path)
        record = calibrate_bundle(
            Detector(path, provider=CPU),
            list_sources([output / "calibration" / product]),
            max_overkill=config.max_overkill,
            progress=partial(_report, progress, past, total),
        )
        detectors[product] = Detector(path, provider=CPU)
    say(f"calibrated for each unseen product on {record.images} good parts of its own: {record.statement}")
    return detectors


def _report(progress: Progress, past: int, total: int, what: str, done: int, _: int) -> None:
    """One product's progress as part of that of all."""
    progress(what, past + done, total)


def _judge(
    detector: Detector, own: Mapping[str, Detector], dataset: Dataset, progress: Progress
) -> tuple[DatasetEvaluation, list[Verdict]]:
    """The evaluation, and the verdicts in the order of the samples; products in `own` by their own detectors."""
    verdicts: list[Verdict] = []
    turn = {
        category: turn for turn, category in enumerate(dataset.categories)
    }  # in this order they are judged
    order = sorted(range(len(dataset.samples)), key=lambda index: turn[dataset.samples[index].category])

    def judge(frame: np.ndarray) -> Verdict:
        category = dataset.samples[order[len(verdicts)]].category
        verdicts.append(own.get(category, detector)(frame))
        return verdicts[-1]

    evaluation = evaluate_dataset(
        dataset, judge, progress=lambda *at: progress("judging unseen products", *at)
    )
    for bad in evaluation.bad:  # of the user's own images
        raise InputError(bad.problem)
    by_index = dict(zip(order, verdicts, strict=True))
    return evaluation, [by_index[index] for index in range(len(order))]


def _inspect_web(output: Path, config: DemoConfig, progress: Progress) -> WebResult | None:
    if config.web is None:
        return None
    return inspect_drawn_web(
        output / "bundle",
        output / "bundles" / "web",
        output / "report" / "web",
        config.web,
        seed=config.seed + 3,
        progress=progress,
    )


def _frames(dataset: Dataset, count: int) -> list[np.ndarray]:
    step = max(1, len(dataset.samples) // count)
    return [load_sample(sample) for sample in dataset.samples[::step][:count]]

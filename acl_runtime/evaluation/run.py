"""What `acl eval` measures: a bundle on labelled images, and beside it, where one is given, its reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from acl_runtime.bundle.words import network_words, prompts_words
from acl_runtime.calibration.mismatch import find_mismatches
from acl_runtime.data.check_masks import check_masks
from acl_runtime.data.datasets import Dataset, read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.change_table import change_table
from acl_runtime.evaluation.evaluate import DatasetEvaluation, evaluate_together
from acl_runtime.evaluation.tables import terminal_table
from acl_runtime.images.decode import ReadSettings
from acl_runtime.text.names import category_words, shorten

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvalSettings:
    """How to measure; see `evaluate_dataset` and `check_masks`."""

    exact: bool = False
    mask_above: int = 0
    allow_blank_masks: bool = False
    read: ReadSettings = field(default_factory=ReadSettings)


@dataclass(frozen=True)
class EvalResult:
    """What was found.

    Attributes:
        evaluations: The data sets.
        settings: How the figures came about, for whoever reads them later: names, and numbers, text or None.
        notes: What a reader of the figures must know about the detector, sentences.
        text: The tables for the terminal, with the reference's below.
    """

    evaluations: Sequence[DatasetEvaluation]
    settings: dict[str, object]
    notes: Sequence[str]
    text: str

    @property
    def bad(self) -> int:
        """How many images could not be judged."""
        return sum(len(evaluation.bad) for evaluation in self.evaluations)


class Differences:
    """The largest differences between a detector's verdicts and its reference's."""

    def __init__(self) -> None:
        self.score = self.map = 0.0

    def __call__(self, verdicts: Sequence[Verdict]) -> None:
        """Take in the verdicts of one detector, or of a detector and its reference, on a frame."""
        first, last = verdicts[0], verdicts[-1]
        self.map = max(self.map, float(np.abs(first.anomaly_map - last.anomaly_map).max()))
        self.score = max(self.score, abs(first.score - last.score))


def run_evaluation(
    detector: Detector,
    data: Sequence[Path],
    settings: EvalSettings,
    *,
    reference: Detector | None = None,
    progress: Progress = lambda what, done, total: None,
) -> EvalResult:
    """Evaluate a bundle.

    Args:
        detector: The bundle's.
        data: Folders of data sets.
        settings: How to measure.
        reference: What to evaluate too, with the same tiling, to tell how far each metric is from its.
        progress: Called with what is done, the number of images done, and of all.

    Raises:
        InputError: A data set cannot be read, masks of defective parts mark nothing, or no image can be judged.
    """
    category = detector.bundle.manifest.prompts.get("category")
    # what is wrong with one comes before any work
    datasets = [_note_names(read_dataset(root), category) for root in data]
    datasets = [_check_masks(dataset, detector, settings, progress) for dataset in datasets]
    detectors = [detector] if reference is None else [detector, reference]
    differences = Differences()
    found = [
        evaluate_together(
            dataset,
            detectors,
            exact=settings.exact,
            mask_above=settings.mask_above,
            settings=settings.read,
            progress=partial(progress, f"judging {dataset.name}"),
            compare=differences,
        )
        for dataset in datasets
    ]
    ours = [evaluations[0] for evaluations in found]
    texts = [terminal_table(ours)]
    if reference is not None:
        theirs = [evaluations[-1] for evaluations in found]
        texts.append(
            change_table(
                _rows(ours),
                _rows(theirs),
                score_difference=differences.score,
                map_difference=differences.map,
            )
        )
    return EvalResult(
        ours, describe(detector, settings, ours), _notes(detector, settings.read), "\n\n".join(texts)
    )


def _check_masks(dataset: Dataset, detector: Detector, settings: EvalSettings, progress: Progress) -> Dataset:
    return check_masks(
        dataset,
        image_size=detector.bundle.manifest.image_size,
        above=settings.mask_above,
        allow_blank=settings.allow_blank_masks,
        is_tiled=detector.tiling is not None,
        settings=settings.read,
        progress=partial(progress, f"reading the masks of {dataset.name}"),
    )


def _note_names(dataset: Dataset, category: str | None) -> Dataset:
    """Note where the bundle's prompts name another product than some of the data set's categories are."""
    others = {sample.category for sample in dataset.samples if category_words(sample.category) != category}
    if category is None or not others:
        return dataset
    note = f"The prompts name the product “{category}”; {shorten(others)} were judged with that name too."
    return replace(dataset, notes=(*dataset.notes, note))


def describe(
    detector: Detector, settings: EvalSettings, evaluations: Sequence[DatasetEvaluation]
) -> dict[str, object]:
    """Return how an evaluation's figures came about: what another one must have in common to be the same."""
    manifest, tiling, rule = detector.bundle.manifest, detector.tiling, detector.rule
    preprocessing = manifest.preprocessing
    return {
        "backbone": manifest.backbone.name,
        "weights": f"{manifest.backbone.weights}, sha256 {manifest.backbone.weights_sha256[:12]}",
        "network": network_words(manifest),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "orientation": "applied" if settings.read.exif else "pixels as stored",
        "bits": settings.read.bits,
        "prompts": prompts_words(manifest),
        "image_size": manifest.image_size,
        "layers": ", ".join(map(str, manifest.layers)),
        "head": manifest.head,
        "precision": manifest.precision,
        "backend": detector.backend,
        "provider": detector.provider,
        "rule": "score" if rule.peak_threshold is None else "score or peak",
        "score_threshold": rule.score_threshold,
        "peak_threshold": rule.peak_threshold,
        "memory": None if (file := manifest.memory_file) is None else manifest.files[file].sha256[:12],
        "tile": "off" if tiling is None else tiling.tile,
        "overlap": None if tiling is None else tiling.overlap,
        "min_defect": None if tiling is None else tiling.min_defect,
        "fast_resize": detector.fast_resize,
        "metrics": _metrics_words(settings, evaluations),
        "mask_above": settings.mask_above,
        "allow_blank_masks": settings.allow_blank_masks,
    }


def _metrics_words(settings: EvalSettings, evaluations: Sequence[DatasetEvaluation]) -> str:
    if settings.exact:
        return "exact"
    error = max(evaluation.auroc_error for evaluation in evaluations)
    return f"streaming, pixel AUROC {f'within {_round_up(error):.1g} of' if error else 'equal to'} exact"


def _round_up(value: float) -> float:
    """The next number of one digit that is not less."""
    unit = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / unit - 1e-9) * unit


def _rows(evaluations: Sequence[DatasetEvaluation]) -> list[dict[str, object]]:
    return [row for evaluation in evaluations for row in evaluation.rows]


def _notes(detector: Detector, reading: ReadSettings) -> list[str]:
    fit = detector.bundle.manifest.backbone
    demonstration = [] if fit.inspection else [f"The backbone {fit.name} is {fit.note}."]
    return [
        *demonstration,
        *(f"{mismatch[0].upper()}{mismatch[1:]}." for mismatch in find_mismatches(detector, reading)),
    ]

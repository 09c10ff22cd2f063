"""What `acl eval` does: judge labelled images, and write what was found in every form that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from acl_runtime.data.datasets import Dataset, read_dataset
from acl_runtime.detector import Detector, Verdict
from acl_runtime.evaluation.drift_table import drift_table
from acl_runtime.evaluation.evaluate import DatasetEvaluation, Judge, evaluate_dataset
from acl_runtime.evaluation.tables import csv_table, json_text, markdown_table, terminal_table
from acl_runtime.files import atomic_file
from acl_runtime.manifest import Manifest
from acl_runtime.report.evaluation import write_eval_report

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvalFiles:
    """Where to write; None for nowhere."""

    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None
    report: Path | None = None  # a folder


@dataclass(frozen=True)
class EvalSettings:
    """How to measure; see `evaluate_dataset`."""

    exact: bool = False
    mask_above: int = 0


class PairedJudge:
    """Gives the verdicts of a reference, and remembers how far a detector's were from them at worst."""

    def __init__(self, detector: Detector, reference: Detector) -> None:
        self._detector, self._reference = detector, reference
        self.score_difference = 0.0
        self.map_difference = 0.0

    def __call__(self, frame: np.ndarray) -> Verdict:
        """The reference's verdict on a frame."""
        verdict, reference = self._detector(frame), self._reference(frame)
        worst = float(np.abs(verdict.anomaly_map - reference.anomaly_map).max())
        self.map_difference = max(self.map_difference, worst)
        self.score_difference = max(self.score_difference, abs(verdict.score - reference.score))
        return reference


def run_evaluation(
    detector: Detector,
    data: Sequence[Path],
    files: EvalFiles,
    settings: EvalSettings,
    *,
    reference: Detector | None = None,
    progress: Progress = lambda what, done, total: None,
) -> str:
    """Evaluate a bundle.

    Args:
        detector: The bundle's.
        data: Folders of data sets.
        files: What to write.
        settings: How to measure.
        reference: What to evaluate too, with the same tiling, to tell the drift of each metric.
        progress: Called with what is done, how many images and of how many.

    Returns:
        The tables for the terminal.
    """
    datasets = [read_dataset(root) for root in data]  # what is wrong with one comes before any work
    evaluations = _evaluate(datasets, detector, settings, partial(_prefix, progress, "judging"))
    texts = [terminal_table(evaluations)]
    if reference is not None:
        pair = PairedJudge(detector, reference)
        theirs = _evaluate(datasets, pair, settings, partial(_prefix, progress, "the reference judges"))
        texts.append(
            drift_table(
                _rows(evaluations),
                _rows(theirs),
                score_difference=pair.score_difference,
                map_difference=pair.map_difference,
            )
        )
    _write(files, evaluations, detector, settings, progress)
    return "\n\n".join(texts)


def _evaluate(
    datasets: Sequence[Dataset], judge: Judge, settings: EvalSettings, progress: Progress
) -> list[DatasetEvaluation]:
    return [
        evaluate_dataset(
            dataset,
            judge,
            exact=settings.exact,
            mask_above=settings.mask_above,
            progress=partial(progress, dataset.name),
        )
        for dataset in datasets
    ]


def _prefix(progress: Progress, prefix: str, what: str, done: int, total: int) -> None:
    progress(f"{prefix} {what}", done, total)


def _rows(evaluations: Sequence[DatasetEvaluation]) -> list[dict[str, object]]:
    return [row for evaluation in evaluations for row in evaluation.rows]


def _write(
    files: EvalFiles,
    evaluations: Sequence[DatasetEvaluation],
    detector: Detector,
    settings: EvalSettings,
    progress: Progress,
) -> None:
    record = _describe(detector, settings)
    _write_text(files.json, lambda: json_text(evaluations, settings=record))
    _write_text(files.csv, lambda: csv_table(evaluations))
    _write_text(files.markdown, lambda: markdown_table(evaluations))
    if files.report is not None:
        write_eval_report(
            files.report,
            evaluations,
            detector,
            rule=detector.rule,
            facts=[(name, str(value)) for name, value in record.items()],
            notes=_notes(detector.bundle.manifest),
            mask_above=settings.mask_above,
            progress=partial(progress, "drawing the page"),
        )


def _write_text(path: Path | None, make: Callable[[], str]) -> None:
    if path is not None:
        with atomic_file(path) as temporary:
            temporary.write_text(make(), encoding="utf-8")


def _describe(detector: Detector, settings: EvalSettings) -> dict[str, object]:
    """How the figures came about, for whoever reads them later."""
    manifest, tiling = detector.bundle.manifest, detector.tiling
    return {
        "backbone": manifest.backbone.name,
        "prompts": f"recipe {manifest.prompts['recipe']}, sha256 {manifest.prompts['sha256'][:12]}",
        "image_size": manifest.image_size,
        "layers": ", ".join(map(str, manifest.layers)),
        "precision": manifest.precision,
        "tile": "off" if tiling is None else tiling.tile,
        "metrics": "exact" if settings.exact else "streaming, within 1e-4 of exact",
        "mask_above": settings.mask_above,
    }


def _notes(manifest: Manifest) -> list[str]:
    fit = manifest.backbone
    return [] if fit.inspection else [f"The backbone {fit.name} is {fit.note}."]

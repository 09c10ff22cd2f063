"""A small judged data set for tests: drawn parts, and a judge who looks for what is bright."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from acl_runtime.data.datasets import Dataset
from acl_runtime.data.samples import Sample
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import DatasetEvaluation, evaluate_dataset
from acl_runtime.scoring.rule import Rule

SIDE = 40  # pixels of a frame
GOOD = (10, 40, 70, 150)  # grey of the spot that each part has; at half of white one good part is rejected
BAD = (110, 180, 200, 220, 250)  # and one defective part is missed
HALF = Rule(0.5, None)


def judge_by(rule: Rule) -> Callable[[np.ndarray], Verdict]:
    """The map is how bright the frame is; score and peak are its largest value."""

    def judge(frame: np.ndarray) -> Verdict:
        anomaly_map = (frame / 255).astype(np.float32)
        value = float(anomaly_map.max())
        return Verdict(
            score=value,
            peak=value,
            is_anomalous=rule.is_anomalous(value, value),
            margin=rule.margin(value, value),
            threshold=rule.score_threshold,
            peak_threshold=rule.peak_threshold,
            regions=(),
            anomaly_map=anomaly_map,
            latency_ms={},
        )

    return judge


def draw_dataset(
    root: Path,
    categories: Sequence[str] = ("nut", "bolt"),
    *,
    name: str = "parts",
    published: str | None = None,
    notes: tuple[str, ...] = (),
    has_masks: bool = True,
    good: Sequence[int] = GOOD,
    bad: Sequence[int] = BAD,
) -> Dataset:
    """Grey squares with a spot each; good and defective ones differ in how bright it is."""
    samples = []
    for number, category in enumerate(categories):
        folder = root / str(number)  # the names of categories may hold what a file's may not
        folder.mkdir(parents=True)
        for index, level in enumerate((*good, *bad)):
            label = int(index >= len(good))
            path, mask = folder / f"{index:03}.png", folder / f"{index:03}_mask.png"
            frame = np.full((SIDE, SIDE), 5, np.uint8)
            frame[10:20, 10:20] = level
            cv2.imwrite(str(path), frame)
            if label and has_masks:
                cv2.imwrite(str(mask), np.where(frame > 5, 255, 0).astype(np.uint8))
            truth = mask if label and has_masks else None
            samples.append(
                Sample(
                    path=path, mask=truth, label=label, category=category, defect="hole" if label else "good"
                )
            )
    return Dataset(
        name=name,
        root=root,
        samples=tuple(samples),
        has_masks=has_masks,
        layout="drawn",
        published=published,
        notes=notes,
    )


def judge_dataset(dataset: Dataset, rule: Rule = HALF) -> DatasetEvaluation:
    """The evaluation of all of it."""
    return evaluate_dataset(dataset, judge_by(rule))

"""Time a bundle beside the published pipeline, frame by frame in turn, with the difference of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from acl_runtime.bundle import load_text_embeddings
from acl_runtime.detector import Detector
from acl_runtime.maps import sigmoid
from acl_train.clip import CLIP
from acl_train.reference import run_reference

STAGES = ("preprocess", "inference", "postprocess")
WARM_UP = 3  # frames that are not counted


@dataclass(frozen=True)
class Speed:
    """Medians over frames, one at a time, both pipelines in one process on one machine.

    Attributes:
        reference_ms: The published steps in PyTorch, per stage.
        bundle_ms: The bundle, per stage.
        score_difference: Largest difference of the scores.
        map_difference: Largest difference of the maps.
        frames: How many were timed.
        spread: Third over first quartile of a frame's time, of the pipeline where it is larger.
    """

    reference_ms: Mapping[str, float]
    bundle_ms: Mapping[str, float]
    score_difference: float
    map_difference: float
    frames: int
    spread: float

    @property
    def is_noisy(self) -> bool:
        """Whether something else kept the machine so busy that the ratio means little."""
        return self.spread > 1.5

    @property
    def ratio(self) -> float:
        """How many times faster the bundle is, preprocessing and post-processing included."""
        return sum(self.reference_ms.values()) / sum(self.bundle_ms.values())


def measure_speed(
    detector: Detector,
    clip: CLIP,
    frames: Sequence[np.ndarray],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Speed:
    """Run both pipelines on every frame in turn and take the medians.

    Args:
        detector: The bundle.
        clip: The network that the bundle was exported from, on the CPU.
        frames: More than `WARM_UP` of them.
        progress: Called with frames done and in all.
    """
    if len(frames) <= WARM_UP:
        raise ValueError(f"frames must be more than {WARM_UP} (the warm-up), got {len(frames)}")
    blur_sigma = detector.bundle.manifest.blur_sigma
    text_embeddings = torch.from_numpy(load_text_embeddings(detector.bundle))
    reference_ms, bundle_ms, differences = [], [], []
    for done, frame in enumerate(frames, start=1):
        reference = run_reference(clip, text_embeddings, [frame], blur_sigma=blur_sigma)
        verdict = detector(frame)
        reference_ms.append([reference.latency_ms[stage] for stage in STAGES])
        bundle_ms.append([verdict.latency_ms[stage] for stage in STAGES])
        score = float(sigmoid(reference.image_logits)[0])
        worst = np.abs(verdict.anomaly_map - reference.anomaly_maps[0]).max()
        differences.append((abs(verdict.score - score), worst))
        progress(done, len(frames))
    score_difference, map_difference = np.max(differences, axis=0).tolist()
    return Speed(
        _medians(reference_ms),
        _medians(bundle_ms),
        score_difference,
        map_difference,
        len(frames) - WARM_UP,
        max(_spread(reference_ms), _spread(bundle_ms)),
    )


def _spread(rows: list[list[float]]) -> float:
    first, third = np.percentile(np.sum(rows[WARM_UP:], axis=1), [25, 75])
    return float(third / first)


def _medians(rows: list[list[float]]) -> dict[str, float]:
    return dict(zip(STAGES, np.median(rows[WARM_UP:], axis=0).tolist(), strict=True))

"""What is measured: a bundle on each backend that this machine has, and the published pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stages import STAGES

REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something whose speed is measured.

    Attributes:
        backend: What computes, such as "onnxruntime"; "reference" for the published pipeline.
        provider: Where, such as "CPUExecutionProvider".
        precision: Of the products, such as "fp32".
        batch: Frames that it is given together.
        run: Called with `batch` frames; returns the milliseconds of each stage, of all of them together.
        detector: What runs; None for the reference.
        image_logits: Worst difference from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
    """

    backend: str
    provider: str
    precision: str
    batch: int
    run: Callable[[Sequence[np.ndarray]], Mapping[str, float]]
    detector: Detector | None = None
    image_logits: float = 0.0
    anomaly_map: float = 0.0


def label(backend: str, precision: str, batch: int) -> str:
    """What to call a configuration."""
    name = backend if backend.endswith(precision) else f"{backend} {precision}"
    return f"{name}, batch {batch}"


def make_candidates(
    bundle: Bundle,
    session: Session,
    precision: str,
    batches: Sequence[int],
    *,
    fast_resize: bool = False,
) -> list[Candidate]:
    """A session as a candidate for each batch size, its parity measured; `fast_resize` as of `Detector`."""
    detector, golden = Detector(bundle, session=session, fast_resize=fast_resize), GoldenImages(bundle)
    found = [golden.compare(session, batch=batch) for batch in batches]
    return [
        Candidate(
            backend=session.backend,
            provider=session.provider,
            precision=precision,
            batch=each.batch,
            run=lambda frames: stages_of(detector, frames),
            detector=detector,
            image_logits=each.image_logits,
            anomaly_map=each.anomaly_map,
        )
        for each in found
    ]


def stages_of(detector: Detector, frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Judge frames together; milliseconds of each stage."""
    verdicts = detector.detect(frames)
    return {stage: sum(verdict.latency_ms[stage] for verdict in verdicts) for stage in STAGES}

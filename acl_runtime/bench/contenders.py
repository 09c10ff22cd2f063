"""What is measured: a bundle on each backend that this machine has, and whoever else is asked to judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stages import STAGES
from acl_runtime.files.errors import InputError

if TYPE_CHECKING:
    from acl_runtime.backends.reduced import Name

REFERENCE = "reference"


@dataclass(frozen=True)
class Contender:
    """Something that judges frames.

    Attributes:
        backend: What computes, such as "onnxruntime"; "reference" for the published pipeline.
        provider: Where, such as "CPUExecutionProvider".
        precision: Of the products, such as "fp32".
        batch: Frames that it judges together.
        judge: Judges `batch` frames and returns the milliseconds of each stage, of all of them together.
        detector: What judges; None for the reference.
        image_logits: Worst difference from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
    """

    backend: str
    provider: str
    precision: str
    batch: int
    judge: Callable[[Sequence[np.ndarray]], Mapping[str, float]]
    detector: Detector | None = None
    image_logits: float = 0.0
    anomaly_map: float = 0.0


def label(backend: str, precision: str, batch: int) -> str:
    """What to call a configuration."""
    name = backend if backend.endswith(precision) else f"{backend} {precision}"
    return f"{name}, batch {batch}"


def open_backend(bundle: Bundle, backend: str, *, tell: Callable[[str], None]) -> tuple[Session, str]:
    """The session of a backend, and the precision that it computes in.

    Args:
        bundle: What to load.
        backend: One of `BACKENDS`.
        tell: Called with what the user should know.

    Raises:
        RuntimeError: It cannot be had on this machine.
        ValueError: There is no such backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, got {backend}")
    return BACKENDS[backend](bundle, tell)


def enter(
    bundle: Bundle,
    backend: str,
    session: Session,
    precision: str,
    batches: Sequence[int],
    *,
    fast_resize: bool = False,
) -> list[Contender]:
    """A session as a contender for each batch size, its parity measured; `fast_resize` as of `Detector`."""
    detector, golden = Detector(bundle, session=session, fast_resize=fast_resize), GoldenImages(bundle)
    found = [golden.compare(session, batch=batch) for batch in batches]
    return [
        Contender(
            backend,
            detector.provider,
            precision,
            each.batch,
            lambda frames: stages_of(detector, frames),
            detector,
            each.image_logits,
            each.anomaly_map,
        )
        for each in found
    ]


def stages_of(detector: Detector, frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Judge frames together; milliseconds of each stage."""
    verdicts = detector.detect(frames)
    return {stage: sum(verdict.latency_ms[stage] for verdict in verdicts) for stage in STAGES}


def _onnxruntime(bundle: Bundle, tell: Callable[[str], None]) -> tuple[Session, str]:
    from acl_runtime.backends.onnx_session import CPU, OnnxSession

    session = OnnxSession.of_bundle(bundle)
    on_cpu = session.provider == CPU and "fp32" in bundle.manifest.arithmetics()
    return session, "fp32" if on_cpu else bundle.manifest.precision


def _openvino(bundle: Bundle, tell: Callable[[str], None]) -> tuple[Session, str]:
    from acl_runtime.backends.openvino_session import OpenVinoSession

    return OpenVinoSession.of_bundle(bundle), "fp32"


def _reduced(backend: Name, bundle: Bundle, tell: Callable[[str], None]) -> tuple[Session, str]:
    from acl_runtime.backends.reduced import open_reduced

    return open_reduced(bundle, backend), backend.rpartition("-")[2]


def _tensorrt(bundle: Bundle, tell: Callable[[str], None]) -> tuple[Session, str]:
    from acl_runtime.backends.tensorrt.choose import open_engine

    session = open_engine(bundle, tell)
    return session, session.engine.record.arithmetic


BACKENDS: dict[str, Callable[[Bundle, Callable[[str], None]], tuple[Session, str]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": partial(_reduced, "openvino-bf16"),
    "openvino-int8": partial(_reduced, "openvino-int8"),
    "onnxruntime-int8": partial(_reduced, "onnxruntime-int8"),
    "tensorrt": _tensorrt,
}

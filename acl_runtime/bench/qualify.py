"""Qualify a backend of fewer bits on this machine: accuracy must hold on labelled images, and speed must improve.

What fewer bits cost is not known until they are tried on the very machine and on images like those of the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from acl_runtime.backends.choose import BACKENDS, ENGINES, Backend, open_backend
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.qualification import (
    FORMAT,
    FORMAT_VERSION,
    Qualification,
    Subject,
    subject_of_engine,
    subject_on_cpu,
    write_qualification,
)
from acl_runtime.backends.session import Session
from acl_runtime.bench.candidates import make_candidates
from acl_runtime.bench.measure import measure
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.data.datasets import load_sample, read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.metric_change import measure_change
from acl_runtime.files.errors import BackendError, InputError

LARGEST_DRIFT = 0.002  # of image and pixel AUROC, 0 to 1
TIMED_FRAMES, TIMED_S = 8, 10.0


def qualify(
    bundle: Bundle,
    backend: str,
    data: Sequence[Path],
    *,
    progress: Callable[[str, int, int], None],
) -> Qualification:
    """Try a backend on labelled images and against the clock, and keep what was found in the bundle.

    Args:
        bundle: What to run.
        backend: What to try, one that needs a qualification.
        data: Folders of labelled images, as `acl eval` reads them.
        progress: Called with what is done, how much of it and of how much.

    Raises:
        BackendError: The backend cannot be had on this machine.
        InputError: It needs no qualification, or the images have no two classes, so that there is no AUROC to compare.
    """
    if backend not in qualifiable():
        raise InputError(f"backend must be one of {', '.join(qualifiable())}, got {backend}")
    session, precision = open_backend(bundle, backend)
    subject = _subject(bundle, backend, session)
    others = _engines(bundle) if backend in ENGINES else _float32_sessions(bundle)
    batch = getattr(session, "max_batch", 1)  # of an engine: what it was optimised for
    detectors = Detector(bundle, session=session), Detector(bundle, session=others[0][0])
    changes = tuple(measure_change(*detectors, [root], progress) for root in data)
    if blind := [each.data[0] for each in changes if "image_auroc" not in each.metrics]:
        raise InputError(f"{', '.join(blind)}: holds no good or no defective images; name labelled data sets")
    candidates = [
        candidate
        for each, its_precision in (*others, (session, precision))
        for candidate in make_candidates(bundle, each, its_precision, [batch])
    ]
    frames = [load_sample(sample) for sample in read_dataset(data[0]).samples[:TIMED_FRAMES]]
    *rivals, low = measure(candidates, frames, seconds=TIMED_S, progress=progress)
    fastest = min(rivals, key=lambda laps: sum(laps.medians_ms.values()))
    found = Qualification(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        backend=backend,
        device=subject.device,
        library_version=subject.library_version,
        sha256=subject.sha256,
        drift=changes,
        largest_drift=LARGEST_DRIFT,
        ratio=low.ratio_to(fastest),
        fastest=fastest.candidate.backend,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    write_qualification(bundle, found)
    return found


def qualifiable() -> list[str]:
    """The backends that need a qualification."""
    return [name for name, entry in BACKENDS.items() if entry.qualified_graph is not None or name in ENGINES]


def _subject(bundle: Bundle, backend: str, session: Session) -> Subject:
    entry = BACKENDS[backend]
    if entry.qualified_graph is not None:
        return subject_on_cpu(bundle, entry.version, entry.qualified_graph(bundle))
    from acl_runtime.backends.tensorrt.session import TrtSession

    assert isinstance(session, TrtSession)
    return subject_of_engine(session)


def _engines(bundle: Bundle) -> list[tuple[Session, str]]:
    """The engine that serves without a qualification, with its precision."""
    return [open_backend(bundle, Backend.tensorrt.value)]


def _float32_sessions(bundle: Bundle) -> list[tuple[Session, str]]:
    """What computes in float32 on this CPU, ONNX Runtime first."""
    sessions: list[Session] = [OnnxSession.of_bundle(bundle, "cpu")]
    with suppress(BackendError):  # not installed: one less to compare with
        sessions.append(open_backend(bundle, Backend.openvino.value)[0])
    return [(session, "fp32") for session in sessions]

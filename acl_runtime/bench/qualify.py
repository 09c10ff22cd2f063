"""Whether a CPU may compute in bf16 or int8: only where it is exact enough on labelled images, and faster.

Fewer bits are a guess until they are tried on the very machine and on images like those of the line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.backends.reduced import (
    FORMAT,
    FORMAT_VERSION,
    PRECISIONS,
    Gate,
    Name,
    gate_path,
    open_reduced,
    subject,
)
from acl_runtime.backends.session import Session
from acl_runtime.bench.contenders import Contender, enter
from acl_runtime.bench.measure import measure
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.data.datasets import load_sample, read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.metric_change import measure_change
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError

LARGEST_DRIFT = 0.002  # of image and pixel AUROC, 0 to 1
TIMED_FRAMES, TIMED_S = 8, 10.0


def judge(
    bundle: Bundle,
    backend: Name,
    data: Sequence[Path],
    *,
    progress: Callable[[str, int, int], None],
) -> Gate:
    """Try a backend on labelled images and against the clock, and keep what was found in the bundle.

    Args:
        bundle: What to run.
        backend: What to try.
        data: Folders of labelled images, as `acl eval` reads them.
        progress: Called with what is done, how much of it and of how much.

    Raises:
        RuntimeError: The backend cannot be had on this machine.
        ValueError: The images have no two classes, so that there is no AUROC to move.
    """
    session = open_reduced(bundle, backend)
    exact = {name: make() for name, make in _exact_sessions(bundle).items()}
    judges = Detector(bundle, session=session), Detector(bundle, session=exact["onnxruntime"])
    drift = tuple(measure_change(*judges, [root], progress) for root in data)
    if blind := [each.data[0] for each in drift if "image_auroc" not in each.metrics]:
        raise InputError(f"{', '.join(blind)}: holds no good or no defective images; name labelled data sets")
    contenders: list[Contender] = [
        entered
        for name, each in {**exact, backend: session}.items()
        for entered in enter(bundle, name, each, PRECISIONS[backend] if name == backend else "fp32", [1])
    ]
    frames = [load_sample(sample) for sample in read_dataset(data[0]).samples[:TIMED_FRAMES]]
    *others, reduced = measure(contenders, frames, seconds=TIMED_S, progress=progress)
    fastest = min(others, key=lambda laps: sum(laps.medians_ms.values()))
    gate = Gate(
        FORMAT,
        FORMAT_VERSION,
        backend,
        *subject(bundle, backend),
        drift,
        LARGEST_DRIFT,
        reduced.ratio_to(fastest),
        fastest.contender.backend,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    path = gate_path(bundle, backend)
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(gate), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return gate


def _exact_sessions(bundle: Bundle) -> dict[str, Callable[[], Session]]:
    """What computes in float32 here."""
    sessions: dict[str, Callable[[], Session]] = {"onnxruntime": lambda: OnnxSession.of_bundle(bundle, "cpu")}
    try:
        from acl_runtime.backends.openvino_session import OpenVinoSession
    except RuntimeError:  # not installed
        return sessions
    return sessions | {"openvino": lambda: OpenVinoSession.of_bundle(bundle)}

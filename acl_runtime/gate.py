"""Whether a CPU may compute in bf16 or int8: only where it is exact enough on labelled images, and faster.

Fewer bits are a guess until they are tried on the very machine and on images like those of the line. The gate's record
lies in the bundle's `engines` folder, and holds for one CPU, one version of the backend and one graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from acl_runtime.bench.contenders import Contender, enter
from acl_runtime.bench.measure import measure
from acl_runtime.bundle import ENGINES, Bundle
from acl_runtime.data.datasets import load_sample, read_dataset
from acl_runtime.detector import Detector
from acl_runtime.evaluation.drift import measure_drift
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.files import atomic_file
from acl_runtime.heads import Session
from acl_runtime.manifest import Drift
from acl_runtime.onnx_session import OnnxSession
from acl_runtime.process import cpu_model
from acl_runtime.strict_json import read_document
from acl_runtime.trt.engine_file import slug

FORMAT: Literal["anomalyclip-gate"] = "anomalyclip-gate"
FORMAT_VERSION: Literal[1] = 1
LARGEST_DRIFT = 0.002  # of image and pixel AUROC, 0 to 1
JUDGED = ("image_auroc", "pixel_auroc")
TIMED_FRAMES, TIMED_S = 8, 10.0

Name = Literal["openvino-bf16", "onnxruntime-int8"]
_PACKAGES = {"openvino-bf16": "openvino", "onnxruntime-int8": "onnxruntime"}
_PRECISIONS = {"openvino-bf16": "bf16", "onnxruntime-int8": "int8"}


@dataclass(frozen=True)
class Gate:
    """What was found, version 1 of the file format: a field is a key, none is optional."""

    format: Literal["anomalyclip-gate"]
    format_version: Literal[1]
    backend: Name
    cpu: str
    library_version: str  # of OpenVINO or ONNX Runtime
    graph_sha256: str
    drift: tuple[Drift, ...]  # of each data set, from the same images judged in float32
    largest_drift: float  # of AUROC that is accepted
    ratio: float  # frames per second, over those of the fastest backend in float32
    fastest: str  # that backend
    created: str  # ISO 8601 date

    def failures(self) -> list[str]:
        """Why it is not let through; none if it is."""
        found = [
            f"{METRICS[name]} of {', '.join(drift.data)} moved by {100 * moved:+.3f} points, at most "
            f"{100 * self.largest_drift:.1f} is accepted"
            for drift in self.drift
            for name in JUDGED
            if not abs(moved := drift.metrics.get(name, 0.0)) <= self.largest_drift
        ]
        if not self.ratio > 1:
            found.append(f"it is no faster here: {self.ratio:.2f} times {self.fastest} in float32")
        return found


def open_reduced(bundle: Bundle, backend: Name) -> Session:
    """The session of a backend with fewer bits, whether or not it was let through.

    Raises:
        RuntimeError: It cannot be had on this machine.
    """
    path = reduced_graph(bundle, backend)
    if backend == "onnxruntime-int8":
        return OnnxSession(path, "cpu")
    from acl_runtime.openvino_session import OpenVinoSession

    return OpenVinoSession(path, precision="bf16")


def reduced_graph(bundle: Bundle, backend: Name) -> Path:
    """The ONNX file that a backend reads; RuntimeError if the bundle lacks it."""
    if backend != "onnxruntime-int8":
        return bundle.cpu_graph_path
    if bundle.manifest.int8 is None:
        raise RuntimeError(f"{bundle.path}: has no graph in int8; export it with acl export --int8")
    return bundle.path / bundle.manifest.int8


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
    drift = tuple(measure_drift(*judges, [root], progress) for root in data)
    if blind := [each.data[0] for each in drift if "image_auroc" not in each.metrics]:
        raise ValueError(f"{', '.join(blind)}: holds no good or no defective images; name labelled data sets")
    contenders: list[Contender] = [
        entered
        for name, each in {**exact, backend: session}.items()
        for entered in enter(bundle, name, each, _PRECISIONS.get(name, "fp32"), [1])
    ]
    frames = [load_sample(sample) for sample in read_dataset(data[0]).samples[:TIMED_FRAMES]]
    *others, reduced = measure(contenders, frames, seconds=TIMED_S, progress=progress)
    fastest = min(others, key=lambda laps: sum(laps.medians_ms.values()))
    gate = Gate(
        FORMAT,
        FORMAT_VERSION,
        backend,
        cpu_model(),
        version(_PACKAGES[backend]),
        _graph_sha256(bundle, backend),
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


def open_gated(bundle: Bundle, backend: Name) -> Session:
    """The session of a backend that was let through on this CPU.

    Raises:
        RuntimeError: It was not, or not here, or not with this version or graph.
        ValueError: The record is damaged.
    """
    remedy = f"run acl build {bundle.path} --backend {backend} --data LABELLED_IMAGES here"
    path = gate_path(bundle, backend)
    if not path.is_file():
        raise RuntimeError(f"{backend} was not tried on this CPU; {remedy}")
    gate: Gate = read_document(
        path, Gate, kind="gate record", format_name=FORMAT, newest=FORMAT_VERSION, remedy=remedy
    )
    here = (cpu_model(), version(_PACKAGES[backend]), _graph_sha256(bundle, backend))
    if here != (gate.cpu, gate.library_version, gate.graph_sha256):
        raise RuntimeError(f"{backend} was tried on another CPU, version or graph; {remedy}")
    if failures := gate.failures():
        raise RuntimeError(f"{backend} was refused on this CPU ({'; '.join(failures)}); use --backend auto")
    return open_reduced(bundle, backend)


def gate_path(bundle: Bundle, backend: Name) -> Path:
    """Where the record of a backend on this CPU is."""
    return bundle.path / ENGINES / f"{slug(cpu_model())}_{backend}.gate.json"


def _graph_sha256(bundle: Bundle, backend: Name) -> str:
    name = reduced_graph(bundle, backend).relative_to(bundle.path).as_posix()
    return bundle.manifest.files[name].sha256


def _exact_sessions(bundle: Bundle) -> dict[str, Callable[[], Session]]:
    """What computes in float32 here."""
    sessions: dict[str, Callable[[], Session]] = {"onnxruntime": lambda: OnnxSession.of_bundle(bundle, "cpu")}
    try:
        from acl_runtime.openvino_session import OpenVinoSession
    except RuntimeError:  # not installed
        return sessions
    return sessions | {"openvino": lambda: OpenVinoSession.of_bundle(bundle)}

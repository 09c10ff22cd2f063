"""bf16 and int8 on CPUs: their sessions, and the record of the gate that lets them through or not, see `gate.py`.

The record lies in the bundle's `engines` folder, and holds for one CPU, one version of the backend and one graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from acl_runtime.backends.host import cpu_model
from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.manifest import Drift
from acl_runtime.files.errors import BackendError
from acl_runtime.files.strict_json import read_document
from acl_runtime.text.names import slug

FORMAT: Literal["anomalyclip-gate"] = "anomalyclip-gate"
FORMAT_VERSION: Literal[1] = 1
JUDGED = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC"}

Name = Literal["openvino-bf16", "openvino-int8", "onnxruntime-int8"]
PRECISIONS: dict[Name, Literal["bf16", "int8"]] = {
    "openvino-bf16": "bf16",
    "openvino-int8": "int8",
    "onnxruntime-int8": "int8",
}


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
            f"{words} of {', '.join(drift.data)} moved by {100 * moved:+.3f} points, at most "
            f"{100 * self.largest_drift:.1f} is accepted"
            for drift in self.drift
            for name, words in JUDGED.items()
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
        from acl_runtime.backends.onnx_session import OnnxSession

        return OnnxSession(path, "cpu", backend=backend)
    from acl_runtime.backends.openvino_session import OpenVinoSession

    return OpenVinoSession(path, precision=PRECISIONS[backend])


def reduced_graph(bundle: Bundle, backend: Name) -> Path:
    """The ONNX file that a backend reads, OpenVINO the one in float32; RuntimeError if the bundle lacks it."""
    if backend != "onnxruntime-int8":
        return bundle.cpu_graph_path
    if bundle.manifest.int8 is None:
        raise BackendError(f"{bundle.path}: has no graph in int8; export it with acl export --int8")
    return bundle.path / bundle.manifest.int8


def open_gated(bundle: Bundle, backend: Name) -> Session:
    """The session of a backend that was let through on this CPU.

    Raises:
        RuntimeError: It was not, or not here, or not with this version or graph.
        ValueError: The record is damaged.
    """
    remedy = f"run acl build {bundle.path} --backend {backend} --data LABELLED_IMAGES here"
    path = gate_path(bundle, backend)
    if not path.is_file():
        raise BackendError(f"{backend} was not tried on this CPU; {remedy}")
    gate: Gate = read_document(
        path, Gate, kind="gate record", format_name=FORMAT, newest=FORMAT_VERSION, remedy=remedy
    )
    if subject(bundle, backend) != (gate.cpu, gate.library_version, gate.graph_sha256):
        raise BackendError(f"{backend} was tried on another CPU, version or graph; {remedy}")
    if failures := gate.failures():
        raise BackendError(f"{backend} was refused on this CPU ({'; '.join(failures)}); use --backend auto")
    return open_reduced(bundle, backend)


def subject(bundle: Bundle, backend: Name) -> tuple[str, str, str]:
    """What a record is about: this CPU, the library's version and the graph's sha256."""
    name = reduced_graph(bundle, backend).relative_to(bundle.path).as_posix()
    return cpu_model(), version(backend.partition("-")[0]), bundle.manifest.files[name].sha256


def gate_path(bundle: Bundle, backend: Name) -> Path:
    """Where the record of a backend on this CPU is."""
    return bundle.path / ENGINES / f"{slug(cpu_model())}_{backend}.gate.json"

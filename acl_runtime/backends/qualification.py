"""The record that a backend with fewer bits holds the accuracy and is faster; `acl qualify` makes it.

It lies in the bundle's `engines` folder, and holds for one CPU, one version of the backend and one graph.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from acl_runtime.backends.host import cpu_model
from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.manifest import Drift
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BackendError
from acl_runtime.files.strict_json import read_document
from acl_runtime.text.names import slug

FORMAT: Literal["anomalyclip-qualification"] = "anomalyclip-qualification"
FORMAT_VERSION: Literal[1] = 1
_OLD_FORMAT = "anomalyclip-gate"  # of NAME.gate.json, with the same keys
METRICS = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC"}  # that must not move


@dataclass(frozen=True, kw_only=True)
class Qualification:
    """What was found, version 1 of the file format: a field is a key, none is optional."""

    format: Literal["anomalyclip-qualification", "anomalyclip-gate"]
    format_version: Literal[1]
    backend: str
    cpu: str
    library_version: str  # of OpenVINO or ONNX Runtime
    graph_sha256: str
    drift: tuple[Drift, ...]  # of each data set, from the same images judged in float32
    largest_drift: float  # of AUROC that is accepted
    ratio: float  # frames per second, over those of the fastest backend in float32
    fastest: str  # that backend
    created: str  # ISO 8601 date

    def failures(self) -> list[str]:
        """Why the backend is not qualified; none if it is."""
        found = [
            f"{words} of {', '.join(change.data)} moved by {100 * moved:+.3f} points, at most "
            f"{100 * self.largest_drift:.1f} is accepted"
            for change in self.drift
            for name, words in METRICS.items()
            if not abs(moved := change.metrics.get(name, 0.0)) <= self.largest_drift
        ]
        if not self.ratio > 1:
            found.append(f"it is no faster here: {self.ratio:.2f} times {self.fastest} in float32")
        return found


def check_qualified(bundle: Bundle, backend: str, library_version: str, graph: Path) -> None:
    """See that a backend was qualified on this CPU, in this version and with this graph.

    Args:
        bundle: Whose record counts.
        backend: Name in `BACKENDS`.
        library_version: Of what would run it.
        graph: The ONNX file that it would read.

    Raises:
        BackendError: It was not, or failed.
        InputError: The record is damaged.
    """
    remedy = f"run acl qualify {bundle.path} --backend {backend} --data LABELLED_IMAGES here"
    found = read_qualification(bundle, backend, remedy)
    if found is None:
        raise BackendError(f"{backend} is not qualified on this CPU; {remedy}")
    if (found.cpu, found.library_version, found.graph_sha256) != (
        cpu_model(),
        library_version,
        graph_sha256(bundle, graph),
    ):
        raise BackendError(f"{backend} was qualified on another CPU, version or graph; {remedy}")
    if failures := found.failures():
        raise BackendError(f"{backend} failed on this CPU ({'; '.join(failures)}); use --backend auto")


def read_qualification(bundle: Bundle, backend: str, remedy: str) -> Qualification | None:
    """Return the record of a backend on this CPU; None if there is none.

    Args:
        bundle: Where it is.
        backend: Name in `BACKENDS`.
        remedy: What to do about a damaged one.

    Raises:
        InputError: It is damaged.
    """
    path = qualification_path(bundle, backend)
    old = path.with_name(path.name.replace(".qualification.json", ".gate.json"))
    for file, format_name in ((path, FORMAT), (old, _OLD_FORMAT)):
        if file.is_file():
            found: Qualification = read_document(
                file,
                Qualification,
                kind="qualification record",
                format_name=format_name,
                newest=FORMAT_VERSION,
                remedy=remedy,
            )
            return found
    return None


def write_qualification(bundle: Bundle, qualification: Qualification) -> None:
    """Write the record into the bundle, atomically."""
    path = qualification_path(bundle, qualification.backend)
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(qualification), indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def qualification_path(bundle: Bundle, backend: str) -> Path:
    """Where the record of a backend on this CPU is."""
    return bundle.path / ENGINES / f"{slug(cpu_model())}_{backend}.qualification.json"


def graph_sha256(bundle: Bundle, graph: Path) -> str:
    """The hash of a graph of the bundle, as its manifest has it."""
    return bundle.manifest.files[graph.relative_to(bundle.path).as_posix()].sha256

"""The record that a backend with fewer bits holds the accuracy and is faster; `acl qualify` makes it.

It lies in the bundle's `engines` folder, and holds for one device, one version of the backend and one graph or engine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from acl_runtime.backends.host import cpu_model
from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.manifest import Drift
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.files.strict_json import parse_document, read_strictly
from acl_runtime.text.names import slug

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.session import TrtSession

FORMAT: Literal["anomalyclip-qualification"] = "anomalyclip-qualification"
FORMAT_VERSION: Literal[2] = 2
_OLD_FORMAT = "anomalyclip-gate"  # of NAME.gate.json, with the same keys
METRICS = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC"}  # that must not move


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a qualification is about; it holds for nothing else."""

    device: str  # the CPU's model, or the GPU
    library_version: str  # of what computes, with a GPU's driver
    sha256: str  # of the graph, or of the engines, with spaces between

    def holds_for(self, other: Subject) -> bool:
        """Whether what was found for this one holds for the other, which may run fewer of the engines."""
        same = (self.device, self.library_version) == (other.device, other.library_version)
        return same and set(other.sha256.split()) <= set(self.sha256.split())


@dataclass(frozen=True, kw_only=True)
class Qualification:
    """What was found, version 2 of the file format: a field is a key, none is optional.

    Version 1 was for CPUs alone, and called `device` and `sha256` `cpu` and `graph_sha256`.
    """

    format: Literal["anomalyclip-qualification", "anomalyclip-gate"]
    format_version: Literal[2]
    backend: str
    device: str  # this and the next two: see `Subject`
    library_version: str
    sha256: str
    drift: tuple[Drift, ...]  # of each data set, from the same images judged in float32
    largest_drift: float  # of AUROC that is accepted
    ratio: float  # frames per second, over those of the fastest that needs no qualification
    fastest: str  # that backend
    created: str  # ISO 8601 date

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return Subject(device=self.device, library_version=self.library_version, sha256=self.sha256)

    @property
    def rival(self) -> str:
        """What it was compared with, in words."""
        return "the bundle's own engine" if self.fastest == "tensorrt" else f"{self.fastest} in float32"

    def failures(self) -> list[str]:
        """Why the backend is not qualified; none if it is."""
        found = [
            f"Image AUROC of {', '.join(change.data)} was not compared"
            for change in self.drift
            if "image_auroc" not in change.metrics
        ]
        found += [] if self.drift else ["no labelled images were compared"]
        found += [
            f"{words} of {', '.join(change.data)} moved by {100 * moved:+.3f} points, at most "
            f"{100 * self.largest_drift:.1f} is accepted"
            for change in self.drift
            for name, words in METRICS.items()
            if not abs(moved := change.metrics.get(name, 0.0)) <= self.largest_drift
        ]
        if not self.ratio > 1:
            found.append(f"it is no faster here: {self.ratio:.2f} times {self.rival}")
        return found


def subject_on_cpu(bundle: Bundle, library_version: str, graph: Path) -> Subject:
    """A graph on this CPU.

    Args:
        bundle: With the graph.
        library_version: Of what would run it.
        graph: The ONNX file that it would read.
    """
    return Subject(
        device=cpu_model(),
        library_version=library_version,
        sha256=bundle.manifest.files[graph.relative_to(bundle.path).as_posix()].sha256,
    )


def subject_of_engine(session: TrtSession) -> Subject:
    """Engines on the GPU that they are loaded on."""
    from acl_runtime.backends.tensorrt.engine_file import gpu_words

    library, cuda = session.library, session.cuda
    return Subject(
        device=gpu_words(cuda.name, cuda.multiprocessors, cuda.total_bytes),
        library_version=f"{library.name} {library.version}, driver {cuda.driver}",
        sha256=" ".join(engine.record.sha256 for engine in session.engines),
    )


def check_qualified(bundle: Bundle, backend: str, subject: Subject) -> None:
    """See that a backend was qualified on this device, in this version and with this graph or engine.

    Args:
        bundle: Whose record counts.
        backend: Name in `BACKENDS`.
        subject: What would run.

    Raises:
        BackendError: It was not, or failed.
        InputError: The record is damaged.
    """
    remedy = f"run acl qualify {bundle.path} --backend {backend} --data LABELLED_IMAGES here"
    found = read_qualification(bundle, backend, subject.device, remedy)
    if found is None:
        raise BackendError(f"{backend} is not qualified on {subject.device}; {remedy}")
    if not found.subject.holds_for(subject):
        raise BackendError(f"{backend} was qualified on another device, version, graph or engine; {remedy}")
    if failures := found.failures():
        raise BackendError(
            f"{backend} failed on {subject.device} ({'; '.join(failures)}); use --backend auto"
        )


def read_qualification(bundle: Bundle, backend: str, device: str, remedy: str) -> Qualification | None:
    """Return the record of a backend on a device; None if there is none.

    Args:
        bundle: Where it is.
        backend: Name in `BACKENDS`.
        device: See `Subject`.
        remedy: What to do about a damaged one.

    Raises:
        InputError: It is damaged.
    """
    path = qualification_path(bundle, backend, device)
    old = path.with_name(path.name.replace(".qualification.json", ".gate.json"))
    for file, format_name in ((path, FORMAT), (old, _OLD_FORMAT)):
        if file.is_file():
            try:
                return _read(file.read_bytes(), format_name, remedy)
            except ValueError as error:
                raise InputError(f"{file}: {error}; {remedy}") from error
    return None


def _read(text: bytes, format_name: str, remedy: str) -> Qualification:
    document = parse_document(
        text, kind="qualification record", format_name=format_name, newest=FORMAT_VERSION, remedy=remedy
    )
    if document.get("format_version") == 1:
        names = {"cpu": "device", "graph_sha256": "sha256"}
        document = {names.get(key, key): value for key, value in document.items()}
        document["format_version"] = FORMAT_VERSION
    qualification: Qualification = read_strictly(Qualification, document, "qualification record")
    return qualification


def write_qualification(bundle: Bundle, qualification: Qualification) -> None:
    """Write the record into the bundle, atomically."""
    path = qualification_path(bundle, qualification.backend, qualification.device)
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(qualification), indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def qualification_path(bundle: Bundle, backend: str, device: str) -> Path:
    """Where the record of a backend on a device is."""
    return bundle.path / ENGINES / f"{slug(device)}_{backend}.qualification.json"

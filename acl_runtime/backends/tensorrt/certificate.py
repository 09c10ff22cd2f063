"""The proof that an engine computes what was trained: the golden images, on this very GPU, at every batch size.

An engine that was built without a complaint may still compute something else: see the faults that `acl doctor` knows.
So the bundle's golden images run through it, and what comes out is compared with torch in float32. The certificate says
how far it was off, and for what: the engine, the graph, the images, the GPU, its driver and TensorRT. It is made after
building, and again at the first load where any of these is another. What an engine can do is proven in each of the
session's slots, in all of them at once, and with the maps left on the GPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

import numpy as np

from acl_runtime.backends.parity import Difference, GoldenImages, answers_of, worst_of
from acl_runtime.backends.tensorrt.engine_file import Engine, is_alike, is_of
from acl_runtime.backends.tensorrt.plan import MAPS
from acl_runtime.bundle.bundle import GOLDEN, Bundle
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.files.strict_json import read_document

if TYPE_CHECKING:
    from acl_runtime.backends.session import Session
    from acl_runtime.backends.tensorrt.cuda import Cuda
    from acl_runtime.backends.tensorrt.library import Library
    from acl_runtime.backends.tensorrt.session import TrtSession

LOG = logging.getLogger("acl")
FORMAT: Literal["anomalyclip-certificate"] = "anomalyclip-certificate"
FORMAT_VERSION: Literal[2] = 2
_WORDS = {"multiprocessors": "number of multiprocessors", "memory_bytes": "size of the GPU's memory"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a certificate is about; it holds for nothing else."""

    engine_sha256: str
    sources: dict[str, str]  # sha256 of the graph and its weights, by file name
    golden_sha256: str  # of the images and torch's answers
    library: str
    library_version: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    driver: str

    def is_same(self, other: Subject) -> bool:
        """Whether what is proven for one holds for the other."""
        alike = is_alike(self.memory_bytes, other.memory_bytes)
        return alike and replace(self, memory_bytes=other.memory_bytes) == other


@dataclass(frozen=True)
class BatchResult:
    """Worst absolute differences from torch in float32 at one batch size; null: nan or infinity came out."""

    batch: int
    image_logits: float | None  # log-odds
    anomaly_map: float | None  # probability


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What came out, version 2 of the file format: a field is a key, none is optional."""

    format: Literal["anomalyclip-certificate"]
    format_version: Literal[2]
    subject: Subject
    arithmetic: str
    reference: str  # what the engine was compared with
    images: int  # how many golden images
    batches: tuple[BatchResult, ...]  # every size from 1 to the engine's largest
    own_images: int  # how many of the line's own, see `prove_on_images`
    own_batches: tuple[
        BatchResult, ...
    ]  # on these, compared with the CPU's float32; one and the most at once
    tolerance: dict[str, float]  # largest difference of image_logits and anomaly_map that is accepted
    created: str  # ISO 8601 date
    seal: str  # checksum: sha256 of all the others, to notice a file that was damaged or edited

    @property
    def holds(self) -> bool:
        """Whether every figure is within tolerance."""
        return not self.failures()

    @property
    def worst(self) -> Mapping[str, float]:
        """Largest difference over the batch sizes, by name; infinite where nan came out."""
        results = (*self.batches, *self.own_batches)
        return {name: max(_figure(result, name) for result in results) for name in self.tolerance}

    def failures(self) -> list[str]:
        """What is past tolerance, in words; the first batch size of each."""
        return [text for name, limit in self.tolerance.items() if (text := self._failure(name, limit))]

    def _failure(self, name: str, limit: float) -> str:
        for result in (*self.batches, *self.own_batches):
            if not (figure := _figure(result, name)) <= limit:
                off = f"off by {figure:.2g}" if math.isfinite(figure) else "nan or infinity"
                where = " on images of the line" if result in self.own_batches else ""
                return f"{name} {off} at batch {result.batch}{where}, at most {limit:g} is accepted"
        return ""


def certify(session: TrtSession, bundle: Bundle, progress: Callable[[int, int], None]) -> Certificate:
    """Run the golden images through an engine at every batch size that it serves.

    Args:
        session: The engine, loaded.
        bundle: What it was built from.
        progress: Called with rounds of a batch size done and in all.

    Returns:
        The certificate, whether or not it holds.
    """
    golden, manifest, engine = GoldenImages(bundle), bundle.manifest, session.engine
    most = session.max_batch
    # last from small to large and back: all sizes work in the same memory, which may hold what another left there
    calls = [*range(1, most + 1), *((1, most, 1) if most > 1 else ())]
    found: dict[int, Difference] = {}

    def note(difference: Difference) -> None:
        found[difference.batch] = worst_of(found.get(difference.batch, difference), difference)

    total = len(calls) * session.slots
    for slot in range(session.slots):
        with session.only(slot):
            for number, batch in enumerate(calls, start=1 + slot * len(calls)):
                note(golden.compare(session, batch=batch))
                if session.can_be_brief:
                    note(_compare_brief(session, golden, batch))
                progress(number, total)
    with ThreadPoolExecutor(session.slots) as threads:  # all slots at once
        for difference in threads.map(lambda _: golden.compare(session, batch=most), range(session.slots)):
            note(difference)
    certificate = Certificate(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        subject=subject_of(engine, bundle, session.library, session.cuda),
        arithmetic=engine.record.arithmetic,
        reference=manifest.parity.reference,
        images=len(golden),
        batches=tuple(_result(found[batch]) for batch in range(1, most + 1)),
        own_images=0,
        own_batches=(),
        tolerance=dict(manifest.parity_of(engine.record.arithmetic).tolerance),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seal="",
    )
    return replace(certificate, seal=_checksum(certificate))


def _compare_brief(session: TrtSession, golden: GoldenImages, batch: int) -> Difference:
    """The same of calls whose maps stay on the GPU, and how far peaks and means are from those of the maps."""
    off = [0.0]

    def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
        brief = session.brief(images, lambda logits, peaks: np.ones(len(logits), bool))
        maps = np.stack([each for each in brief.maps if each is not None])
        means = (brief.sums - maps.sum(axis=(1, 2))) / maps[0].size
        summaries = np.abs([brief.peaks - maps.max(axis=(1, 2)), means])
        off.append(float(summaries.max()) if np.isfinite(summaries).all() else math.inf)
        return {"image_logits": brief.image_logits, MAPS: maps}

    found = golden.compare(run, batch=batch, rounds=2)  # the first is recorded, the second replayed
    return replace(found, anomaly_map=max(found.anomaly_map, *off))


def subject_of(engine: Engine, bundle: Bundle, library: Library, cuda: Cuda) -> Subject:
    """What a certificate of this engine on this machine would be about."""
    return Subject(
        engine_sha256=engine.record.sha256,
        sources=dict(engine.record.sources),
        golden_sha256=bundle.manifest.files[GOLDEN].sha256,
        library=library.name,
        library_version=library.version,
        gpu=cuda.name,
        compute_capability=cuda.compute_capability,
        multiprocessors=cuda.multiprocessors,
        memory_bytes=cuda.total_bytes,
        driver=cuda.driver,
    )


def is_about(certificate: Certificate, engine: Engine, bundle: Bundle) -> bool:
    """Whether a certificate is of an engine as it lies in the bundle, whatever the GPU that it was made on.

    The engine's bytes, the graph, the golden images and what is accepted are those of today; a certificate that was
    left by another engine of the same name is about none of them.
    """
    record, subject = engine.record, certificate.subject
    return (
        is_of(record, bundle)
        and (subject.engine_sha256, subject.sources) == (record.sha256, record.sources)
        and subject.golden_sha256 == bundle.manifest.files[GOLDEN].sha256
        and certificate.arithmetic == record.arithmetic
        and certificate.tolerance == bundle.manifest.parity_of(record.arithmetic).tolerance
    )


def find_certificate(engine: Engine, bundle: Bundle) -> Certificate | None:
    """The certificate of an engine as it lies in the bundle; None if there is none, or one about another.

    Raises:
        InputError: It is damaged, or was edited.
    """
    certificate = read_certificate(engine)
    return certificate if certificate is not None and is_about(certificate, engine, bundle) else None


def write_certificate(engine: Engine, certificate: Certificate) -> None:
    """Write the certificate beside its engine, atomically."""
    with atomic_file(engine.certificate_path) as temporary:
        temporary.write_text(
            json.dumps(asdict(certificate), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_certificate(engine: Engine) -> Certificate | None:
    """The certificate beside an engine; None if there is none.

    Raises:
        ValueError: It is damaged, or was edited.
    """
    path, remedy = engine.certificate_path, "delete it: the engine is then proven again at the next load"
    if not path.is_file():
        return None
    certificate: Certificate = read_document(
        path, Certificate, kind="certificate", format_name=FORMAT, newest=FORMAT_VERSION, remedy=remedy
    )
    if certificate.seal != _checksum(certificate):
        raise InputError(f"{path}: was altered after it was made (its checksum differs); {remedy}")
    return certificate


def is_current(certificate: Certificate, subject: Subject, engine: Engine, bundle: Bundle) -> bool:
    """Whether what a certificate says still counts for an engine, on the machine that the subject names."""
    return certificate.subject.is_same(subject) and is_about(certificate, engine, bundle)


def prove(session: TrtSession, bundle: Bundle) -> Certificate:
    """See that there is a certificate for the session's one engine on this machine, and that it holds.

    It is made now, with a note, if there is none, or if it is about another GPU, driver, TensorRT, engine or graph.

    Args:
        session: The engine, loaded; of several one, see `TrtSession.of`.
        bundle: What it was built from.

    Raises:
        RuntimeError: The engine computes something else; it must not be served.
        ValueError: The certificate is damaged, or was edited.
    """
    engine = session.engine
    subject = subject_of(engine, bundle, session.library, session.cuda)
    certificate = read_certificate(engine)
    if certificate is None or not is_current(certificate, subject, engine, bundle):
        LOG.warning("proving %s on %s: %s", engine.path.name, session.cuda.name, _why(certificate, subject))
        certificate = certify(session, bundle, lambda done, total: None)
        _keep(certificate, engine)
    _check_holds(certificate, session, bundle)
    return certificate


def prove_on_images(session: TrtSession, bundle: Bundle, images: np.ndarray, exact: Session) -> Certificate:
    """Compare a proven engine on images of the line too, and note it in its certificate.

    A certificate that is made anew, after a change of driver for instance, knows of no such images.

    Args:
        session: The engine, loaded.
        bundle: What it was built from.
        images: (N, S, S, 3) uint8, as the graph takes them.
        exact: Computes the bundle's graph in float32.

    Raises:
        BackendError: The engine computes something else; its certificate says so, so that it is not served any more.
    """
    known = GoldenImages(bundle, answers_of(exact, bundle, images))
    for number in range(len(session.engines)):
        one = session.of(number)
        certificate = prove(one, bundle)
        results = tuple(
            _result(known.compare(one, batch=batch)) for batch in dict.fromkeys((1, one.max_batch))
        )
        certificate = replace(certificate, own_images=len(images), own_batches=results)
        certificate = replace(certificate, seal=_checksum(certificate))
        _keep(certificate, one.engine)
        _check_holds(certificate, one, bundle)
    return prove(session.of(0), bundle)


def _keep(certificate: Certificate, engine: Engine) -> None:
    try:
        write_certificate(engine, certificate)
    except OSError as error:
        where, why = engine.certificate_path, error.strerror
        LOG.warning("%s: cannot be written (%s): proven again at each load", where, why)


def _check_holds(certificate: Certificate, session: TrtSession, bundle: Bundle) -> None:
    if not certificate.holds:
        raise BackendError(
            f"{session.engine.path.name} does not compute what was trained on {session.cuda.name}: "
            f"{'; '.join(certificate.failures())}; run acl build {bundle.path} here to find an arithmetic that does, "
            "or use --backend onnxruntime"
        )


def _why(certificate: Certificate | None, subject: Subject) -> str:
    if certificate is None:
        return "it has no certificate yet"
    old, new = asdict(certificate.subject), asdict(subject)
    if is_alike(old["memory_bytes"], new["memory_bytes"]):
        del old["memory_bytes"]
    changed = [_WORDS.get(name, name.replace("_", " ")) for name in old if old[name] != new[name]]
    if not changed:
        return "its certificate accepts other differences than the bundle does"
    return f"its certificate is about another {', '.join(changed)}"


def _result(difference: Difference) -> BatchResult:
    figures = (difference.image_logits, difference.anomaly_map)
    logits, maps = (figure if math.isfinite(figure) else None for figure in figures)
    return BatchResult(difference.batch, logits, maps)


def _figure(result: BatchResult, name: str) -> float:
    figure = getattr(result, name)
    return math.inf if figure is None else float(figure)


def _checksum(certificate: Certificate) -> str:
    text = json.dumps(asdict(replace(certificate, seal="")), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

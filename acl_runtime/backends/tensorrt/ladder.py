"""Build an engine, prove it, and where it does not hold, go down to more careful arithmetic."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.tensorrt.build import BuildError, BuildReport, BuildRequest, build_engine
from acl_runtime.backends.tensorrt.certificate import Certificate, certify, write_certificate
from acl_runtime.backends.tensorrt.engine_file import (
    FORMAT,
    FORMAT_VERSION,
    Engine,
    EngineRecord,
    engine_name,
    target_name,
    write_record,
)
from acl_runtime.backends.tensorrt.library import why_not_in
from acl_runtime.backends.tensorrt.plan import PEAKS, SUMS
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.identity import hash_sources
from acl_runtime.bundle.manifest import Arithmetic, Tensor
from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import BackendError, InputError
from acl_runtime.files.locks import locked_folder

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.cuda import Cuda
    from acl_runtime.backends.tensorrt.library import Library

_SCRATCH = ".build-"  # how folders begin that an engine is built in
TIMED_CALLS = 20  # at the largest batch, for what a step costs


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Which engine to build.

    Attributes:
        min_batch: Fewest images at once.
        max_batch: Most images at once; the engine is optimised for these.
        compute_capabilities: Of the GPUs to build for, TensorRT-RTX only; none for the GPU of this machine.
        workspace_bytes: Most scratch memory for a kernel; None for no limit.
        optimization_level: How long the builder searches, 0 to 5; None for its default.
        weightless: Leave the weights out of the engine.
        first: Where on the ladder to begin; None for the bundle's own arithmetic.
    """

    min_batch: int = 1
    max_batch: int = 1
    compute_capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    weightless: bool = False
    first: Arithmetic | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One step of the ladder.

    Attributes:
        arithmetic: Of the engine.
        engine: In the bundle if it holds, or could not be proven here; None if it was refused or not built.
        certificate: What the golden images said; None if nothing could be run here.
        latency_ms: Median time of a call with `max_batch` images.
        warnings: Of TensorRT, while it built, loaded or ran the engine.
        problem: Why there is no engine; empty if there is one.
    """

    arithmetic: Arithmetic
    engine: Engine | None = None
    certificate: Certificate | None = None
    latency_ms: float | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()


def make_engine(
    bundle: Bundle,
    library: Library,
    cuda: Cuda | None,
    options: EngineOptions,
    *,
    progress: Callable[[str, int, int], None],
) -> tuple[Attempt, ...]:
    """Build engines down the bundle's ladder until one computes what was trained, and keep that one.

    An older engine is replaced only by one that holds; what does not hold is deleted, but for the builder's log.

    Args:
        bundle: What to build from.
        library: What to build with.
        cuda: The GPU to prove it on; None where there is none, and then the first step that can be built is kept.
        options: Which engine.
        progress: Called with what is done, how much of it, and how much in all.

    Returns:
        The steps tried, in their order; the last has the engine.

    Raises:
        InputError: Another process builds engines of this bundle.
        RuntimeError: No step holds; the sentence has the figures of each.
    """
    _check_batch(bundle, options)
    if cuda is not None and (reason := library.why_not_on(cuda.cuda_version)):
        if not options.compute_capabilities:
            raise BackendError(reason)
        cuda = None  # it builds for other machines; nothing can be proven here
    arithmetics = bundle.manifest.arithmetics(options.first)
    if cuda is not None or options.compute_capabilities:
        _check_arithmetic(options, _target(options, cuda)[1], library)
    folder = bundle.path / ENGINES
    folder.mkdir(exist_ok=True)
    with locked_folder(folder, "wait until that build has ended"):
        for left in folder.glob(f"{_SCRATCH}*"):  # by a build that was killed
            shutil.rmtree(left)
        attempts = _go_down(_Job(bundle, library, cuda, options, progress), arithmetics, folder)
    if attempts[-1].engine is not None:
        return tuple(attempts)
    told = "; ".join(f"{attempt.arithmetic}: {attempt.problem}" for attempt in attempts)
    raise BackendError(f"no engine was made, older ones are as they were ({told})")


def _go_down(job: _Job, arithmetics: Sequence[Arithmetic], folder: Path) -> list[Attempt]:
    """The steps tried, until one gave an engine, which is in `folder` then."""
    attempts: list[Attempt] = []
    for arithmetic in arithmetics:
        with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as scratch:
            attempt = _attempt(job, arithmetic, Path(scratch))
            if attempt.engine is not None:
                attempt = replace(attempt, engine=_install(attempt.engine, folder))
        attempts.append(attempt)
        if attempt.engine is not None:
            break
    return attempts


@dataclass(frozen=True)
class _Job:
    """What `make_engine` was asked for."""

    bundle: Bundle
    library: Library
    cuda: Cuda | None
    options: EngineOptions
    progress: Callable[[str, int, int], None]


def _attempt(job: _Job, arithmetic: Arithmetic, scratch: Path) -> Attempt:
    bundle, cuda = job.bundle, job.cuda
    try:
        engine, warnings = _build(job, arithmetic, scratch)
    except BuildError as error:
        return Attempt(arithmetic=arithmetic, problem=str(error))
    if cuda is None or cuda.compute_capability not in engine.record.compute_capabilities:
        return Attempt(arithmetic=arithmetic, engine=engine, warnings=warnings)
    try:
        with TrtSession(bundle, engine, library=job.library, cuda=cuda) as session:
            certificate = certify(
                session, bundle, lambda done, total: job.progress(f"proving {arithmetic}", done, total)
            )
            latency_ms = _time(session, GoldenImages(bundle))
            warnings = tuple(dict.fromkeys((*warnings, *session.notes)))
    except BackendError as error:  # it cannot be loaded or run
        return Attempt(arithmetic=arithmetic, problem=str(error), warnings=warnings)
    attempt = Attempt(
        arithmetic=arithmetic, certificate=certificate, latency_ms=latency_ms, warnings=warnings
    )
    if not certificate.holds:
        return replace(attempt, problem="; ".join(certificate.failures()))
    write_certificate(engine, certificate)
    return replace(attempt, engine=engine)


def _build(job: _Job, arithmetic: Arithmetic, scratch: Path) -> tuple[Engine, tuple[str, ...]]:
    """A new engine with its record, in `scratch`, and what the builder warned of."""
    bundle, library, options = job.bundle, job.library, job.options
    cuda, capabilities = _target(options, job.cuda)
    gpu, multiprocessors = (None, None) if cuda is None else (cuda.name, cuda.multiprocessors)
    name = engine_name(
        library=library.name,
        library_version=library.version,
        gpu=gpu,
        multiprocessors=multiprocessors,
        compute_capabilities=capabilities,
        arithmetic=arithmetic,
        min_batch=options.min_batch,
        max_batch=options.max_batch,
    )
    graph, folder = bundle.manifest.graph_file(arithmetic), bundle.path / ENGINES
    plan = scratch / f"{name}.engine"
    request = BuildRequest(
        library=library.name,
        graph=bundle.path / graph,
        plan=plan,
        min_batch=options.min_batch,
        max_batch=options.max_batch,
        compute_capabilities=capabilities if library.is_rtx else (),
        workspace_bytes=options.workspace_bytes,
        optimization_level=options.optimization_level,
        timing_cache=folder / f"{target_name(gpu, multiprocessors)}_{library.name}-{library.version}.timing",
        weightless=options.weightless,
        gpu_uuid=None if cuda is None or cuda.count == 1 else cuda.uuid,
    )
    report = build_engine(
        request,
        log=folder / f"{name}.log",
        progress=lambda what, done, total: job.progress(f"{arithmetic}: {what}", done, total),
    )
    _check_tensors(bundle, options, report)
    record = EngineRecord(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        library=library.name,
        library_version=library.version,
        gpu=gpu,
        multiprocessors=multiprocessors,
        memory_bytes=None if cuda is None else cuda.total_bytes,
        compute_capabilities=capabilities,
        platform=f"{sys.platform}-{platform.machine()}".lower(),
        arithmetic=arithmetic,
        sources=hash_sources(bundle, graph),
        min_batch=options.min_batch,
        max_batch=options.max_batch,
        weightless=options.weightless,
        inputs=report.inputs,
        outputs=report.outputs,
        activation_bytes=report.activation_bytes,
        fused_attention=report.fused_attention,
        workspace_bytes=options.workspace_bytes,
        optimization_level=options.optimization_level,
        build_seconds=report.seconds,
        sha256=sha256(plan),
        bytes=plan.stat().st_size,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    write_record(plan, record)
    return Engine(plan, record), report.warnings


def _target(options: EngineOptions, cuda: Cuda | None) -> tuple[Cuda | None, tuple[str, ...]]:
    """The GPU to build on, None for none, and the compute capabilities to build for."""
    if options.compute_capabilities:
        return None, options.compute_capabilities
    if cuda is None:
        raise BackendError(
            "there is no GPU to build for; name those that will run it with --compute-capability"
        )
    return cuda, (cuda.compute_capability,)


def _install(engine: Engine, folder: Path) -> Engine:
    """Move an engine and all that belongs to it into `folder`; its record comes last."""
    record = engine.path.with_suffix(".json")
    files = [path for path in engine.path.parent.iterdir() if path != record]
    for path in (*files, record):
        os.replace(path, folder / path.name)
    return Engine(folder / engine.path.name, engine.record)


def _time(session: TrtSession, golden: GoldenImages) -> float:
    images = golden.images(golden.rows(0, session.max_batch))
    laps = []
    for _ in range(TIMED_CALLS):
        started = time.perf_counter()
        session(images)
        laps.append(1000 * (time.perf_counter() - started))
    return statistics.median(laps)


def _check_arithmetic(options: EngineOptions, capabilities: tuple[str, ...], library: Library) -> None:
    """Raise BackendError unless the GPUs multiply in the arithmetic to begin with."""
    known = library.compute_capabilities if library.is_rtx else capabilities  # of others the builder tells
    if reason := why_not_in(options.first, [each for each in capabilities if each in known]):
        raise BackendError(reason)


def _check_batch(bundle: Bundle, options: EngineOptions) -> None:
    limit = bundle.manifest.max_batch
    if not 1 <= options.min_batch <= options.max_batch <= limit:
        raise InputError(
            f"batch must be a size or range within 1..{limit} (the bundle's max_batch), got "
            f"{options.min_batch}..{options.max_batch}; export with a larger --max-batch for more"
        )


def _check_tensors(bundle: Bundle, options: EngineOptions, report: BuildReport) -> None:
    """Raise BuildError unless what goes in and out is what the manifest says."""
    fixed = options.min_batch == options.max_batch
    graph = bundle.manifest.graph

    def expected(tensors: tuple[Tensor, ...]) -> set[Tensor]:
        batch = options.max_batch if fixed else "batch"
        return {replace(tensor, shape=(batch, *tensor.shape[1:])) for tensor in tensors}

    answers = tuple(tensor for tensor in report.outputs if tensor.name not in (PEAKS, SUMS))
    for built, wanted in ((report.inputs, graph.inputs), (answers, graph.outputs)):
        if set(built) != expected(wanted):
            raise BuildError(
                f"the engine has {list(built)}, the manifest says {list(wanted)}; please report this"
            )

"""Choose among a bundle's engines the one for this machine, load it and see that it is proven."""

from __future__ import annotations

import logging

from acl_runtime.backends.tensorrt.certificate import is_current, prove, read_certificate, subject_of
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.engine_file import Engine, EngineRecord, Engines, list_engines, why_unfit
from acl_runtime.backends.tensorrt.library import load_library
from acl_runtime.backends.tensorrt.session import TrtSession, place_of
from acl_runtime.backends.tensorrt.sizes import calls_for
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import QUANTIZED, Arithmetic
from acl_runtime.files.errors import BackendError, InputError

LOG = logging.getLogger("acl")


class NoEngineError(BackendError):
    """The bundle has no engine that this machine can load."""


def has_engines(bundle: Bundle) -> bool:
    """Whether the bundle has engines at all, broken ones too; those of eight bits must be asked for."""
    return _of(list_engines(bundle), None) != Engines((), ())


def open_engine(
    bundle: Bundle, *, device: int = 0, batch: int | None = None, low: Arithmetic | None = None
) -> TrtSession:
    """The best of the bundle's engines, loaded and proven on this GPU.

    Engines whose certificate holds here come first, then those to be proven, then those that were refused; among
    equals the one that is best for the batch, then the newest. Beside it those of the same arithmetic are loaded that
    compute smaller batches with less work, so that each call takes what fits the images that wait.

    Args:
        bundle: A checked bundle.
        device: Number of the GPU.
        batch: Images per call to choose for; None for as many as an engine takes.
        low: Of `QUANTIZED`, to choose among the engines of that; None for none of these.

    Raises:
        NoEngineError: There is none for this machine, or no GPU.
        BackendError: It does not compute what was trained, or cannot be loaded.
    """
    try:
        cuda = Cuda(device)
    except BackendError as error:
        raise NoEngineError(f"TensorRT needs an NVIDIA GPU: {error}") from error
    try:
        engine, *beside = _choose(bundle, cuda, batch, low)
    finally:
        cuda.close()
    session, wrong = _open_proven(bundle, engine, beside, device)
    while session is None:
        beside.remove(wrong)
        session, wrong = _open_proven(bundle, engine, beside, device)
    for each in session.notes:
        LOG.warning("%s", each)
    return session


def _of(engines: Engines, low: Arithmetic | None) -> Engines:
    """Those of one arithmetic of eight bits, or all others."""
    wanted = (each for each in engines.whole if (each.record.arithmetic in QUANTIZED) is (low is not None))
    return Engines(tuple(each for each in wanted if low in (None, each.record.arithmetic)), engines.broken)


def _open_proven(
    bundle: Bundle, engine: Engine, beside: list[Engine], device: int
) -> tuple[TrtSession | None, Engine]:
    """A session of engines that are proven; None and the first of `beside` that is wrong, which is told."""
    session = TrtSession(bundle, engine, beside=beside, device=device)
    try:
        for number, each in enumerate(session.engines):
            try:
                prove(session.of(number), bundle)
            except (BackendError, InputError) as error:
                if number == 0:
                    raise
                LOG.warning("%s; others compute in its place", error)
                session.close()
                return None, each
    except BaseException:
        session.close()
        raise
    return session, engine


def suits(record: EngineRecord, batch: int | None) -> tuple[int, ...]:
    """How good an engine is for a batch; larger is better.

    Best is the one that computes the fewest images, since what is short of its smallest batch is filled up; then the
    one with the fewest calls; then the one that was optimised for the batch next in size.

    Args:
        record: Of the engine.
        batch: Images that wait; None for as many as there may be.
    """
    if batch is None:
        return (record.max_batch,)
    calls = -(-batch // record.max_batch)
    last = batch - (calls - 1) * record.max_batch
    computed = (calls - 1) * record.max_batch + max(last, record.min_batch)
    return (-computed, -calls, -record.max_batch)


def _choose(bundle: Bundle, cuda: Cuda, batch: int | None, low: Arithmetic | None) -> list[Engine]:
    """The best engine, and those that are worth having beside it."""
    engines = _of(list_engines(bundle), low)
    fitting, reasons = [], [*engines.broken]
    for engine in engines.whole:
        try:
            library = load_library(engine.record.library)
        except BackendError as error:
            reasons.append(f"{engine.path.name}: {error}")
            continue
        if reason := why_unfit(engine, bundle, place_of(library, cuda)):
            reasons.append(f"{engine.path.name}: {reason}")
            continue
        try:
            certificate = read_certificate(engine)
        except InputError as error:
            reasons.append(str(error))
            continue
        if certificate is not None:
            subject = subject_of(engine, bundle, library, cuda)
            certificate = certificate if is_current(certificate, subject, engine, bundle) else None
        trust = 1 if certificate is None else 2 if certificate.holds else 0
        fitting.append(((trust, suits(engine.record, batch), engine.record.created), engine))
    if engines == Engines((), ()):
        words, option = ("no engines", "") if low is None else (f"no engine in {low}", f" --arithmetic {low}")
        raise NoEngineError(
            f"{bundle.path}: has {words}; build one here with acl build {bundle.path}{option}"
        )
    if not fitting:
        raise NoEngineError(f"no engine of {bundle.path} fits this machine: {'; '.join(reasons)}")
    for broken in engines.broken:
        LOG.warning("%s", broken)
    best = max(fitting, key=lambda pair: pair[0])[1]
    kin = [
        engine
        for (trust, *_), engine in fitting
        if engine is best or (trust and _is_kin(engine.record, best.record))
    ]
    kin.sort(key=lambda engine: engine is not best)  # it comes first
    sizes = tuple((engine.record.min_batch, engine.record.max_batch) for engine in kin)
    counts = range(1, (batch or best.record.max_batch) + 1)
    used = {call.engine for count in counts for call in calls_for(count, sizes)}
    return [best, *(engine for number, engine in enumerate(kin) if number in used and engine is not best)]


def _is_kin(record: EngineRecord, other: EngineRecord) -> bool:
    """Whether two engines compute the same, but for the batch."""
    return (record.library, record.arithmetic, record.sources) == (
        other.library,
        other.arithmetic,
        other.sources,
    )

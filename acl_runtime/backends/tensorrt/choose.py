"""Choose among a bundle's engines the one for this machine, load it and see that it is proven."""

from __future__ import annotations

import logging

from acl_runtime.backends.tensorrt.certificate import prove, read_certificate, subject_of
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.engine_file import Engine, Engines, list_engines, why_unfit
from acl_runtime.backends.tensorrt.library import load_library
from acl_runtime.backends.tensorrt.session import TrtSession, place_of
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.files.errors import BackendError, InputError

LOG = logging.getLogger("acl")


class NoEngineError(BackendError):
    """The bundle has no engine that this machine can load."""


def has_engines(bundle: Bundle) -> bool:
    """Whether the bundle has engines at all, broken ones too."""
    return list_engines(bundle) != Engines((), ())


def open_engine(bundle: Bundle, *, device: int = 0) -> TrtSession:
    """The best of the bundle's engines, loaded and proven on this GPU.

    Engines whose certificate holds here come first, then those to be proven, then those that were refused; among
    equals the one that takes most images at once, then the newest.

    Args:
        bundle: A checked bundle.
        device: Number of the GPU.

    Raises:
        NoEngineError: There is none for this machine, or no GPU.
        BackendError: It does not compute what was trained, or cannot be loaded.
    """
    try:
        cuda = Cuda(device)
    except BackendError as error:
        raise NoEngineError(f"TensorRT needs an NVIDIA GPU: {error}") from error
    try:
        engine = _choose(bundle, cuda)
        session = TrtSession(bundle, engine, device=device)
    finally:
        cuda.close()
    try:
        prove(session, bundle)
    except BaseException:
        session.close()
        raise
    for each in session.notes:
        LOG.warning("%s", each)
    return session


def _choose(bundle: Bundle, cuda: Cuda) -> Engine:
    engines = list_engines(bundle)
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
        known = certificate is not None and certificate.subject == subject_of(engine, bundle, library, cuda)
        trust = 1 if certificate is None or not known else 2 if certificate.holds else 0
        fitting.append(((trust, engine.record.max_batch, engine.record.created), engine))
    if engines == Engines((), ()):
        raise NoEngineError(f"{bundle.path}: has no engines; build one here with acl build {bundle.path}")
    if not fitting:
        raise NoEngineError(f"no engine of {bundle.path} fits this machine: {'; '.join(reasons)}")
    for broken in engines.broken:
        LOG.warning("%s", broken)
    return max(fitting, key=lambda pair: pair[0])[1]

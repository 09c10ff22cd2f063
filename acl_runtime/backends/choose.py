"""The one table of what can run a graph; nothing is imported before it is chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from acl_runtime.files.errors import BackendError, InputError

if TYPE_CHECKING:
    from acl_runtime.backends.openvino_session import CpuPrecision
    from acl_runtime.backends.session import Session
    from acl_runtime.bundle.bundle import Bundle

LOG = logging.getLogger("acl")


class Backend(str, Enum):
    """What runs the graph: the best for this machine, or one of `BACKENDS`."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    openvino_int8 = "openvino-int8"
    onnxruntime_int8 = "onnxruntime-int8"
    tensorrt = "tensorrt"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What there is to know of a backend before it is imported.

    Attributes:
        label: Its name for people.
        extra: Of this package, that installs it.
        distributions: Any one of them is the backend; its version stands in qualification records.
        open: Loads a bundle's graph; takes the settings named in `takes`, and raises BackendError if it cannot.
        takes: Settings of `open_session` that mean something to it.
        precision: What a session of it computes the products in, such as "fp16".
        qualified_graph: Of a backend that computes with fewer bits than float32 on a CPU, and so runs only where
            `acl qualify` has shown that accuracy holds and speed improves: the ONNX file that it reads, BackendError if
            the bundle lacks it. None for the others.
    """

    label: str
    extra: str
    distributions: tuple[str, ...]
    open: Callable[..., Session]
    takes: frozenset[str]
    precision: Callable[[Bundle, Session], str]
    qualified_graph: Callable[[Bundle], Path] | None = None

    @property
    def version(self) -> str:
        """Version of what is installed.

        Raises:
            BackendError: Nothing is.
        """
        for name in self.distributions:
            try:
                return version(name)
            except PackageNotFoundError:
                continue
        raise BackendError(
            f'{self.label} is not installed; in the checkout: pip install -e ".[{self.extra}]", or leave --backend out'
        )


def open_session(
    bundle: Bundle,
    *,
    backend: str = "auto",
    provider: str = "auto",
    time_limit_s: float | None = None,
    batch: int | None = None,
    threads: int = 0,
) -> Session:
    """Load the bundle's graph, or its engine for this GPU.

    Args:
        bundle: A checked bundle.
        backend: A `Backend` or its name; "auto" is TensorRT where the bundle has an engine for this machine, else ONNX
            Runtime.
        provider: Where ONNX Runtime computes, see `OnnxSession`; naming one chooses ONNX Runtime.
        time_limit_s: Longest that one call may take, in seconds; a call that takes longer raises BackendError. None
            for no limit. Only ONNX Runtime can keep one: OpenVINO does not stop inside a loop of the graph, and nothing
            stops a GPU's kernels.
        batch: Images per call that a TensorRT engine is chosen for, where the bundle has several; None for as many as
            one takes. Any number may be given to any session.
        threads: CPU threads to compute with, where a CPU computes; 0 for one per core.

    Raises:
        InputError: There is no such backend, or it does not know a setting.
        BackendError: What was asked for cannot be loaded; nothing else is taken instead.
    """
    settings: dict[str, object] = {}
    if provider != "auto":
        settings["provider"] = provider
    if time_limit_s is not None:
        settings["time_limit_s"] = time_limit_s
    if backend == Backend.auto.value:
        return _open_best(bundle, settings, batch, threads)
    entry = _entry(backend, Backend.auto.value)
    if unknown := sorted(set(settings) - entry.takes):
        takers = [name for name, each in BACKENDS.items() if unknown[0] in each.takes]
        raise InputError(
            f"{unknown[0]} is for backend {', '.join(takers)}, got {settings[unknown[0]]} with backend {backend}"
        )
    if entry.qualified_graph is not None:
        from acl_runtime.backends.qualification import check_qualified

        check_qualified(bundle, backend, entry.version, entry.qualified_graph(bundle))
    if "batch" in entry.takes:
        settings["batch"] = batch
    if "threads" in entry.takes:
        settings["threads"] = threads
    return entry.open(bundle, **settings)


def open_backend(bundle: Bundle, backend: str) -> tuple[Session, str]:
    """Load a backend whether or not it is qualified here, to measure it; return the session and its precision.

    Raises:
        InputError: There is no such backend.
        BackendError: It cannot be had on this machine.
    """
    entry = _entry(backend)
    session = entry.open(bundle)
    return session, entry.precision(bundle, session)


def _entry(backend: str, *others: str) -> Entry:
    if backend not in BACKENDS:
        names = (*others, *BACKENDS)
        raise InputError(f"backend must be one of {', '.join(names)}, got {backend}")
    return BACKENDS[backend]


def _open_best(bundle: Bundle, settings: dict[str, object], batch: int | None, threads: int) -> Session:
    if "provider" not in settings:
        from acl_runtime.backends.tensorrt.choose import NoEngineError, has_engines

        if has_engines(bundle):
            try:
                return _tensorrt(bundle, batch=batch, **settings)
            except NoEngineError as error:
                LOG.warning("ONNX Runtime computes, not TensorRT: %s", error)
    return _onnxruntime(bundle, threads=threads, **settings)


def _onnxruntime(bundle: Bundle, **settings: object) -> Session:
    from acl_runtime.backends.onnx_session import OnnxSession

    return OnnxSession.of_bundle(bundle, **settings)  # type: ignore[arg-type]


def _onnxruntime_int8(bundle: Bundle, **settings: object) -> Session:
    from acl_runtime.backends.onnx_session import OnnxSession

    path = _int8_graph(bundle)
    return OnnxSession(path, "cpu", backend=Backend.onnxruntime_int8.value, **settings)  # type: ignore[arg-type]


def _openvino(precision: CpuPrecision, bundle: Bundle, *, threads: int = 0) -> Session:
    from acl_runtime.backends.openvino_session import OpenVinoSession

    return OpenVinoSession.of_bundle(bundle, precision=precision, threads=threads)


def _tensorrt(bundle: Bundle, *, batch: int | None = None, **settings: object) -> Session:
    from acl_runtime.backends.tensorrt.choose import open_engine

    if settings:
        raise InputError("TensorRT can keep no time_limit_s; leave it out, or choose backend onnxruntime")
    return open_engine(bundle, batch=batch)


def _cpu_graph(bundle: Bundle) -> Path:
    return bundle.cpu_graph_path


def _int8_graph(bundle: Bundle) -> Path:
    if bundle.manifest.int8 is None:
        raise BackendError(f"{bundle.path}: has no graph in int8; export it with acl export --int8")
    return bundle.path / bundle.manifest.int8


def _onnx_precision(bundle: Bundle, session: Session) -> str:
    on_cpu = session.provider.startswith("CPU") and "fp32" in bundle.manifest.arithmetics()
    return "fp32" if on_cpu else bundle.manifest.precision


def _engine_precision(bundle: Bundle, session: Session) -> str:
    return session.provider.rpartition(", ")[2]


def _always(precision: str) -> Callable[[Bundle, Session], str]:
    return lambda bundle, session: precision


_OPENVINO = partial(
    Entry, label="OpenVINO", extra="openvino", distributions=("openvino",), takes=frozenset({"threads"})
)
_ONNXRUNTIME = partial(
    Entry, label="ONNX Runtime", extra="cpu", distributions=("onnxruntime", "onnxruntime-gpu")
)
BACKENDS: dict[str, Entry] = {
    Backend.onnxruntime.value: _ONNXRUNTIME(
        open=_onnxruntime, takes=frozenset({"provider", "time_limit_s", "threads"}), precision=_onnx_precision
    ),
    Backend.openvino.value: _OPENVINO(open=partial(_openvino, "f32"), precision=_always("fp32")),
    Backend.openvino_bf16.value: _OPENVINO(
        open=partial(_openvino, "bf16"), precision=_always("bf16"), qualified_graph=_cpu_graph
    ),
    Backend.openvino_int8.value: _OPENVINO(
        open=partial(_openvino, "int8"), precision=_always("int8"), qualified_graph=_cpu_graph
    ),
    Backend.onnxruntime_int8.value: _ONNXRUNTIME(
        open=_onnxruntime_int8,
        takes=frozenset({"time_limit_s", "threads"}),
        precision=_always("int8"),
        qualified_graph=_int8_graph,
    ),
    Backend.tensorrt.value: Entry(
        label="TensorRT",
        extra="tensorrt",
        distributions=("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu13-bindings"),
        open=_tensorrt,
        takes=frozenset({"batch"}),
        precision=_engine_precision,
    ),
}

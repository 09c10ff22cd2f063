"""An engine as TensorRT has it in memory: read, given its weights, and seen to have the bundle's inputs and outputs."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

from acl_runtime.backends.tensorrt.cuda import OutOfMemoryError
from acl_runtime.backends.tensorrt.engine_file import Engine
from acl_runtime.backends.tensorrt.library import Library
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import Tensor
from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import BackendError

MAPS, PEAKS, SUMS = "anomaly_maps", "map_peaks", "map_sums"
"""Of an engine's outputs the maps, and what the builder adds: the largest value of each, and the sum."""


class Plan:
    """A deserialised engine; made, used and closed inside `Cuda.current()`.

    Attributes:
        scratch_bytes: Memory on the GPU that an execution context works in.
        summarises: Whether it gives each map's peak and sum beside the map.
    """

    def __init__(self, bundle: Bundle, engine: Engine, library: Library) -> None:
        """Load it.

        Raises:
            RuntimeError: The file was altered, TensorRT refuses it, or its inputs and outputs are not the bundle's.
        """
        self._notes: list[str] = []
        self._file, self._library = engine.path, library
        self._again = f"build it again with acl build {bundle.path}"
        _check_bytes(engine, self._again)
        self._log = _collect(library.module)
        self._runtime: Any = None
        self._engine: Any = None
        self._config: Any = None
        self._cache: Any = None
        self._saved = b""
        try:
            self._load(bundle, engine)
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know so far, a sentence each; TensorRT's own warnings too."""
        return (*(f"{self._library.name} warns: {said}" for said in self._log.warnings), *self._notes)

    def close(self) -> None:
        """Let go of what TensorRT holds; execution contexts must be gone before."""
        self._engine = self._config = self._cache = None
        self._runtime = None

    def context(self, scratch: int) -> Any:
        """A new execution context that works in the `scratch_bytes` at the address `scratch`."""
        context = self._engine.create_execution_context(self._config)
        if context is None:
            raise self._memory_or("makes no execution context")
        context.set_device_memory(scratch, self.scratch_bytes)
        return context

    def is_recordable(self, context: Any, stream: int) -> bool:
        """Whether a CUDA graph can be made of a run; the full TensorRT does not say beforehand."""
        return not self._library.is_rtx or bool(context.is_stream_capturable(stream))

    def error(self, what: str, *, remedy: str = "") -> BackendError:
        """An error that says what TensorRT did, and the last that it told; build it again unless told otherwise."""
        said = self._log.errors[-1] if self._log.errors else "it does not say why"
        return BackendError(
            f"{self._file.name}: {self._library.name} {what} ({said}); {remedy or self._again}"
        )

    def save_kernels(self) -> None:
        """Keep what TensorRT-RTX compiled so far beside the engine, for the next load; a note if that fails."""
        if self._cache is None:
            return
        kernels = bytes(self._cache.serialize())
        if kernels == self._saved:
            return
        self._saved = kernels
        try:
            with atomic_file(self._kernels) as temporary:
                temporary.write_bytes(kernels)
        except OSError as error:
            self._notes.append(
                f"{self._kernels}: cannot be written ({error.strerror}): the kernels are compiled at each load"
            )

    @property
    def _kernels(self) -> Path:
        return self._file.with_suffix(".kernels")

    def _load(self, bundle: Bundle, engine: Engine) -> None:
        try:
            self._runtime = self._library.module.Runtime(self._log)
        except (RuntimeError, TypeError) as error:  # pybind11's word for a null pointer is TypeError
            raise self.error("does not start") from error
        with open(engine.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._memory_or("cannot load it")
        if engine.record.weightless:
            self._refit(bundle.path / next(iter(engine.record.sources)))
        self._check_tensors(bundle, engine)
        self.scratch_bytes = int(self._engine.device_memory_size_v2)
        self._configure()

    def _memory_or(self, what: str) -> BackendError:
        """The error, as one of memory if TensorRT spoke of that; its last word is often about what followed."""
        error = self.error(what)
        is_memory = any(re.search(r"out ?of ?memory|GPU memory", said, re.I) for said in self._log.errors)
        return OutOfMemoryError(str(error)) if is_memory else error

    def _refit(self, graph: Path) -> None:
        """Give a weightless engine the weights of the graph that it was built from."""
        trt = self._library.module
        refitter = trt.Refitter(self._engine, self._log)
        parsed = trt.OnnxParserRefitter(refitter, self._log).refit_from_file(str(graph))
        if not parsed or not refitter.refit_cuda_engine():
            raise self.error(f"cannot give it the weights of {graph.name}")

    def _configure(self) -> None:
        """Set what execution contexts are made with; for TensorRT-RTX the kernels compiled earlier too."""
        trt = self._library.module
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._library.is_rtx:
            self._config = strategy
            return
        self._config = self._engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(strategy)
        # the kernels that the golden images ran on are those that serve: none is exchanged later
        specialization = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._config.dynamic_shapes_kernel_specialization_strategy = specialization
        self._cache = self._config.create_runtime_cache()
        if self._kernels.is_file():
            self._saved = self._kernels.read_bytes()
            self._cache.deserialize(self._saved)  # if they are of another GPU or version: compiled anew
        self._config.set_runtime_cache(self._cache)

    def _check_tensors(self, bundle: Bundle, engine: Engine) -> None:
        graph, record = bundle.manifest.graph, engine.record
        wanted = sorted(map(_describe, (*graph.inputs, *graph.outputs)))
        tensors = self._tensors()
        extra = [tensor.name for tensor in tensors if tensor.name in (PEAKS, SUMS)]
        self.summarises = sorted(extra) == sorted((PEAKS, SUMS))
        found = sorted(_describe(each) for each in tensors if not (self.summarises and each.name in extra))
        if found != wanted:
            raise BackendError(
                f"{self._file.name}: has {', '.join(found)}, the bundle {', '.join(wanted)}; {self._again}"
            )
        name, fixed = graph.inputs[0].name, self._engine.get_tensor_shape(graph.inputs[0].name)[0]
        shapes = [[fixed]] * 2 if fixed > 0 else self._engine.get_tensor_profile_shape(name, 0)
        sizes = (int(shapes[0][0]), int(shapes[-1][0]))
        if sizes != (record.min_batch, record.max_batch):
            raise BackendError(
                f"{self._file.name}: takes {sizes[0]}..{sizes[1]} images at once, its record says "
                f"{record.min_batch}..{record.max_batch}; {self._again}"
            )

    def _tensors(self) -> list[Tensor]:
        trt, engine = self._library.module, self._engine
        dtypes = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return [
            Tensor(
                name,
                ("batch", *map(int, list(engine.get_tensor_shape(name))[1:])),
                dtypes.get(engine.get_tensor_dtype(name), str(engine.get_tensor_dtype(name))),
            )
            for name in names
        ]


def _check_bytes(engine: Engine, again: str) -> None:
    record, size = engine.record, engine.path.stat().st_size
    if size != record.bytes:
        raise BackendError(f"{engine.path}: must be {record.bytes} bytes, got {size}; {again}")
    if sha256(engine.path) != record.sha256:
        raise BackendError(f"{engine.path}: was altered (sha256 differs); {again}")


def _describe(tensor: Tensor) -> str:
    return f"{tensor.name} ({', '.join(map(str, tensor.shape))}) {tensor.dtype}"


def _collect(trt: Any) -> Any:
    """A logger of TensorRT that keeps the first line of each error, and of each other warning."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            line = message.strip().split("\n", maxsplit=1)[0]
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(line)
            elif severity == trt.ILogger.WARNING and line not in self.warnings:
                self.warnings.append(line)

    return Log()

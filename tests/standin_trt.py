"""A stand-in of TensorRT for tests, used as a module: its "plans" name an ONNX file that ONNX Runtime computes.

It reads and writes the memory of `standin_cuda` at the addresses it was given, when the stream is waited for, and it
keeps TensorRT's rules: a shape and an address for every tensor before the first run, scratch memory of its own, one
plain run after a change of shape before anything is recorded, and recorded work is void once the shape has changed.
Engines are loaded, given weights and run in the context that is current on the thread, always the same one; a driver
that is older than the CUDA it is made for runs nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from standin_cuda import STREAMS, current_gpu, memory_at

from acl_runtime.backends.tensorrt.engine_file import (
    FORMAT,
    FORMAT_VERSION,
    Engine,
    EngineRecord,
    engine_name,
    write_record,
)
from acl_runtime.backends.tensorrt.library import Library, LibraryName
from acl_runtime.backends.tensorrt.plan import MAPS, PEAKS, SUMS
from acl_runtime.bundle.bundle import ENGINES, Bundle
from acl_runtime.bundle.identity import hash_sources
from acl_runtime.bundle.manifest import Arithmetic
from acl_runtime.files.atomic import sha256

__version__ = "10.13.3.9"
MADE_FOR_CUDA = 12
SCRATCH_BYTES = 1 << 16
SUMMARIES: dict[str, Any] = {
    PEAKS: lambda rows: np.fmax.reduce(rows, axis=1),  # as a GPU's, which passes nan over
    SUMS: lambda rows: rows.sum(axis=1),
}
WEIGHTLESS, CACHED = "weightless", b"kernels of the stand-in"


@dataclass(frozen=True)
class Fault:
    """What shall go wrong with an engine, silently or not.

    Attributes:
        kind: "offset": `amount` is added to all that comes out; "rows": to all rows but the first; "nan": nan comes
            out; "replay": `amount` is added when recorded work is replayed; "stale": where a larger batch ran just
            before, in the same scratch memory; "bright": to what comes of images that are bright everywhere;
            "load", "out of memory": it cannot be loaded; "context": no execution context can be made; "run": it cannot
            run; "capture": it cannot be recorded; "names", "dtype", "range": its tensors are not those of the record;
            "refit": it takes no weights.
        batches: Batch sizes that it befalls; none for all. Only for what befalls a run.
        amount: See `kind`.
    """

    kind: Literal[
        "offset", "rows", "nan", "replay", "stale", "bright", "load", "out of memory", "context", "run", "capture",
        "names", "dtype", "range", "refit",
    ]  # fmt: skip
    batches: tuple[int, ...] = ()
    amount: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What a stand-in's engine file says."""

    onnx: str
    min_batch: int
    max_batch: int
    weightless: bool = False
    fault: Fault | None = None
    warning: str = ""  # what is told when it is loaded
    summarises: bool = False  # whether it gives each map's peak and sum, as the builder adds them


def write_plan(path: Path, plan: Plan) -> None:
    """Write a stand-in's engine."""
    path.write_text(json.dumps(asdict(plan)), encoding="utf-8")


def standin_library(name: LibraryName = "tensorrt", version: str = __version__) -> Library:
    """This module in the place of TensorRT."""
    return Library(name, sys.modules[__name__], version)


def make_standin_engine(
    bundle: Bundle,
    folder: Path | None = None,
    *,
    arithmetic: Arithmetic | None = None,
    batch: tuple[int, int] = (1, 3),
    fault: Fault | None = None,
    weightless: bool = False,
    warning: str = "",
    summarises: bool = True,
    library: LibraryName = "tensorrt",
    **changes: Any,
) -> Engine:
    """Write an engine of the stand-in with its record.

    Args:
        bundle: Whose graph it computes.
        folder: Where to; None for the bundle's `engines`.
        arithmetic: Of the graph; None for the bundle's own.
        batch: Fewest and most images at once.
        fault: What shall go wrong with it.
        weightless: Whether it must be given its weights at load.
        warning: What TensorRT warns of when it is loaded.
        summarises: Whether it gives each map's peak and sum, if it has maps.
        library: What it is recorded to be built with, for the "Stand-in GPU" of compute capability 8.9.
        changes: Fields of the record that shall say something else.
    """
    arithmetic = arithmetic or bundle.manifest.precision
    graph = bundle.manifest.graph_file(arithmetic)
    gpu, capabilities = "Stand-in GPU", ("8.9",)
    name = engine_name(
        library=library,
        library_version=__version__,
        gpu=gpu,
        multiprocessors=58,
        compute_capabilities=capabilities,
        arithmetic=arithmetic,
        min_batch=batch[0],
        max_batch=batch[1],
    )
    folder = folder or bundle.path / ENGINES
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.engine"
    write_plan(path, Plan(str(bundle.path / graph), *batch, weightless, fault, warning, summarises))
    record = EngineRecord(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        library=library,
        library_version=__version__,
        gpu=gpu,
        multiprocessors=58,
        memory_bytes=8 << 30,
        compute_capabilities=capabilities,
        platform=platform_name(),
        arithmetic=arithmetic,
        sources=hash_sources(bundle, graph),
        min_batch=batch[0],
        max_batch=batch[1],
        weightless=weightless,
        inputs=bundle.manifest.graph.inputs,
        outputs=bundle.manifest.graph.outputs,
        activation_bytes=SCRATCH_BYTES,
        fused_attention=None,
        workspace_bytes=None,
        optimization_level=None,
        build_seconds=0.0,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        created="2025-01-01T00:00:00+00:00",
    )
    record = replace(record, **changes)
    write_record(path, record)
    return Engine(path, record)


class DataType(Enum):
    FLOAT, HALF, UINT8 = "tensor(float)", "tensor(float16)", "tensor(uint8)"


ComputeCapability = Enum(
    "ComputeCapability", ["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
)


class TensorIOMode(Enum):
    INPUT, OUTPUT = "input", "output"


class ExecutionContextAllocationStrategy(Enum):
    STATIC, USER_MANAGED = "static", "user managed"


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY, EAGER = "lazy", "eager"


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        if current_gpu("Runtime").cuda_version[0] < MADE_FOR_CUDA:
            logger.log(
                ILogger.ERROR,
                "CUDA initialization failure with error: 35 (CUDA driver version is insufficient)",
            )
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None:
        current_gpu("deserialize_cuda_engine")
        try:
            document = json.loads(bytes(serialized_engine))
        except ValueError:
            self.logger.log(
                ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (stand-in)"
            )
            return None
        fault = document.pop("fault")
        plan = Plan(**document, fault=fault and Fault(**fault | {"batches": tuple(fault["batches"])}))
        if plan.fault and plan.fault.kind == "load":
            self.logger.log(
                ILogger.ERROR, "[engine.cpp::load::1] the plan is of another version (stand-in)\nand more"
            )
            return None
        if plan.fault and plan.fault.kind == "out of memory":
            self.logger.log(
                ILogger.ERROR, "[defaultAllocator.cpp::allocate::58] Cuda Runtime (out of memory)"
            )
            return None
        if plan.warning:
            self.logger.log(ILogger.WARNING, plan.warning)
        return CudaEngine(plan, self.logger)


class CudaEngine:
    def __init__(self, plan: Plan, logger: ILogger) -> None:
        self.plan, self.logger, self.has_weights = plan, logger, not plan.weightless
        self.gpu = current_gpu("deserialize_cuda_engine")
        self.device_memory_size_v2 = SCRATCH_BYTES
        session = onnx_session(plan.onnx)
        self.inputs = {tensor.name: tensor for tensor in session.get_inputs()}
        self.outputs = {tensor.name: tensor for tensor in session.get_outputs()}
        self.summaries = SUMMARIES if plan.summarises and MAPS in self.outputs else {}
        self._names = [*self.inputs, *self.outputs, *self.summaries]

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    @property
    def fault(self) -> str:
        return self.plan.fault.kind if self.plan.fault else ""

    def get_tensor_name(self, index: int) -> str:
        name = self._names[index]
        return f"{name}_1" if self.fault == "names" and name in self.outputs else name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        if self.fault == "dtype" and name in self.outputs:
            return DataType.HALF
        if name in self.summaries:
            return DataType.FLOAT
        return DataType((self.inputs | self.outputs)[name.removesuffix("_1")].type)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        fixed = self.plan.min_batch == self.plan.max_batch
        if name in self.summaries:
            return (self.plan.max_batch if fixed else -1,)
        shape = (self.inputs | self.outputs)[name.removesuffix("_1")].shape
        return (self.plan.max_batch if fixed else -1, *shape[1:])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        most = self.plan.max_batch + (self.fault == "range")
        tail = self.get_tensor_shape(name)[1:]
        return [(batch, *tail) for batch in (self.plan.min_batch, most, most)]

    def check_gpu(self, what: str) -> None:
        """An engine lives in the context that it was loaded in."""
        assert current_gpu(what) is self.gpu, f"{what}: the engine is another GPU's"

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(
        self, setting: RuntimeConfig | ExecutionContextAllocationStrategy
    ) -> ExecutionContext | None:
        self.check_gpu("create_execution_context")
        if isinstance(setting, RuntimeConfig):
            setting.compile()
            setting = setting.strategy
        assert setting is ExecutionContextAllocationStrategy.USER_MANAGED
        if self.fault == "context":
            self.logger.log(ILogger.ERROR, "no context (stand-in)")
            return None
        return ExecutionContext(self)


class RuntimeCache:
    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, blob: bytes) -> bool:
        if bytes(blob) == CACHED:
            self.content = CACHED
        return bool(self.content)

    def serialize(self) -> bytes:
        return self.content


class RuntimeConfig:
    compilations = 0  # of all engines, to see whether a cache was of use

    def __init__(self) -> None:
        self.cache: RuntimeCache | None = None
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True

    def compile(self) -> None:
        """Compile the kernels unless they are in the cache."""
        is_eager = (
            self.dynamic_shapes_kernel_specialization_strategy
            is DynamicShapesKernelSpecializationStrategy.EAGER
        )
        assert is_eager, "kernels would be exchanged after they were proven"
        if self.cache is None or not self.cache.content:
            RuntimeConfig.compilations += 1
        if self.cache is not None:
            self.cache.content = CACHED


class ExecutionContext:
    def __init__(self, engine: CudaEngine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        self.shape: tuple[int, ...] = ()
        self.is_fresh, self.changes, self.scratch = True, 0, 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= SCRATCH_BYTES
        memory_at(memory, size)
        self.scratch = memory

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        plan = self.engine.plan
        if name not in self.engine.inputs or not plan.min_batch <= shape[0] <= plan.max_batch:
            self.engine.logger.log(ILogger.ERROR, f"set_input_shape: {name} {shape} (stand-in)")
            return False
        if tuple(shape) != self.shape:
            self.shape = tuple(shape)
            self.changes += 1
            self.is_fresh = True
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in self.engine.inputs | self.engine.outputs | self.engine.summaries

    def is_stream_capturable(self, stream: int) -> bool:
        return STREAMS[stream] is not None and self.engine.fault != "capture"

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream, engine = STREAMS[stream_handle], self.engine
        engine.check_gpu("execute_async_v3")
        ready = self.shape and self.scratch and len(self.addresses) == engine.num_io_tensors
        if (
            (engine.fault == "run" and self._befalls())
            or not ready
            or not engine.has_weights
            or stream.is_lost
        ):
            engine.logger.log(ILogger.ERROR, "[context.cpp::enqueueV3::1] it cannot run (stand-in)")
            return False
        if stream.is_recording and (self.is_fresh or engine.fault == "capture"):
            stream.spoil("not run since its shape changed" if self.is_fresh else "planted")
            return False
        recorded, shape, addresses, changes = (
            stream.is_recording,
            self.shape,
            dict(self.addresses),
            self.changes,
        )
        self.is_fresh = False

        def work() -> None:
            assert not recorded or changes == self.changes, "recorded before the shape changed"
            scratch = memory_at(self.scratch, SCRATCH_BYTES)
            is_stale = shape[0] < scratch[0] <= engine.plan.max_batch  # what the call before left there
            scratch[:] = 0x5A
            scratch[0] = shape[0]
            self._compute(shape, addresses, is_replay=recorded, is_stale=is_stale)

        stream.submit(work)
        return True

    def _befalls(self) -> bool:
        fault = self.engine.plan.fault
        return fault is not None and (not fault.batches or self.shape[0] in fault.batches)

    def _compute(
        self, shape: tuple[int, ...], addresses: dict[str, int], *, is_replay: bool, is_stale: bool
    ) -> None:
        name = next(iter(self.engine.inputs))
        images = memory_at(addresses[name], int(np.prod(shape))).reshape(shape)
        outputs = onnx_session(self.engine.plan.onnx).run(list(self.engine.outputs), {name: images})
        for output, array in zip(self.engine.outputs, outputs, strict=True):
            if (fault := self.engine.plan.fault) and fault.kind == "bright":
                array[images.min(axis=(1, 2, 3)) > 200] += fault.amount
            elif self._befalls():
                _spoil(array, self.engine.plan.fault, is_replay=is_replay, is_stale=is_stale)
            memory_at(addresses[output], array.nbytes)[:] = array.reshape(-1).view(np.uint8)
            for summary, reduce in self.engine.summaries.items() if output == MAPS else ():
                small = reduce(array.reshape(len(array), -1)).astype(np.float32)
                memory_at(addresses[summary], small.nbytes)[:] = small.view(np.uint8)


class Refitter:
    def __init__(self, engine: CudaEngine, logger: ILogger) -> None:
        self.engine, self.path = engine, ""

    def refit_cuda_engine(self) -> bool:
        self.engine.check_gpu("refit_cuda_engine")
        if self.engine.fault == "refit":
            self.engine.logger.log(ILogger.ERROR, "[refit.cpp::1] weights are missing (stand-in)")
            return False
        self.engine.has_weights = self.path == self.engine.plan.onnx
        return self.engine.has_weights


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        self.refitter = refitter

    def refit_from_file(self, model: str) -> bool:
        self.refitter.path = model
        return Path(model).is_file()


@cache
def onnx_session(path: str) -> ort.InferenceSession:
    """The graph, loaded once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def platform_name() -> str:
    """This machine, as a record names it."""
    import platform

    return f"{sys.platform}-{platform.machine()}".lower()


def _spoil(array: np.ndarray, fault: Fault | None, *, is_replay: bool, is_stale: bool) -> None:
    assert fault is not None
    if fault.kind == "nan":
        array[...] = np.nan
    if fault.kind == "offset" or (fault.kind == "replay" and is_replay):
        array += fault.amount
    if fault.kind == "stale" and is_stale:
        array += fault.amount
    if fault.kind == "rows":
        array[1:] += fault.amount

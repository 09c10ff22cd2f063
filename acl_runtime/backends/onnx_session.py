"""Run a bundle's graph with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import numpy as np

from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import FUSED
from acl_runtime.files.errors import BackendError, InputError

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
except ImportError as problem:
    raise BackendError(
        f'ONNX Runtime cannot be imported ({problem}); in the checkout: pip install -e ".[cpu]"'
    ) from problem

CPU, CUDA = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA"))
TENSORRT = "TensorrtExecutionProvider"  # not offered: no extra installs its libraries, nothing proves it
AUTO = (CUDA, CPU)  # the first that this ONNX Runtime was built with
_OPTIONS = {  # of the providers that compute on a GPU; the precision is the graph's
    CUDA: {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",  # one convolution, not worth a search at every new batch size
        "arena_extend_strategy": "kSameAsRequested",
    },
}
_HEAVY = {"MatMul", "Gemm", "Conv", "Softmax", "LayerNormalization", "MultiHeadAttention"}
CUDA_GRAPH = "cuda-graph"  # the provider CUDA, with each call recorded once and replayed from then on
GRAPHS = 4  # recorded, one per batch size; calls of other sizes are not
_ERRORS = (  # they share no base class but Exception
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    UnicodeDecodeError,  # its message quotes a name of a damaged graph
)


class OnnxSession:
    """A loaded graph: images in, arrays out; threads may share it.

    Call it with (B, S, S, 3) uint8 RGB; it returns the graph's outputs by name, see `bundle.py`.

    Attributes:
        backend: "onnxruntime", or "onnxruntime-int8".
        provider: Where it computes, such as CPUExecutionProvider.
    """

    def __init__(
        self,
        path: Path | str,
        provider: str = "auto",
        *,
        threads: int = 0,
        backend: str = "onnxruntime",
        time_limit_s: float | None = None,
    ) -> None:
        """Load a graph.

        Args:
            path: The ONNX file.
            provider: An execution provider of ONNX Runtime, the ending `ExecutionProvider` may be left out;
                "auto" for CUDA where this ONNX Runtime has it, else the CPU; "cuda-graph" for CUDA with calls recorded.
            threads: CPU threads to compute with; 0 for one per core.
            backend: What the session calls itself.
            time_limit_s: Longest that a call may take, in seconds; None for no limit.

        Raises:
            InputError: There is no such provider.
            BackendError: It does not start, leaves work to the CPU, or cannot load the file.
        """
        self.backend, self.provider, self._time_limit_s = backend, find_provider(provider), time_limit_s
        records = provider.lower() == CUDA_GRAPH
        recording = {"enable_cuda_graph": "1"} if records else {}
        providers = [(self.provider, _OPTIONS.get(self.provider, {}) | recording)]
        if self.provider in _OPTIONS and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA's libraries as pip installs them
        try:
            session = ort.InferenceSession(
                str(path), _session_options(threads), providers=providers, enable_fallback=0
            )  # a fallback is also printed on stdout
        except _ERRORS as error:
            raise BackendError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from error
        session.disable_fallback()
        active = session.get_providers()[0]
        if active != self.provider:  # a provider whose libraries fail to load is dropped in silence
            raise BackendError(
                f"ONNX Runtime could not start {self.provider} and fell back to {active}; "
                f"install its libraries or choose --provider {active}"
            )
        if self.provider in _OPTIONS:
            check_placement(session)
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]
        # On the CPU a plain run already reads the caller's array and returns its own: binding would only copy more.
        on_device = self.provider in _OPTIONS
        self._device = DeviceBuffers(session, "cuda", records=records) if on_device else None

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, provider: str = "auto", *, threads: int = 0, time_limit_s: float | None = None
    ) -> OnnxSession:
        """Load a bundle's graph, on CUDA that with fused attention if there is one; else as of `OnnxSession`."""
        manifest, name = bundle.manifest, find_provider(provider)
        path = bundle.cpu_graph_path if name == CPU else bundle.graph_path
        if name == CUDA and FUSED in manifest.on_request:
            path = bundle.path / manifest.graph_file(FUSED)
        return cls(path, provider, threads=threads, time_limit_s=time_limit_s)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph on `images`, (B, S, S, 3) uint8 RGB."""
        session, device = self._session, self._device
        if session is None:
            raise BackendError("the session was closed; open another")
        try:
            with _stopping(self._time_limit_s) as options:
                if device is not None:
                    return device.run(images, options)
                arrays = session.run(self._outputs, {self._input: images}, options)
        except MemoryError as error:
            raise BackendError(
                f"there is not enough memory for {len(images)} images; use a smaller batch"
            ) from error
        except (*_ERRORS, RuntimeError) as error:
            if options.terminate:
                raise BackendError(
                    f"ONNX Runtime gave no answer on {images.shape} in {self._time_limit_s:g} s, the time limit"
                ) from error
            raise BackendError(f"ONNX Runtime failed on {images.shape}: {_first_line(error)}") from error
        return dict(zip(self._outputs, arrays, strict=True))

    def close(self) -> None:
        """Free the graph's memory; calls that still run end first, a second time does nothing."""
        self._session = self._device = None


class DeviceBuffers:
    """Inputs and outputs of a session that stay on the device, one set per batch size, with ONNX Runtime's IO binding.

    A call copies the images in and the answers out; what lies between allocates nothing.
    """

    def __init__(
        self, session: ort.InferenceSession, device: str, *, most: int = 16, records: bool = False
    ) -> None:
        """Use a session.

        Args:
            session: Whose inputs and outputs.
            device: ONNX Runtime's name of it, "cuda" or "cpu".
            most: Batch sizes to keep buffers for; past that the oldest are given back.
            records: Whether the session records its calls, one for each of the first `GRAPHS` batch sizes. What is
                recorded reads and writes these very buffers, so none of them is given back; other sizes get buffers
                of their own for each call.
        """
        self._session, self._device, self._records = session, device, records
        self._most = GRAPHS if records else most
        self._input = session.get_inputs()[0].name
        self._outputs = session.get_outputs()
        self._buffers: dict[tuple[int, ...], tuple[Any, Any, list[Any]]] = {}
        self._lock = Lock()  # a set of buffers serves one call at a time

    def run(self, images: np.ndarray, options: ort.RunOptions | None = None) -> dict[str, np.ndarray]:
        """As `OnnxSession`."""
        if images.dtype != np.uint8:  # its bytes would be taken as they are
            raise BackendError(f"images must be uint8, got {images.dtype}")
        with self._lock:
            buffers = self._buffers.get(images.shape) or self._make(images.shape)
            if self._records:
                options = options or ort.RunOptions()
                options.add_run_config_entry("gpu_graph_id", self._graph_id(images.shape))
            binding, source, results = buffers
            source.update_inplace(np.ascontiguousarray(images))
            self._session.run_with_iobinding(binding, options)
            return {
                output.name: np.array(result.numpy())
                for output, result in zip(self._outputs, results, strict=True)
            }

    def _make(self, shape: tuple[int, ...]) -> tuple[Any, Any, list[Any]]:
        def allocate(shape: tuple[int, ...], dtype: type) -> Any:
            return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._device, 0)

        source, binding = allocate(shape, np.uint8), self._session.io_binding()
        binding.bind_ortvalue_input(self._input, source)
        results = [allocate((shape[0], *output.shape[1:]), np.float32) for output in self._outputs]
        for output, result in zip(self._outputs, results, strict=True):
            binding.bind_ortvalue_output(output.name, result)
        buffers = binding, source, results
        if self._records and len(self._buffers) >= self._most:
            return buffers
        while len(self._buffers) >= self._most:
            del self._buffers[next(iter(self._buffers))]
        self._buffers[shape] = buffers
        return buffers

    def _graph_id(self, shape: tuple[int, ...]) -> str:
        """ONNX Runtime's number of what is recorded for a shape; -1 is for none."""
        known = list(self._buffers)
        return str(1 + known.index(shape)) if shape in known else "-1"


def check_placement(session: ort.InferenceSession) -> None:
    """Raise BackendError if work for a GPU is left to the CPU; ONNX Runtime before 1.24 does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return
    stray = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    }
    if heavy := sorted(stray & _HEAVY):
        raise BackendError(
            f"ONNX Runtime leaves {', '.join(heavy)} of the graph to the CPU; update onnxruntime-gpu, or choose "
            "--provider cpu"
        )


def fold_constants(graph: Path, output: Path) -> None:
    """Write a graph with what depends on nothing computed, and nothing fused; its weights beside it, `NAME.data`."""
    options = _session_options(1)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", f"{output.name}.data"
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
    )
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(output)
    ort.InferenceSession(str(graph), options, providers=[CPU])


def available_providers() -> tuple[str, ...]:
    """The execution providers that this ONNX Runtime was built with and that are offered, the preferred one first."""
    return tuple(name for name in ort.get_available_providers() if name != TENSORRT)


def find_provider(name: str) -> str:
    """The full name of a provider; InputError, with the remedy, if this ONNX Runtime has none of that name."""
    available = available_providers()
    if name == "auto":
        return next(provider for provider in AUTO if provider in available)
    if name.lower() == CUDA_GRAPH and CUDA in available:
        return CUDA
    for provider in available:
        if name.lower() in (provider.lower(), provider.lower().removesuffix("executionprovider")):
            return provider
    is_tensorrt = name.lower().startswith("tensorrt")
    remedy = "leave it out, and TensorRT runs the engines of acl build" if is_tensorrt else _remedy()
    raise InputError(f"provider must be auto or one of {', '.join(available)}, got {name}; {remedy}")


def _remedy() -> str:
    try:
        installed = version("onnxruntime-gpu")
    except PackageNotFoundError:
        return 'for CUDA, in the checkout: pip install -e ".[gpu]" in an environment of its own'
    return (
        f"onnxruntime-gpu {installed} is installed, but hidden by onnxruntime: pip uninstall -y onnxruntime "
        "onnxruntime-gpu && pip install onnxruntime-gpu"
    )


@contextmanager
def _stopping(time_limit_s: float | None) -> Iterator[ort.RunOptions]:
    """Options of a call that ends, with an error of ONNX Runtime, when its time is over."""
    options = ort.RunOptions()
    options.log_severity_level = 4  # what goes wrong is in the exception
    if time_limit_s is None:
        yield options
        return
    timer = Timer(time_limit_s, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL  # a transformer has one path
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # see check_placement
    options.log_severity_level = 3  # errors; its warnings are about its own optimiser
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]

"""Run a bundle's graph with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
except ImportError as problem:
    raise RuntimeError(
        f'ONNX Runtime cannot be imported ({problem}); in the checkout: pip install -e ".[cpu]"'
    ) from problem

AUTO = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this ONNX Runtime was built with
_ERRORS = (  # they share no base class but Exception
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)


class OnnxSession:
    """A loaded graph: images in, arrays out.

    Call it with (B, S, S, 3) uint8 RGB; it returns the graph's outputs by name, see `bundle.py`.
    """

    def __init__(self, path: Path | str, provider: str = "auto", *, threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: The ONNX file.
            provider: An execution provider of ONNX Runtime, the ending `ExecutionProvider` may be left out;
                "auto" for CUDA where this ONNX Runtime has it, else the CPU.
            threads: CPU threads to compute with; 0 for one per core.
        """
        self.provider = _find_provider(provider)
        try:
            self._session = ort.InferenceSession(str(path), _options(threads), providers=[self.provider])
        except _ERRORS as error:
            raise RuntimeError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from error
        self._session.disable_fallback()
        active = self._session.get_providers()[0]
        if active != self.provider:  # a provider whose libraries fail to load is dropped in silence
            raise RuntimeError(
                f"ONNX Runtime could not start {self.provider} and fell back to {active}; "
                f"install its libraries or choose --provider {active}"
            )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph on `images`, (B, S, S, 3) uint8 RGB."""
        try:
            arrays = self._session.run(self._outputs, {self._input: images})
        except _ERRORS as error:
            raise RuntimeError(f"ONNX Runtime failed on {images.shape}: {_first_line(error)}") from error
        return dict(zip(self._outputs, arrays, strict=True))


def available_providers() -> tuple[str, ...]:
    """The execution providers that this ONNX Runtime was built with, the preferred one first."""
    return tuple(ort.get_available_providers())


def _find_provider(name: str) -> str:
    available = available_providers()
    if name == "auto":
        return next(provider for provider in AUTO if provider in available)
    for provider in available:
        if name.lower() in (provider.lower(), provider.lower().removesuffix("executionprovider")):
            return provider
    remedy = 'for CUDA, in the checkout: pip install -e ".[gpu]" in an environment of its own'
    raise ValueError(f"provider must be auto or one of {', '.join(available)}, got {name}; {remedy}")


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL  # a transformer has one path
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors; its warnings are about its own optimiser
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]

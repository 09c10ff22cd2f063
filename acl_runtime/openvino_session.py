"""Run a bundle's graph with OpenVINO, on the CPU."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np

from acl_runtime.bundle import Bundle

try:
    import openvino
except ImportError as problem:
    raise RuntimeError(
        f'OpenVINO cannot be imported ({problem}); in the checkout: pip install -e ".[openvino]"'
    ) from problem

CpuPrecision = Literal["f32", "bf16"]


class OpenVinoSession:
    """A loaded graph: images in, arrays out; threads may share it.

    Call it with (B, S, S, 3) uint8 RGB; it returns the graph's outputs by name, see `bundle.py`.

    Attributes:
        provider: Where it computes and in what, such as "CPU f32".
    """

    def __init__(self, path: Path | str, *, precision: CpuPrecision = "f32", threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: The ONNX file.
            precision: Of the products. Never left to OpenVINO, whose default is bf16 where the CPU has it.
            threads: CPU threads to compute with; 0 for one per core.

        Raises:
            RuntimeError: It cannot be loaded, or this CPU does not compute in that precision.
        """
        self.provider = f"CPU {precision}"
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
        }
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RuntimeError("this CPU has no bf16; use f32")
        try:
            self._model = core.compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise RuntimeError(f"{path}: OpenVINO cannot load it: {_last_line(error)}") from error
        self._request = self._model.create_infer_request()
        self._lock = Lock()  # a request serves one call at a time
        self._names = [output.get_any_name() for output in self._model.outputs]

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, *, precision: CpuPrecision = "f32", threads: int = 0
    ) -> OpenVinoSession:
        """Load a bundle's graph; arguments and errors as of `OpenVinoSession`."""
        return cls(bundle.cpu_graph_path, precision=precision, threads=threads)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph on `images`, (B, S, S, 3) uint8 RGB."""
        if images.dtype != np.uint8:  # it would be converted in silence
            raise RuntimeError(f"images must be uint8, got {images.dtype}")
        with self._lock:
            try:
                outputs = self._request.infer([np.ascontiguousarray(images)], share_inputs=True)
            except RuntimeError as error:
                raise RuntimeError(f"OpenVINO failed on {images.shape}: {_last_line(error)}") from error
            return {name: np.array(outputs[name]) for name in self._names}


def _last_line(error: Exception) -> str:
    """OpenVINO's errors begin with the places in its source that they went through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"

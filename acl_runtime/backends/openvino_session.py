"""Run a bundle's graph with OpenVINO, on the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from acl_runtime.bundle.bundle import Bundle
from acl_runtime.files.errors import BackendError

try:
    import openvino
    from openvino import opset13 as ops
    from openvino.passes import ConstantFolding, Manager
except ImportError as problem:
    raise BackendError(
        f'OpenVINO cannot be imported ({problem}); in the checkout: pip install -e ".[openvino]"'
    ) from problem

CpuPrecision = Literal["f32", "bf16", "int8"]
LARGEST_INT8 = 127


class OpenVinoSession:
    """A loaded graph: images in, arrays out; threads may share it.

    Call it with (B, S, S, 3) uint8 RGB; it returns the graph's outputs by name, see `bundle.py`.

    Attributes:
        backend: "openvino", "openvino-bf16" or "openvino-int8".
        provider: Where it computes and in what, such as "CPU f32".
    """

    def __init__(self, path: Path | str, *, precision: CpuPrecision = "f32", threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: The ONNX file.
            precision: Of the products; with int8 that of the linear layers, while the attention is in bf16 where the
                CPU has it, else in f32. Never left to OpenVINO, whose default is bf16 where the CPU has it.
            threads: CPU threads to compute with; 0 for one per core.

        Raises:
            BackendError: It cannot be loaded, or this CPU does not compute in that precision.
        """
        self.backend = "openvino" if precision == "f32" else f"openvino-{precision}"
        self.provider = f"CPU {precision}"
        core = _core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise BackendError("this CPU has no bf16; use f32")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision != "f32" and has_bf16 else "f32",
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            model = core.read_model(str(path))
            fix_batch(model, 1)
            if precision == "int8":
                width = linear_layers_in_int8(model)
            else:
                width, _ = 0, linear_layers_as_convolutions(model)
            compiled = core.compile_model(model, "CPU", settings | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": width})
        except RuntimeError as error:
            raise BackendError(f"{path}: OpenVINO cannot load it: {_last_line(error)}") from error
        self._request: Any = compiled.create_infer_request()  # it keeps the compiled model
        self._lock = Lock()  # a request serves one call at a time
        self._names = [output.get_any_name() for output in compiled.outputs]

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, *, precision: CpuPrecision = "f32", threads: int = 0
    ) -> OpenVinoSession:
        """Load a bundle's graph; arguments and errors as of `OpenVinoSession`."""
        return cls(bundle.cpu_graph_path, precision=precision, threads=threads)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph on `images`, (B, S, S, 3) uint8 RGB, one after the other.

        Fixed shapes are faster, so a batch is done frame by frame.
        """
        if images.dtype != np.uint8:  # it would be converted in silence
            raise BackendError(f"images must be uint8, got {images.dtype}")
        with self._lock:
            if self._request is None:
                raise BackendError("the session was closed; open another")
            try:
                found = [self._infer(image[None]) for image in np.ascontiguousarray(images)]
            except MemoryError as error:
                raise BackendError(
                    "there is not enough memory to run the graph; close other programs"
                ) from error
        return {name: np.concatenate([each[name] for each in found]) for name in self._names}

    def close(self) -> None:
        """Free the graph's memory, once the calls before have ended; a second time does nothing."""
        with self._lock:
            self._request = None

    def _infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = self._request.infer([image], share_inputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on {image.shape[1:]}: {_last_line(error)}") from error
        return {name: np.array(outputs[name]) for name in self._names}


@cache
def _core() -> openvino.Core:
    """OpenVINO, one for the life of the process.

    Its CPU plugin gives the thread that loads it a stack for signals. Freed in another thread, as when a service opens
    a failed engine again, the plugin takes that memory along, and the next signal to the first thread, such as
    SIGTERM, is a segmentation fault (seen with 2026.4).
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a mapped file keeps all of its weights until the end
    return core


def fix_batch(model: openvino.Model, batch: int) -> None:
    """Fix the batch size of a graph, and compute what then depends on nothing; in place."""
    model.reshape({0: [batch, *model.inputs[0].partial_shape[1:]]})
    folding = Manager()
    folding.register_pass(ConstantFolding())  # weights that are cast or turned become constants
    folding.run_passes(model)


def linear_layers_as_convolutions(model: openvino.Model) -> int:
    """Write the products of tokens with weights as convolutions with one pixel; the result is the same.

    OpenVINO hands a product with weights to oneDNN's inner product, which takes the tokens in blocks of 64 and wastes
    time on the rest, and a convolution to a kernel that does not: 197 tokens at 224 pixels are three blocks and five
    rows. The transposes around a convolution only name another order of the same memory, and cost nothing.

    Args:
        model: With a fixed batch, or the transposes move memory after all; changed in place.

    Returns:
        How many products were rewritten.
    """
    products = _linear_layers(model)
    count = len(products)
    while products:
        product = products.pop()  # so that its weights' memory is free before the next ones are copied
        _replace(product, _convolution(product))
    model.validate_nodes_and_infer_types()
    return count


def linear_layers_in_int8(model: openvino.Model) -> int:
    """Round the weights that tokens are multiplied with to int8, a scale per output.

    OpenVINO rounds the tokens to int8 too, as they come, and multiplies integers, if the CPU can (one with AVX-512 VNNI
    does) and the model is compiled with DYNAMIC_QUANTIZATION_GROUP_SIZE, which says how many neighbours in a token
    share a scale: smaller groups than the width of the tower were slower, and no nearer.

    Args:
        model: With a fixed batch; changed in place.

    Returns:
        W, the width of the tower; 0 if there is no such product.
    """
    products = _linear_layers(model)
    width = min((int(product.input_value(0).get_shape()[2]) for product in products), default=0)
    while products:
        product = products.pop()  # as above
        _replace(product, ops.matmul(product.input_value(0), _rounded(_weights(product)), False, True))
    model.validate_nodes_and_infer_types()
    return width


def _linear_layers(model: openvino.Model) -> list[Any]:
    """The products of (B, N, W) tokens with weights that a bias is added to; not those of the class token alone."""
    return [node for node in model.get_ordered_ops() if _is_linear_layer(node)]


def _is_linear_layer(node: Any) -> bool:
    if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    tokens, weights = (node.input_value(number).get_shape() for number in (0, 1))
    has_bias = all(
        reader.get_node().get_type_name() == "Add" for reader in node.output(0).get_target_inputs()
    )
    return len(tokens) == 3 and len(weights) == 2 and tokens[1] > 1 and has_bias


def _weights(product: Any) -> np.ndarray:
    """(V, W) float32, a row per output."""
    weights: np.ndarray = product.input_value(1).get_node().data
    return weights if product.get_attributes()["transpose_b"] else weights.T


def _convolution(product: Any) -> Any:
    kernel = np.ascontiguousarray(_weights(product))[:, :, None, None]  # (V, W, 1, 1)
    pixels = ops.transpose(ops.unsqueeze(product.input_value(0), [1]), [0, 3, 1, 2])  # (B, W, 1, N)
    convolved = ops.convolution(pixels, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])  # (B, V, 1, N)
    return ops.squeeze(ops.transpose(convolved, [0, 2, 3, 1]), [1])  # (B, N, V)


def _rounded(weights: np.ndarray) -> Any:
    """(V, W) as int8 times the scale of its row."""
    scales = np.abs(weights).max(axis=1, keepdims=True) / LARGEST_INT8  # (V, 1)
    scales[scales == 0] = 1
    integers = np.rint(weights / scales).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scales))


def _replace(node: Any, other: Any) -> None:
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(other.output(0))


def _last_line(error: Exception) -> str:
    """OpenVINO's errors begin with the places in its source that they went through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"

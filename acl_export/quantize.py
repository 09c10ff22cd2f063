"""The graph with its linear layers in int8: weights once, activations as they come; attention stays in float32."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from acl_runtime.backends.onnx_session import fold_constants

JOINT = "visual.proj"  # the projection to CLIP's joint space, which the cosines are too fine for


def quantize_linear_layers(graph: Path, output: Path, *, width: int, hidden: int | None = None) -> int:
    """Write a graph whose linear layers multiply in int8, by ONNX Runtime's quantiser.

    Args:
        graph: In float32.
        output: ONNX file to write, its weights inside.
        width: W of the vision tower.
        hidden: Units between the layers of its MLPs; None for four times the width.

    Returns:
        How many products are in int8 now; those of the second path count too.

    Raises:
        RuntimeError: The quantiser left some out.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".int8-") as scratch:
        folded = Path(scratch) / "folded.onnx"
        fold_constants(graph, folded)  # weights that are cast or turned become constants
        model = onnx.load(folded, load_external_data=False)
        linear = _linear_layers(model, width, hidden or 4 * width)
        level, logger = logging.root.level, logging.getLogger()
        logger.setLevel(logging.ERROR)  # it recommends a preprocessing that is done
        try:
            quantize_dynamic(
                folded,
                output,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=linear,
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            logger.setLevel(level)
    made: int = sum(node.op_type == "MatMulInteger" for node in onnx.load(output).graph.node)
    if made != len(linear) or not linear:
        raise RuntimeError(f"{made} of {len(linear)} linear layers came out in int8; please report this")
    return made


def _linear_layers(model: onnx.ModelProto, width: int, hidden: int) -> list[str]:
    """Names of the products of tokens with weights of the blocks."""
    shapes = {(width, 3 * width), (width, width), (width, hidden), (hidden, width)}
    weights = {
        tensor.name
        for tensor in model.graph.initializer
        if tuple(tensor.dims) in shapes and tensor.name != JOINT
    }
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]

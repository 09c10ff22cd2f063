"""A graph in fp16 whose products are summed in fp32, made from the one that leaves that to the kernels.

What a matrix product in fp16 is summed in is not in an ONNX graph. A product of fp16 numbers that are cast to float32,
and whose result is cast back, says it: TensorRT-RTX takes the same kernels, with sums in fp32, and the casts vanish.
ONNX Runtime multiplies in float32 then, at a fraction of the speed; so the graph is for engines alone.
"""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

PRODUCTS = ("MatMul", "Gemm")


def write_accumulating(source: Path, target: Path) -> None:
    """Write the graph beside the one that it is made from; both share the weights' file.

    Raises:
        onnx.checker.ValidationError: If it is not valid ONNX.
    """
    model = onnx.load(source, load_external_data=False)
    target.write_bytes(accumulate_in_fp32(model).SerializeToString())
    onnx.checker.check_model(str(target), full_check=True)


def accumulate_in_fp32(model: ModelProto) -> ModelProto:
    """A copy of a graph in which every product in fp16 has fp32 casts around it; weights stay where they are.

    Args:
        model: Of opset 13 or newer, types of all tensors known to shape inference.
    """
    widened = copy.deepcopy(model)
    graph = widened.graph
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    half |= {
        value.name
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes += _widen(node) if node.op_type in PRODUCTS and node.output[0] in half else [node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return widened


def _widen(product: NodeProto) -> list[NodeProto]:
    """The product with a cast for every input, and one for its result."""
    result = product.output[0]
    names = [f"{result}_fp32_{number}" for number in range(len(product.input))]
    before = [
        helper.make_node("Cast", [name], [cast], to=TensorProto.FLOAT)
        for name, cast in zip(product.input, names, strict=True)
    ]
    wide = copy.deepcopy(product)
    wide.input[:], wide.output[:] = names, [f"{result}_fp32"]
    return [*before, wide, helper.make_node("Cast", [f"{result}_fp32"], [result], to=TensorProto.FLOAT16)]

"""A graph for engines whose linear layers multiply in int8 or fp8, by pairs of quantising and dequantising nodes.

The pairs say what an engine's builder must do: it takes kernels of that type where it finds them around a product, and
nowhere else. Weights have a scale per output, tokens one for all. What lies between stays as in the graph it is made
from, the attention above all.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from acl_export.config import LowType

OPSET = 19  # the first whose quantising nodes know fp16 and fp8; TensorRT 10 reads it
LARGEST: dict[LowType, float] = {"int8": 127.0, "fp8": 448.0}  # fp8 is E4M3, which has no infinity
_TYPES: dict[LowType, int] = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
SMALLEST_SCALE = 2.0**-14  # of fp16; below it digits are lost
SMOOTHING = 0.5
E4M3 = ml_dtypes.float8_e4m3fn
_LEAST = 1e-5  # a channel that is always zero counts as this


@dataclass(frozen=True)
class LinearLayer:
    """A product of fp16 tokens with weights.

    Attributes:
        product: The node.
        weights: Name of the stored weights.
        turned: Whether they are stored with a row per output, and turned before the product.
    """

    product: NodeProto
    weights: str
    turned: bool

    @property
    def tokens(self) -> str:
        """Name of what is multiplied with the weights."""
        return str(self.product.input[0])


def find_linear_layers(model: ModelProto) -> list[LinearLayer]:
    """The products of fp16 tokens with fp16 weights: those of the blocks, on both paths; all else is in fp32.

    Args:
        model: In the arithmetic `fp16`; weights may lie in another file.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    turned = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in stored
    }
    layers = []
    for node in model.graph.node:
        if node.op_type != "MatMul":
            continue
        name = turned.get(node.input[1], node.input[1])
        weights = stored.get(name)
        if weights is not None and weights.data_type == TensorProto.FLOAT16 and len(weights.dims) == 2:
            layers.append(LinearLayer(node, name, node.input[1] in turned))
    return layers


def quantize_linear_layers(
    model: ModelProto, largest: Mapping[str, np.ndarray], low: LowType, *, smoothing: float = SMOOTHING
) -> ModelProto:
    """A copy of a graph whose linear layers multiply in a type of eight bits.

    Args:
        model: In the arithmetic `fp16`, its weights in it.
        largest: Of the tokens of each layer, by name: (channels,) largest magnitude of each channel.
        low: That type.
        smoothing: See `fold_outliers`; 0 for none.
    """
    model = copy.deepcopy(model)
    layers = find_linear_layers(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {each.weights: _rows(stored[each.weights], turned=each.turned) for each in layers}
    factors = fold_outliers(model, layers, weights, largest, smoothing) if smoothing else {}
    made: dict[str, str] = {}  # what stands for tokens and weights
    before: dict[str, list[NodeProto]] = {}  # new nodes, by the product that needs them first
    for layer in layers:
        new, tokens = before.setdefault(layer.product.output[0], []), layer.tokens
        if tokens not in made:
            made[tokens] = f"{tokens}_{low}_dq"
            new += _pair(model, tokens, np.max(largest[tokens] / factors.get(tokens, 1.0)), low)
        if layer.weights not in made:
            made[layer.weights] = f"{layer.weights}_{low}_dq"
            rows = weights[layer.weights] * np.expand_dims(factors.get(tokens, np.ones(1)), 1)
            new += _store(model, layer.weights, rows, low)
        layer.product.input[:] = [made[tokens], made[layer.weights]]
    nodes = [each for node in model.graph.node for each in (*before.get(node.output[0], ()), node)]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(_needed(nodes, {output.name for output in model.graph.output}))
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    _set_opset(model)
    return model


def fold_outliers(
    model: ModelProto,
    layers: Sequence[LinearLayer],
    weights: Mapping[str, np.ndarray],
    largest: Mapping[str, np.ndarray],
    strength: float,
) -> dict[str, np.ndarray]:
    """Divide what layer norms give by a factor per channel, in place; the layers' weights are to be multiplied by it.

    A channel that is far larger than the others, as transformers have, would set the scale of all. After SmoothQuant
    (arXiv 2211.10438) the factor is a^strength / w^(1 - strength), a the largest token of the channel and w its largest
    weight. Only layers that follow a layer norm can have one: elsewhere the attention over values, or an activation
    function, lies between.

    Args:
        model: Whose layer norms are changed.
        layers: Its linear layers.
        weights: (channels, outputs) of each, by name.
        largest: As in `quantize_linear_layers`.
        strength: Between 0, all of it left in the tokens, and 1, all of it moved to the weights.

    Returns:
        (channels,) factors, by name of the tokens.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    factors = {}
    for tokens in dict.fromkeys(layer.tokens for layer in layers):
        of_these = [layer for layer in layers if layer.tokens == tokens]
        cast = made_by[tokens]
        norm = made_by.get(cast.input[0]) if cast.op_type == "Cast" else None
        if norm is None or norm.op_type != "LayerNormalization" or readers[tokens] != len(of_these):
            continue
        alone = (norm.output[0], *norm.input[1:], *(layer.product.input[1] for layer in of_these))
        if any(readers[name] != 1 for name in alone):
            continue  # somebody else reads them too
        heaviest = np.max([np.abs(weights[layer.weights]).max(axis=1) for layer in of_these], axis=0)
        a, w = np.maximum(largest[tokens], _LEAST), np.maximum(heaviest, _LEAST)
        factors[tokens] = a**strength / w ** (1 - strength)
        for name in norm.input[1:]:
            changed = numpy_helper.to_array(stored[name]) / factors[tokens]
            stored[name].CopyFrom(numpy_helper.from_array(changed.astype(np.float32), name))
    return factors


def round_to(array: np.ndarray, scales: np.ndarray, low: LowType) -> np.ndarray:
    """`array` / `scales` in the type, to the nearest, and at most its largest."""
    limit = LARGEST[low]
    scaled = np.clip(array.astype(np.float32) / scales.astype(np.float32), -limit, limit)
    rounded: np.ndarray = np.rint(scaled).astype(np.int8) if low == "int8" else scaled.astype(E4M3)
    return rounded


def _pair(model: ModelProto, name: str, largest: np.floating, low: LowType) -> list[NodeProto]:
    """Tokens to the type and back, with one scale."""
    scale, zero, quantized = f"{name}_scale", f"{name}_zero", f"{name}_{low}"
    model.graph.initializer.extend(
        [numpy_helper.from_array(_scales(np.asarray(largest), low), scale), _zeros(zero, (), low)]
    )
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [quantized]),
        helper.make_node("DequantizeLinear", [quantized, scale, zero], [f"{quantized}_dq"]),
    ]


def _rows(stored: TensorProto, *, turned: bool) -> np.ndarray:
    """Weights as (inputs, outputs) float32."""
    array: np.ndarray = numpy_helper.to_array(stored).astype(np.float32)
    return array.T if turned else array


def _store(model: ModelProto, name: str, rows: np.ndarray, low: LowType) -> list[NodeProto]:
    """Weights (inputs, outputs) of the type, with a scale per output, and back."""
    scales = _scales(np.abs(rows).max(axis=0), low)
    rounded = np.ascontiguousarray(round_to(rows, scales, low))
    kept, scale, zero = (f"{name}_{low}{part}" for part in ("", "_scale", "_zero"))
    tensor = TensorProto(name=kept, data_type=_TYPES[low], dims=rounded.shape, raw_data=rounded.tobytes())
    model.graph.initializer.extend(
        [tensor, numpy_helper.from_array(scales, scale), _zeros(zero, scales.shape, low)]
    )
    return [helper.make_node("DequantizeLinear", [kept, scale, zero], [f"{kept}_dq"], axis=1)]


def _scales(largest: np.ndarray, low: LowType) -> np.ndarray:
    """Fp16, so that the largest magnitude is the type's largest number."""
    scales: np.ndarray = np.maximum(largest.astype(np.float32) / LARGEST[low], SMALLEST_SCALE)
    return scales.astype(np.float16)


def _zeros(name: str, shape: tuple[int, ...], low: LowType) -> TensorProto:
    return TensorProto(name=name, data_type=_TYPES[low], dims=shape, raw_data=bytes(int(np.prod(shape))))


def _needed(nodes: list[NodeProto], outputs: set[str]) -> Iterator[NodeProto]:
    """Without those whose results nobody reads."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return reversed(kept)


def _set_opset(model: ModelProto) -> None:
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx"):
            each.version = max(each.version, OPSET)

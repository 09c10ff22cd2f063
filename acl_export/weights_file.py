"""One file of weights for several ONNX graphs: what they have in common is stored once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper

SMALL_BYTES = 1024  # what is smaller stays in the graph
ALIGNMENT = 4096  # bytes, so that a runtime can map a weight where it lies


class WeightsFile:
    """Weights of graphs that lie in the same folder, each kept once."""

    def __init__(self, path: Path, *, narrow: bool = False) -> None:
        """Begin an empty file at `path`; `narrow` stores float32 that are fp16 numbers as such, cast in the graph."""
        self._path, self._narrow = path, narrow
        self._places: dict[str, tuple[int, int]] = {}  # offset and length by sha256
        path.write_bytes(b"")

    def move_from(self, model: ModelProto) -> None:
        """Take the large weights out of a graph and leave word where they are."""
        casts = []
        for tensor in model.graph.initializer:
            if tensor.ByteSize() < SMALL_BYTES:
                continue
            array, data = numpy_helper.to_array(tensor), tensor.raw_data
            if self._narrow and _is_half(array):
                name = tensor.name
                tensor.name, tensor.data_type = f"{name}_fp16", TensorProto.FLOAT16
                casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
                data = array.astype(np.float16).tobytes()
            offset, length = self._store(data or np.ascontiguousarray(array).tobytes())
            tensor.raw_data = b""  # marks it as one whose bytes may lie elsewhere
            external_data_helper.set_external_data(tensor, self._path.name, offset, length)
            tensor.ClearField("raw_data")
        for node in reversed(casts):
            model.graph.node.insert(0, node)

    def _store(self, data: bytes) -> tuple[int, int]:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._places:
            with self._path.open("ab") as file:
                file.write(bytes(-file.tell() % ALIGNMENT))
                self._places[digest] = file.tell(), len(data)
                file.write(data)
        return self._places[digest]


def _is_half(array: np.ndarray) -> bool:
    if array.dtype != np.float32:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array.astype(np.float16).astype(np.float32), array))

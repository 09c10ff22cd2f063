"""Which other files an ONNX file reads, found without the onnx package: a walk over its protobuf fields."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from acl_runtime.files.errors import BundleError

# For each message of onnx.proto: field number -> message it holds. Other fields are skipped.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(path: Path | str) -> set[str]:
    """Where, as written in the graph, its tensors are stored; empty when it holds them all itself.

    Raises:
        BundleError: The file is not an ONNX graph.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_locations(data, 0, len(data), "model"))
    except (IndexError, ValueError, RecursionError) as error:  # mmap of an empty file is a ValueError too
        raise BundleError(f"{path}: is not an ONNX graph ({error}); export the bundle again") from error


def _locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    children = _MESSAGES[message]
    for number, first, last in _fields(data, start, end):
        child = children.get(number)
        if child == "entry":
            entry = {key: data[at:to] for key, at, to in _fields(data, first, last)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode()
        elif child:
            yield from _locations(data, first, last, child)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every length-delimited field of the message in data[start:end]."""
    while start < end:
        tag, start = _varint(data, start)
        if tag >= 1 << 32:  # protobuf drops the bits above, and would see another field than we do
            raise ValueError("a field's number is too large")
        wire = tag & 7
        if wire == _VARINT:
            _, start = _varint(data, start)
        elif wire == _BYTES:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError("a field runs past the end")
            yield tag >> 3, start, start + length
            start += length
        elif wire in (_FIXED64, _FIXED32):
            start += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")

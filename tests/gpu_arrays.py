"""Arrays that are on a stand-in GPU, as other libraries give them: with `__cuda_array_interface__`, or `__dlpack__`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from standin_cuda import DEFAULT, MEMORY, STREAMS, StandinCuda, StandinStream

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def default_stream(cuda: StandinCuda) -> StandinStream:
    """CUDA's default stream, made when it is first asked for."""
    return STREAMS[DEFAULT] if DEFAULT in STREAMS else StandinStream(cuda, DEFAULT)


class GpuArray:
    """A picture in a stand-in's memory, which a stream of its own still has to write there.

    Attributes:
        address: Of its first pixel.
    """

    def __init__(self, cuda: StandinCuda, pixels: np.ndarray, *, pitch: int | None = None) -> None:
        """Have a new stream write `pixels`, (H, W, 3) uint8, with so many bytes from row to row."""
        self.pixels, self.cuda = pixels, cuda
        height, width = pixels.shape[:2]
        self.pitch = 3 * width if pitch is None else pitch
        self.address = cuda.allocate(height * self.pitch)
        self.producer = StandinStream(cuda)
        with cuda.current():
            self.producer.submit(self._write)

    def _write(self) -> None:
        rows = MEMORY[self.address].reshape(len(self.pixels), self.pitch)
        rows[:, : self.pixels[0].nbytes] = self.pixels.reshape(len(self.pixels), -1)

    def free(self) -> None:
        """Give its memory back."""
        self.cuda.free(self.address)

    def told(self, **changes: Any) -> dict[str, Any]:
        """What the interface says."""
        strides = (self.pitch, 3, 1)
        said = {"shape": self.pixels.shape, "typestr": "|u1", "data": (self.address, False), "version": 3}
        return said | {"strides": strides, "stream": self.producer.handle} | changes


class InterfaceArray(GpuArray):
    """As cupy's and pycuda's."""

    changes: Mapping[str, Any] = MappingProxyType({})

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.told(**self.changes)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p * 2),
    )


class DlpackArray(GpuArray):
    """As PyTorch's.

    Attributes:
        device: Kind and number of the device that it says.
        dtype: Code, bits and lanes that it says.
        problem: What `__dlpack__` raises; None for nothing.
        asked: Streams that were asked for.
    """

    def __init__(self, cuda: StandinCuda, pixels: np.ndarray, *, pitch: int | None = None) -> None:
        super().__init__(cuda, pixels, pitch=pitch)
        self.device, self.dtype, self.problem = (2, cuda.ordinal), (1, 8, 1), None  # type: Any, Any, Any
        self.asked: list[int] = []
        self._kept: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device  # type: ignore[no-any-return]

    def __dlpack__(self, *, stream: int) -> object:
        if self.problem is not None:
            raise self.problem
        self.asked.append(stream)
        with self.cuda.current():
            (default_stream(self.cuda) if stream == DEFAULT else STREAMS[stream]).wait_for(
                self.producer.handle
            )
        shape = (ctypes.c_int64 * 3)(*self.pixels.shape)
        strides = (ctypes.c_int64 * 3)(self.pitch, 3, 1)
        code, bits, lanes = self.dtype
        tensor = _Tensor(
            data=self.address,
            device=(ctypes.c_int32 * 2)(*self.device),
            ndim=3,
            dtype=(ctypes.c_uint8 * 4)(code, bits, lanes, 0),
            shape=ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            strides=ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64)),
        )
        self._kept += [tensor, shape, strides]
        return _new_capsule(ctypes.addressof(tensor), b"dltensor", None)

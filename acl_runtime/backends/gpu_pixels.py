"""The pixels of a frame that is on the GPU already, as cupy, PyTorch, pycuda or a frame grabber gives it.

Two interfaces are read, neither of which needs a library: `__dlpack__`, and `__cuda_array_interface__` of version 3.
Nothing here touches the GPU; that is for the session that computes, see `GpuSession`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from acl_runtime.files.errors import FrameError

WANTED = "a frame on the GPU must be a (H, W, 3) array of uint8, BGR, whose pixels lie side by side"
_ON_GPU = {2: "CUDA", 13: "CUDA, managed"}  # DLPack's numbers of devices
_IN_COMPUTER = (1, 3)  # its memory, also page-locked
_UNSIGNED = 1  # DLPack's
LEGACY_STREAM = 1  # CUDA's default stream, by number


@dataclass(frozen=True, eq=False)
class GpuPixels:
    """Where the pixels of a frame are.

    Attributes:
        owner: What was given; its memory stays as long as this does.
        address: Of the first pixel.
        height: In pixels.
        width: In pixels.
        pitch: Bytes from one row to the next.
        device: Number of the GPU; None where the interface does not tell.
        stream: Number of the stream that has the pixels once all is done that it was given so far.
    """

    owner: Any
    address: int
    height: int
    width: int
    pitch: int
    device: int | None
    stream: int

    @property
    def bytes(self) -> int:
        """From the first pixel to the end of the last."""
        return (self.height - 1) * self.pitch + 3 * self.width


def is_on_gpu(frame: object) -> bool:
    """Whether it is an array of another library than numpy, most likely on a GPU."""
    return not isinstance(frame, np.ndarray) and (
        hasattr(frame, "__dlpack__") or hasattr(frame, "__cuda_array_interface__")
    )


def gpu_pixels(frame: object) -> GpuPixels:
    """Where the pixels of a frame on the GPU are.

    Args:
        frame: (H, W, 3) uint8 BGR, with `__dlpack__` or `__cuda_array_interface__`; DLPack's where it has both, since
            with that one a stream is waited for in every version. To be called by the thread that made the pixels.

    Raises:
        FrameError: It is no such frame, or not on a GPU.
    """
    return _read_dlpack(frame) if hasattr(frame, "__dlpack__") else _read_interface(frame)


def _read_interface(frame: Any) -> GpuPixels:
    try:
        told = dict(frame.__cuda_array_interface__)
        shape, (address, _) = tuple(map(int, told["shape"])), told["data"]
        kind, strides, stream = str(told["typestr"]), told.get("strides"), told.get("stream")
        version = int(told["version"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise FrameError(f"the frame's __cuda_array_interface__ cannot be read ({error})") from error
    if told.get("mask") is not None:
        raise FrameError(f"{WANTED}, got one with a mask")
    if stream == 0:
        raise FrameError("the frame's __cuda_array_interface__ names stream 0; 1 is the default stream")
    _check(shape, kind.lstrip("|<>="), "u1")
    steps = (3 * shape[1], 3, 1) if strides is None else tuple(map(int, strides))
    if (
        stream is None or version < 3
    ):  # who works on the default stream and says nothing, such as pycuda, is waited for
        stream = LEGACY_STREAM
    return _pixels(frame, int(address), shape, steps, device=None, stream=int(stream))


def _read_dlpack(frame: Any) -> GpuPixels:
    try:
        kind, device = map(int, frame.__dlpack_device__())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise FrameError(f"the frame's __dlpack_device__ cannot be read ({error})") from error
    if kind in _IN_COMPUTER:
        raise FrameError(
            "the frame is not on a GPU: give it as an array of numpy, such as numpy.asarray(frame)"
        )
    if kind not in _ON_GPU:
        raise FrameError(f"the frame must be on an NVIDIA GPU, got a device of DLPack's kind {kind}")
    # the owner makes the default stream wait for its own, which it knows here: in the thread that gives frames
    capsule = _capsule(frame, LEGACY_STREAM)
    tensor = _tensor_in(capsule)
    shape = tuple(tensor.shape[: tensor.ndim])
    _check(shape, (tensor.code, tensor.bits, tensor.lanes), (_UNSIGNED, 8, 1))
    steps = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else (3 * shape[1], 3, 1)
    address = (tensor.data or 0) + tensor.byte_offset
    return _pixels(frame, address, shape, steps, device=device, stream=LEGACY_STREAM)


def _check(shape: tuple[int, ...], kind: object, wanted: object) -> None:
    if len(shape) != 3 or shape[2] != 3 or kind != wanted or 0 in shape:
        raise FrameError(f"{WANTED}, got {shape} of type {kind}")


def _pixels(
    frame: Any, address: int, shape: tuple[int, ...], steps: tuple[int, ...], **more: Any
) -> GpuPixels:
    height, width = shape[:2]
    if height == 1:
        steps = (max(steps[0], 3 * width), *steps[1:])  # one row has no next
    if steps[1:] != (3, 1) or steps[0] < 3 * width:
        raise FrameError(f"{WANTED}, got steps of {steps} bytes; make it contiguous")
    if not address:
        raise FrameError("the frame has no memory on the GPU any more: keep it until its verdict is there")
    return GpuPixels(frame, address, height, width, steps[0], **more)


def _capsule(frame: Any, stream: int) -> Any:
    try:
        return frame.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise FrameError(f"the frame's __dlpack__ gives nothing ({' '.join(str(error).split())})") from error


class _Tensor(ctypes.Structure):
    """DLPack's DLTensor, with the fields of DLDevice and DLDataType in their place."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _tensor_in(capsule: Any) -> Any:
    """The tensor in a capsule; it is never marked as used, so that its own destructor gives it back."""
    try:
        pointer = _get_pointer(capsule, b"dltensor")
    except ValueError as error:
        raise FrameError(f"the frame's __dlpack__ gives another thing than a tensor ({error})") from error
    return ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents

"""A frame on the GPU, for who has no library that makes one: it has `__cuda_array_interface__`."""

from __future__ import annotations

from typing import Any

import numpy as np

from acl_runtime.backends.tensorrt.cuda import Cuda

DEFAULT_STREAM = 1


class FrameOnGpu:
    """A copy of a frame, (H, W, 3) uint8 BGR, on the GPU; `free` it."""

    def __init__(self, cuda: Cuda, frame: np.ndarray) -> None:
        """Copy it there, and wait until that is done."""
        self._cuda, self._shape = cuda, frame.shape
        with cuda.current():
            self._address, host, stream = (
                cuda.allocate(frame.nbytes),
                cuda.allocate_host(frame.nbytes),
                cuda.stream(),
            )
            host.array[:] = frame.reshape(-1)
            stream.copy_in(self._address, host.array)
            stream.synchronize()
            stream.destroy()
            cuda.free_host(host)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._shape,
            "typestr": "|u1",
            "data": (self._address, False),
            "version": 3,
            "strides": None,
            "stream": DEFAULT_STREAM,
        }

    def free(self) -> None:
        """Give its memory back."""
        self._cuda.free(self._address)

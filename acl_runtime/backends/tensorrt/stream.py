"""Work that a GPU does in order, and that can be recorded and replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.cuda import Cuda


@dataclass(frozen=True)
class Place2D:
    """Where rows of bytes lie: the address of the first, and from one to the next."""

    address: int
    pitch: int


class CudaStream:
    """Work that the GPU does in order. Its methods are called inside `Cuda.current()`."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda, self._stream = cuda, handle

    @property
    def handle(self) -> int:
        """The stream's number, for TensorRT."""
        return int(self._stream)

    def copy_in(self, address: int, array: npt.NDArray[np.uint8]) -> None:
        """Copy page-locked bytes to the GPU, when what comes before is done."""
        self._cuda.call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._stream)

    def copy_out(self, array: npt.NDArray[np.uint8], address: int) -> None:
        """Copy from the GPU into page-locked bytes, when what comes before is done."""
        self._cuda.call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)

    def copy_rows(self, to: Place2D, source: Place2D, *, width: int, height: int) -> None:
        """Copy `height` rows of `width` bytes, from and to wherever CUDA finds them, when what comes before is done."""
        kinds, copy = self._cuda.api.CUmemorytype, self._cuda.api.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = kinds.CU_MEMORYTYPE_UNIFIED
        copy.srcDevice, copy.srcPitch = self._cuda.api.CUdeviceptr(source.address), source.pitch
        copy.dstDevice, copy.dstPitch = self._cuda.api.CUdeviceptr(to.address), to.pitch
        copy.WidthInBytes, copy.Height = width, height
        self._cuda.call("cuMemcpy2DAsync", copy, self._stream, doing="while copying a frame on the GPU")

    def wait_for(self, other: int) -> None:
        """Do what comes next only when all is done that another stream, a number, has been given so far."""
        event = self._cuda.call("cuEventCreate", self._cuda.api.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        try:
            producer = self._cuda.api.CUstream(other)
            self._cuda.call("cuEventRecord", event, producer, doing="with a frame's stream")
            self._cuda.call("cuStreamWaitEvent", self._stream, event, 0, doing="with a frame's stream")
        finally:
            self._cuda.release("cuEventDestroy", event)  # it ends once nobody waits for it

    def synchronize(self) -> None:
        """Wait until all is done."""
        self._cuda.call("cuStreamSynchronize", self._stream, doing="while computing")

    def capture(self, work: Callable[[], None]) -> CapturedGraph:
        """Record what `work` gives this stream to do, without doing it.

        Raises:
            RuntimeError: It cannot be recorded; or what `work` raises.
        """
        mode = self._cuda.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._cuda.call("cuStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            self._discard_capture()
            raise
        recorded = self._cuda.call("cuStreamEndCapture", self._stream, doing="while recording")
        try:
            return CapturedGraph(
                self._cuda, self._cuda.call("cuGraphInstantiate", recorded, 0, doing="while recording")
            )
        finally:
            self._cuda.release("cuGraphDestroy", recorded)

    def destroy(self) -> None:
        """Give it back."""
        self._cuda.release("cuStreamDestroy", self._stream)

    def _discard_capture(self) -> None:
        code, recorded = self._cuda.api.cuStreamEndCapture(self._stream)
        if code == self._cuda.api.CUresult.CUDA_SUCCESS:
            self._cuda.release("cuGraphDestroy", recorded)


class CapturedGraph:
    """Recorded work. Its methods are called inside `Cuda.current()`."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda, self._graph = cuda, handle

    def launch(self, stream: CudaStream) -> None:
        """Do the work on a stream."""
        self._cuda.call("cuGraphLaunch", self._graph, stream._stream)

    def destroy(self) -> None:
        """Give it back."""
        self._cuda.release("cuGraphExecDestroy", self._graph)

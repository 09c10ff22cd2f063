"""Work that a GPU does in order, and that can be recorded and replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.cuda import Cuda


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

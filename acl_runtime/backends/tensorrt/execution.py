"""Run an engine: memory allocated once, one stream, and a recorded CUDA graph for every batch size in use.

A graph holds for the execution context, shapes and addresses that it was recorded with. So each batch size has a
context of its own, which is never given another shape; all contexts work in the same scratch memory, because only one
runs at a time. TensorRT wants one plain run after a shape was set before anything is recorded: the first call of a size
is that run, the second records, and from then on the recording is replayed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.tensorrt.cuda import Cuda, DeviceLostError, HostMemory
from acl_runtime.backends.tensorrt.plan import Plan
from acl_runtime.backends.tensorrt.stream import CapturedGraph
from acl_runtime.bundle.manifest import Tensor
from acl_runtime.files.errors import BackendError

MOST_GRAPHS = 16  # batch sizes that are recorded; the others run plainly


@dataclass(frozen=True)
class Buffer:
    """Memory of an input or output for the largest batch.

    Attributes:
        tensor: Whose it is.
        host: Page-locked, where the CPU writes or reads.
        address: Where the GPU reads or writes: the same memory if the GPU is integrated.
        row: Shape of one image's part.
    """

    tensor: Tensor
    host: HostMemory
    address: int
    row: tuple[int, ...]

    def bytes(self, batch: int) -> npt.NDArray[np.uint8]:
        """What `batch` images take, the CPU's side."""
        return self.host.array[: batch * math.prod(self.row) * np.dtype(self.tensor.dtype).itemsize]

    def array(self, batch: int) -> np.ndarray:
        """The same as (batch, *row)."""
        return self.bytes(batch).view(self.tensor.dtype).reshape(batch, *self.row)


@dataclass
class _Slot:
    """How a batch size is run.

    Attributes:
        context: TensorRT's execution context, with shape and addresses set.
        batch: The size it is set to.
        runs: How often it ran.
        is_recordable: Whether to try to record it; not a second time, nor if it changes its size.
        graph: What was recorded.
    """

    context: Any
    batch: int
    runs: int = 0
    is_recordable: bool = True
    graph: CapturedGraph | None = None


class Execution:
    """An engine with its memory; made, used and closed inside `Cuda.current()`.

    Attributes:
        notes: What the user should know, a sentence each.
    """

    def __init__(
        self, plan: Plan, cuda: Cuda, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, max_batch: int
    ) -> None:
        """Allocate for the largest batch; what was allocated is freed again if something fails.

        Raises:
            RuntimeError: The GPU has not enough memory, or TensorRT fails.
        """
        self.notes: list[str] = []
        self._plan, self._is_integrated = plan, cuda.is_integrated
        self._slots: dict[int, _Slot] = {}  # by batch size
        self._spare: _Slot | None = None  # of all sizes beyond MOST_GRAPHS
        with ExitStack() as resources:
            self._stream = cuda.stream()
            resources.callback(self._stream.destroy)
            self._scratch = cuda.allocate(max(plan.scratch_bytes, 1))
            resources.callback(cuda.free, self._scratch)
            self._inputs = [_allocate(tensor, max_batch, cuda, resources) for tensor in inputs]
            self._outputs = [_allocate(tensor, max_batch, cuda, resources) for tensor in outputs]
            resources.callback(self._drop_slots)
            self._slot(max_batch)  # if there is not enough memory, say so at load
            self._resources = resources.pop_all()

    def close(self) -> None:
        """Free everything."""
        self._resources.close()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute `images`, as many as the engine takes; what is returned is the caller's own."""
        batch = len(images)
        self._inputs[0].array(batch)[...] = images
        slot = self._slot(batch)
        try:
            self._start(slot)
        except BackendError:
            self._stream.synchronize()  # if the GPU is the cause, this says so
            raise
        self._stream.synchronize()
        if slot.runs == 0:
            self._plan.save_kernels()
        slot.runs += 1
        return {buffer.tensor.name: buffer.array(batch).copy() for buffer in self._outputs}

    def _slot(self, batch: int) -> _Slot:
        if batch in self._slots:
            return self._slots[batch]
        if len(self._slots) < MOST_GRAPHS:
            self._slots[batch] = self._new_slot(batch)
            return self._slots[batch]
        if self._spare is None:
            self._spare = self._new_slot(batch)
            self._spare.is_recordable = False
        if self._spare.batch != batch:
            self._set_shape(self._spare.context, batch)
            self._spare.batch = batch
        return self._spare

    def _new_slot(self, batch: int) -> _Slot:
        context = self._plan.context(self._scratch)
        for buffer in (*self._inputs, *self._outputs):
            if not context.set_tensor_address(buffer.tensor.name, buffer.address):
                raise self._plan.error(f"refuses the address of {buffer.tensor.name}")
        self._set_shape(context, batch)
        return _Slot(context, batch)

    def _set_shape(self, context: Any, batch: int) -> None:
        for buffer in self._inputs:
            if not context.set_input_shape(buffer.tensor.name, (batch, *buffer.row)):
                raise self._plan.error(f"refuses {batch} images")

    def _start(self, slot: _Slot) -> None:
        """Give the stream the work of one call, replayed if it can be."""
        if slot.is_recordable and slot.runs > 0:
            self._record(slot)
        if slot.graph is not None:
            slot.graph.launch(self._stream)
        else:
            self._enqueue(slot)

    def _enqueue(self, slot: _Slot) -> None:
        """Give the stream the work of one call, or what is recorded of it."""
        if not self._is_integrated:
            for buffer in self._inputs:
                self._stream.copy_in(buffer.address, buffer.bytes(slot.batch))
        if not slot.context.execute_async_v3(self._stream.handle):
            raise self._plan.error(f"fails on {slot.batch} images", remedy="see acl doctor")
        if not self._is_integrated:
            for buffer in self._outputs:
                self._stream.copy_out(buffer.bytes(slot.batch), buffer.address)

    def _record(self, slot: _Slot) -> None:
        """Record one call; if that cannot be done, a note says so, and calls go on being made plainly."""
        slot.is_recordable = False
        try:
            if not self._plan.is_recordable(slot.context, self._stream.handle):
                raise BackendError("TensorRT says that it cannot be")
            slot.graph = self._stream.capture(lambda: self._enqueue(slot))
        except DeviceLostError:
            raise
        except BackendError as error:
            self.notes.append(
                f"batch {slot.batch} is not recorded as a CUDA graph, which costs speed: {error}"
            )

    def _drop_slots(self) -> None:
        for slot in self._slots.values():
            if slot.graph is not None:
                slot.graph.destroy()
        self._slots.clear()
        self._spare = None


def _allocate(tensor: Tensor, max_batch: int, cuda: Cuda, resources: ExitStack) -> Buffer:
    row = tuple(int(size) for size in tensor.shape[1:])
    size = max_batch * math.prod(row) * np.dtype(tensor.dtype).itemsize
    host = cuda.allocate_host(size)
    resources.callback(cuda.free_host, host)
    if host.address is not None:
        return Buffer(tensor, host, host.address, row)
    address = cuda.allocate(size)
    resources.callback(cuda.free, address)
    return Buffer(tensor, host, address, row)

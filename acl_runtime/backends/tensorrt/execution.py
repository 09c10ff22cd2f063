"""A slot to run engines in: a stream, memory allocated once, and recorded CUDA graphs for every batch size in use.

A graph holds for the execution context, shapes and addresses that it was recorded with. So each batch size of an engine
has a context of its own, which is never given another shape; all contexts of a slot work in the same scratch memory,
because only one of them runs at a time. Two slots share nothing but the engines. TensorRT wants one plain run after a
shape was set before anything is recorded: the first call of a size is that run, the second records, and from then on
the recording is replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.gpu_pixels import GpuPixels
from acl_runtime.backends.session import Brief
from acl_runtime.backends.tensorrt.cuda import Cuda, DeviceLostError, HostMemory
from acl_runtime.backends.tensorrt.gpu_frames import bring
from acl_runtime.backends.tensorrt.plan import MAPS, PEAKS, SUMS, Plan
from acl_runtime.backends.tensorrt.stream import CapturedGraph
from acl_runtime.bundle.manifest import Tensor
from acl_runtime.files.errors import BackendError

MOST_CONTEXTS = 16  # batch sizes of engines that are recorded; the others run plainly
SUMMARIES = (Tensor(PEAKS, ("batch",), "float32"), Tensor(SUMS, ("batch",), "float32"))
Images = np.ndarray | Sequence[GpuPixels]
"""(B, ...) uint8, or B frames on the GPU."""


@dataclass(frozen=True)
class Call:
    """What to run.

    Attributes:
        engine: Number of the engine.
        batch: Images that it computes; what is short of that is filled up with the last.
    """

    engine: int
    batch: int


@dataclass(frozen=True)
class Variant:
    """What of a call is done, and recorded, beside the engine's own work.

    Attributes:
        copies_in: Whether images come from the computer's memory.
        copies_maps: Whether the maps go there.
    """

    copies_in: bool
    copies_maps: bool


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

    @property
    def row_bytes(self) -> int:
        """What one image takes."""
        return math.prod(self.row) * np.dtype(self.tensor.dtype).itemsize

    def bytes(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """What the images `start` to `stop` take, the CPU's side."""
        return self.host.array[start * self.row_bytes : stop * self.row_bytes]

    def array(self, stop: int, start: int = 0) -> np.ndarray:
        """The same as (images, *row)."""
        return self.bytes(start, stop).view(self.tensor.dtype).reshape(stop - start, *self.row)


@dataclass
class _Prepared:
    """How an engine is run at a batch size.

    Attributes:
        context: TensorRT's execution context, with shape and addresses set.
        call: What it is set to.
        runs: How often it ran.
        is_recordable: Whether to try to record it; not once that failed, nor if it changes its size.
        graphs: What was recorded.
    """

    context: Any
    call: Call
    runs: int = 0
    is_recordable: bool = True
    graphs: dict[Variant, CapturedGraph] = field(default_factory=dict)


class Execution:
    """A slot with its memory; made, used and closed inside `Cuda.current()`, by one thread at a time.

    Attributes:
        notes: What the user should know, a sentence each.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        cuda: Cuda,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        sizes: Sequence[int],
        setup: Lock,
    ) -> None:
        """Allocate for the largest batch; what was allocated is freed again if something fails.

        Args:
            plans: The engines.
            cuda: Where they were loaded.
            inputs: Of their graph.
            outputs: Of their graph.
            sizes: Most images that each engine takes.
            setup: Held while TensorRT is called, which slots share.

        Raises:
            RuntimeError: The GPU has not enough memory, or TensorRT fails.
        """
        self.notes: list[str] = []
        self._plans, self._is_integrated, self._setup = plans, cuda.is_integrated, setup
        self._prepared: dict[Call, _Prepared] = {}
        self._spare: dict[int, _Prepared] = {}  # by engine, of all sizes beyond MOST_CONTEXTS
        summaries = SUMMARIES if any(plan.summarises for plan in plans) else ()
        with ExitStack() as resources:
            self._stream = cuda.stream()
            resources.callback(self._stream.destroy)
            self._scratch = cuda.allocate(max(1, *(plan.scratch_bytes for plan in plans)))
            resources.callback(cuda.free, self._scratch)
            self._inputs, self._outputs, self._summaries = (
                [_allocate(tensor, max(sizes), cuda, resources) for tensor in tensors]
                for tensors in (inputs, outputs, summaries)
            )
            resources.callback(self._drop)
            with setup:
                for number, size in enumerate(sizes):
                    self._prepare(Call(number, size))  # if there is not enough memory, say so at load
            self._resources = resources.pop_all()

    def close(self) -> None:
        """Free everything."""
        self._resources.close()

    def run(self, call: Call, images: Images) -> dict[str, np.ndarray]:
        """Compute `images`, `call.batch` at most; what is returned is the caller's own."""
        self._compute(call, images, copies_maps=True)
        return {buffer.tensor.name: buffer.array(len(images)).copy() for buffer in self._outputs}

    def run_briefly(
        self, call: Call, images: Images, wants: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> Brief:
        """The same, but of the maps only those are fetched that `wants` says, see `BriefSession.brief`."""
        self._compute(call, images, copies_maps=False)
        count = len(images)
        small = {
            buffer.tensor.name: buffer.array(count).copy()
            for buffer in (*self._outputs, *self._summaries)
            if buffer.tensor.name != MAPS
        }
        logits, peaks = small["image_logits"], small[PEAKS]
        rows = np.flatnonzero(wants(logits, peaks)).tolist()
        (maps,) = (buffer for buffer in self._outputs if buffer.tensor.name == MAPS)
        if not self._is_integrated and rows:
            for row in rows:
                address = maps.address + row * maps.row_bytes
                self._stream.copy_out(maps.bytes(row, row + 1), address)
            self._stream.synchronize()
        fetched = {row: maps.array(row + 1, row)[0].copy() for row in rows}
        return Brief(logits, peaks, small[SUMS], tuple(fetched.get(row) for row in range(count)))

    def fetch(self, pixels: GpuPixels) -> npt.NDArray[np.uint8]:
        """Copy a frame of the input's size from the GPU, (H, W, 3)."""
        (buffer,) = self._inputs
        bring(self._stream, [(pixels, buffer.host.array.ctypes.data)])
        self._stream.synchronize()
        fetched: npt.NDArray[np.uint8] = buffer.array(1)[0].copy()
        return fetched

    def _compute(self, call: Call, images: Images, *, copies_maps: bool) -> None:
        variant = Variant(isinstance(images, np.ndarray), copies_maps)
        with self._setup:
            prepared = self._prepare(call)
            if prepared.is_recordable and prepared.runs > 0 and variant not in prepared.graphs:
                self._record(prepared, variant)
        try:
            self._bring(images, call.batch)
            with self._setup:
                self._start(prepared, variant)
        except BackendError:
            self._stream.synchronize()  # if the GPU is the cause, this says so
            raise
        self._stream.synchronize()
        if prepared.runs == 0:
            with self._setup:
                self._plans[call.engine].save_kernels()
        prepared.runs += 1

    def _bring(self, images: Images, batch: int) -> None:
        """Put images where the engine reads them, or, on the GPU, have the stream do it."""
        (buffer,) = self._inputs
        if isinstance(images, np.ndarray):
            rows = buffer.array(batch)
            rows[: len(images)] = images
            rows[len(images) :] = images[-1]
            return
        filled = [*images, *([images[-1]] * (batch - len(images)))]
        addresses = range(buffer.address, buffer.address + batch * buffer.row_bytes, buffer.row_bytes)
        bring(self._stream, list(zip(filled, addresses, strict=True)))

    def _prepare(self, call: Call) -> _Prepared:
        if call in self._prepared:
            return self._prepared[call]
        if len(self._prepared) < MOST_CONTEXTS:
            self._prepared[call] = self._new(call)
            return self._prepared[call]
        if call.engine not in self._spare:
            self._spare[call.engine] = self._new(call)
            self._spare[call.engine].is_recordable = False
        spare = self._spare[call.engine]
        if spare.call != call:
            self._set_shape(spare.context, call)
            spare.call = call
        return spare

    def _new(self, call: Call) -> _Prepared:
        plan = self._plans[call.engine]
        context = plan.context(self._scratch)
        for buffer in (*self._inputs, *self._outputs, *(self._summaries if plan.summarises else ())):
            if not context.set_tensor_address(buffer.tensor.name, buffer.address):
                raise plan.error(f"refuses the address of {buffer.tensor.name}")
        self._set_shape(context, call)
        return _Prepared(context, call)

    def _set_shape(self, context: Any, call: Call) -> None:
        for buffer in self._inputs:
            if not context.set_input_shape(buffer.tensor.name, (call.batch, *buffer.row)):
                raise self._plans[call.engine].error(f"refuses {call.batch} images")

    def _start(self, prepared: _Prepared, variant: Variant) -> None:
        """Give the stream the work of one call, replayed if it is recorded."""
        if (graph := prepared.graphs.get(variant)) is not None:
            graph.launch(self._stream)
        else:
            self._enqueue(prepared, variant)

    def _enqueue(self, prepared: _Prepared, variant: Variant) -> None:
        """Give the stream the work of one call, or what is recorded of it."""
        call = prepared.call
        if variant.copies_in and not self._is_integrated:
            for buffer in self._inputs:
                self._stream.copy_in(buffer.address, buffer.bytes(0, call.batch))
        if not prepared.context.execute_async_v3(self._stream.handle):
            raise self._plans[call.engine].error(f"fails on {call.batch} images", remedy="see acl doctor")
        if not self._is_integrated:
            for buffer in self._read_by(variant):
                self._stream.copy_out(buffer.bytes(0, call.batch), buffer.address)

    def _read_by(self, variant: Variant) -> list[Buffer]:
        """What a call copies out at once."""
        if variant.copies_maps:
            return self._outputs
        return [*(buffer for buffer in self._outputs if buffer.tensor.name != MAPS), *self._summaries]

    def _record(self, prepared: _Prepared, variant: Variant) -> None:
        """Record one call; if that cannot be done, a note says so, and calls go on being made plainly."""
        try:
            if not self._plans[prepared.call.engine].is_recordable(prepared.context, self._stream.handle):
                raise BackendError("TensorRT says that it cannot be")
            prepared.graphs[variant] = self._stream.capture(lambda: self._enqueue(prepared, variant))
        except DeviceLostError:
            raise
        except BackendError as error:
            prepared.is_recordable = False
            self.notes.append(
                f"batch {prepared.call.batch} is not recorded as a CUDA graph, which costs speed: {error}"
            )

    def _drop(self) -> None:
        for prepared in self._prepared.values():
            for graph in prepared.graphs.values():
                graph.destroy()
        self._prepared.clear()
        self._spare.clear()


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

"""A stand-in of the GPU for tests: host memory, streams that do nothing before they are waited for, recorded work.

It is stricter than a GPU: memory that was not allocated, was freed or is too short is an error, work that nobody waited
for is not done, and what is called while the context is not current on the thread fails.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.tensorrt.cuda import Allocation, Cuda, DeviceLostError, HostMemory, OutOfMemoryError
from acl_runtime.backends.tensorrt.stream import CapturedGraph, CudaStream, Place2D
from acl_runtime.files.errors import BackendError

Work = Callable[[], None]
STREAMS: dict[int, StandinStream] = {}  # by handle, as TensorRT is given them
CURRENT = threading.local()  # .stack: the GPUs whose contexts are current on this thread, the last on top
MEMORY: dict[int, npt.NDArray[np.uint8]] = {}  # what a kernel may address, by its first address
LOCKED: dict[int, npt.NDArray[np.uint8]] = {}  # page-locked memory of the computer
OTHERS: dict[int, Allocation] = {}  # of memory that is not this GPU's own, what it is, by its first address
DEFAULT = 1  # CUDA's default stream
_HANDLES = itertools.count(0x5000)


@dataclass
class Faults:
    """What shall go wrong.

    Attributes:
        allocation: Number, from 1 on, of the allocation on the GPU that finds no memory.
        host_allocation: The same for page-locked memory.
        lose: Number of the wait, from 1 on, in which the GPU is lost.
        no_capture: Whether nothing can be recorded.
    """

    allocation: int = 0
    host_allocation: int = 0
    lose: int = 0
    no_capture: bool = False


@dataclass
class Counts:
    """What was called, and what is still held."""

    calls: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)

    def take(self, kind: str) -> int:
        """Count one more; returns how many there have been."""
        self.calls[kind] += 1
        self.held[kind] += 1
        return self.calls[kind]

    def give_back(self, kind: str) -> None:
        """Count one less; what is not held cannot be given back."""
        assert self.held[kind] > 0, f"{kind} given back twice"
        self.held[kind] -= 1


class StandinCuda(Cuda):
    """A GPU that is none; same calls as `Cuda`."""

    def __init__(
        self,
        ordinal: int = 0,
        *,
        name: str = "Stand-in GPU",
        compute_capability: str = "8.9",
        multiprocessors: int = 58,
        total_bytes: int = 8 << 30,
        driver: str = "570.00.00, CUDA 12.8",
        count: int = 1,
        is_integrated: bool = False,
        faults: Faults | None = None,
    ) -> None:
        assert 0 <= ordinal < count, "there is no such stand-in"
        self.name, self.compute_capability, self.driver = name, compute_capability, driver
        major, minor = driver.rpartition(" ")[2].split(".")
        self.cuda_version = (int(major), int(minor))
        self.multiprocessors, self.total_bytes, self.count = multiprocessors, total_bytes, count
        self.ordinal = ordinal
        self.uuid = f"GPU-00000000-0000-0000-0000-{ordinal:012d}"
        self.is_integrated = is_integrated
        self.faults, self.counts = faults or Faults(), Counts()
        self._free_bytes, self.is_closed, self.is_lost = 4 << 30, False, False
        self.moved_bytes = 0  # between the GPU and the computer
        # called in a thread that waits for the GPU, before what it waits for is done
        self.on_wait: Callable[[], object] | None = None

    def close(self) -> None:
        self.is_closed = True

    @contextmanager
    def current(self) -> Iterator[None]:
        if self.is_closed:
            raise BackendError("the GPU was given back; open it again")
        stack = _current_stack()
        stack.append(self)
        try:
            yield
        finally:
            stack.pop()

    def free_bytes(self) -> int:
        return self._free_bytes

    def allocate(self, size: int) -> int:
        assert size > 0
        if self.counts.take("device memory") == self.faults.allocation:
            self.counts.give_back("device memory")
            raise OutOfMemoryError(f"out of memory while allocating {size / 1e6:.0f} MB (stand-in)")
        array = np.full(size + 256, 0xA5, np.uint8)
        address: int = -(-array.ctypes.data // 256) * 256
        MEMORY[address] = array[address - array.ctypes.data :][:size]
        self._free_bytes -= size
        return address

    def free(self, address: int) -> None:
        self._free_bytes += MEMORY.pop(address).nbytes
        self.counts.give_back("device memory")

    def allocate_host(self, size: int) -> HostMemory:
        if self.counts.take("host memory") == self.faults.host_allocation:
            self.counts.give_back("host memory")
            raise OutOfMemoryError(f"out of memory while allocating {size / 1e6:.0f} MB (stand-in)")
        array = np.full(size, 0xA5, np.uint8)
        LOCKED[array.ctypes.data] = array
        if self.is_integrated:
            MEMORY[array.ctypes.data] = array
        return HostMemory(array, array.ctypes.data if self.is_integrated else None)

    def free_host(self, memory: HostMemory) -> None:
        MEMORY.pop(memory.array.ctypes.data, None)
        del LOCKED[memory.array.ctypes.data]
        self.counts.give_back("host memory")

    def stream(self) -> StandinStream:
        self.counts.take("stream")
        return StandinStream(self)

    def allocation_at(self, address: int) -> Allocation | None:
        for first, array in list(MEMORY.items()):
            if first <= address < first + array.nbytes:
                owner = OTHERS.get(first, Allocation(self.ordinal, True, first, array.nbytes, False))
                return replace(owner, start=first, size=array.nbytes)
        return None

    def use(self, what: str) -> None:
        """Count a call that needs the context."""
        assert current_gpu(what) is self, f"{what}: the context of another GPU is current on this thread"
        assert not self.is_closed, f"{what}: the GPU was given back"
        self.counts.calls[what] += 1
        if self.is_lost:
            raise DeviceLostError("the GPU stopped working (stand-in)")


class StandinStream(CudaStream):
    """Does its work when waited for; between its first work and that, one thread only may use it."""

    def __init__(self, cuda: StandinCuda, number: int | None = None) -> None:
        self._standin, self._number = cuda, next(_HANDLES) if number is None else number
        self._work, self._recording, self._user = list[Work](), False, 0
        self._doing = threading.RLock()  # several streams may wait for this one
        self._broken = ""
        STREAMS[self._number] = self

    @property
    def handle(self) -> int:
        return self._number

    @property
    def is_recording(self) -> bool:
        """Whether work is recorded now, not done."""
        return self._recording

    @property
    def is_lost(self) -> bool:
        """Whether the GPU is lost."""
        return self._standin.is_lost

    def submit(self, work: Work) -> None:
        """Do this later, or record it; for the stand-in of TensorRT."""
        self._standin.use("work")
        self._take()
        self._work.append(work)

    def spoil(self, reason: str) -> None:
        """Make what is being recorded unusable; for the stand-in of TensorRT."""
        self._broken = reason

    def copy_in(self, address: int, array: npt.NDArray[np.uint8]) -> None:
        self._standin.use("copy in")
        self._take()
        self._work.append(lambda: self._move(memory_at(address, array.nbytes), array))

    def copy_out(self, array: npt.NDArray[np.uint8], address: int) -> None:
        self._standin.use("copy out")
        self._take()
        self._work.append(lambda: self._move(array, memory_at(address, array.nbytes)))

    def copy_rows(self, to: Place2D, source: Place2D, *, width: int, height: int) -> None:
        self._standin.use("copy rows")
        self._take()

        def work() -> None:
            for row in range(height):
                target = memory_at(to.address + row * to.pitch, width, or_locked=True)
                target[:] = memory_at(source.address + row * source.pitch, width)

        self._work.append(work)

    def wait_for(self, other: int) -> None:
        self._standin.use("wait for a stream")
        self._take()
        if other != DEFAULT or other in STREAMS:  # the default stream, if there is none, has no work
            self._work.append(STREAMS[other].do)

    def _move(self, to: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8]) -> None:
        self._standin.moved_bytes += to.nbytes
        np.copyto(to, source)

    def do(self) -> None:
        """Do what it was given so far."""
        with self._doing:
            pending, self._work = self._work, []
            for work in pending:
                work()

    def _take(self) -> None:
        thread = threading.get_ident()
        is_alone = self._work == [] or self._user == thread or self._number == DEFAULT
        assert is_alone, "two threads work in one slot"
        self._user = thread

    def synchronize(self) -> None:
        assert not self._recording, "waiting is not allowed while recording"
        self._standin.use("wait")
        if self._standin.counts.calls["wait"] == self._standin.faults.lose:
            self._standin.is_lost = True
            raise DeviceLostError("the GPU stopped working (stand-in)")
        if self._standin.on_wait is not None:
            self._standin.on_wait()
        self.do()

    def capture(self, work: Work) -> StandinGraph:
        self._standin.use("capture")
        assert not self._work, "work is pending"
        self._recording, self._broken = True, ""
        try:
            work()
        finally:
            recorded, self._work, self._recording = self._work, [], False
        if self._standin.faults.no_capture or self._broken:
            raise BackendError(f"CUDA failed while recording (stand-in: {self._broken or 'planted'})")
        self._standin.counts.take("graph")
        return StandinGraph(self._standin, recorded)

    def destroy(self) -> None:
        del STREAMS[self._number]
        self._standin.counts.give_back("stream")


class StandinGraph(CapturedGraph):
    """Work to be done again and again."""

    def __init__(self, cuda: StandinCuda, work: list[Work]) -> None:
        self._standin, self._work = cuda, work

    def launch(self, stream: CudaStream) -> None:
        self._standin.use("launch")
        assert isinstance(stream, StandinStream)
        for work in self._work:
            stream.submit(work)

    def destroy(self) -> None:
        self._standin.counts.give_back("graph")


def _current_stack() -> list[StandinCuda]:
    if not hasattr(CURRENT, "stack"):
        CURRENT.stack = []
    stack: list[StandinCuda] = CURRENT.stack
    return stack


def current_gpu(what: str) -> StandinCuda:
    """The GPU whose context is current on this thread; for the stand-in of TensorRT, which works on that one."""
    stack = _current_stack()
    assert stack, f"{what}: no context is current on this thread"
    return stack[-1]


def memory_at(address: int, size: int, *, or_locked: bool = False) -> npt.NDArray[np.uint8]:
    """`size` bytes of the stand-in's memory from `address` on, or of page-locked memory."""
    for first, array in [*MEMORY.items(), *(LOCKED.items() if or_locked else ())]:
        if first <= address and address + size <= first + array.nbytes:
            found: npt.NDArray[np.uint8] = array[address - first :][:size]
            return found
    raise AssertionError(f"{size} bytes at {address:#x} are not the GPU's memory")

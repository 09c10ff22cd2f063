"""The GPU through CUDA's driver API; the one module that imports `cuda.bindings`. Streams are in `stream.py`.

The primary context is shared with whatever else uses CUDA in the process, such as TensorRT; it is current only inside
`Cuda.current()`, on the calling thread.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.tensorrt.stream import CudaStream
from acl_runtime.files.errors import BackendError

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
INSTALL_BINDING = (
    'pip install "cuda-bindings>=12.9.1,<14"'  # older ones wait for the GPU with Python's lock held
)
_BINDING = f"CUDA's Python binding cannot be imported ({{}}); in the checkout: {INSTALL_BINDING}"
_NO_DRIVER = (
    "there is no NVIDIA driver here; on a machine without a GPU choose --backend onnxruntime or openvino"
)
_DRIVER = "the NVIDIA driver cannot be loaded ({}); install it, then nvidia-smi must list the GPU"
_NO_START = "CUDA does not start; see that nvidia-smi works, and acl doctor"
_REMEDIES = {
    "NO_DEVICE": "no NVIDIA GPU is visible; see nvidia-smi, and that CUDA_VISIBLE_DEVICES does not hide it",
    "STUB_LIBRARY": "libcuda is the stub for linking; install the NVIDIA driver",
    "SYSTEM_DRIVER_MISMATCH": "the driver was updated while it was loaded; restart the machine",
    "DEVICE_UNAVAILABLE": "the GPU is reserved for another process, or fell off the bus; see nvidia-smi",
}
_FATAL = [  # after these this process cannot use the GPU any more
    "CONTEXT_IS_DESTROYED",
    "DEINITIALIZED",
    "DEVICE_UNAVAILABLE",
    "ECC_UNCORRECTABLE",
    "EXTERNAL_DEVICE",
    "HARDWARE_STACK_ERROR",
    "ILLEGAL_ADDRESS",
    "ILLEGAL_INSTRUCTION",
    "INVALID_ADDRESS_SPACE",
    "INVALID_PC",
    "LAUNCH_FAILED",
    "LAUNCH_TIMEOUT",
    "MISALIGNED_ADDRESS",
    "NVLINK_UNCORRECTABLE",
    "UNKNOWN",
]


class OutOfMemoryError(BackendError):
    """The GPU has not that much memory left."""


class DeviceLostError(BackendError):
    """The GPU stopped working for this process."""


@dataclass(frozen=True)
class HostMemory:
    """Page-locked memory that the GPU copies from and to.

    Attributes:
        array: (size,) uint8; not to be touched once the memory is freed.
        address: For the GPU where it shares memory with the CPU, and then nothing need be copied; else None.
    """

    array: npt.NDArray[np.uint8]
    address: int | None


@dataclass(frozen=True)
class Allocation:
    """A piece of memory.

    Attributes:
        device: Number of the GPU.
        is_on_gpu: Whether it is the GPU's own or managed memory, not the computer's.
        start: Its first address.
        size: In bytes.
        is_of_other_context: Whether it was allocated in a context that is not the GPU's primary one.
    """

    device: int
    is_on_gpu: bool
    start: int
    size: int
    is_of_other_context: bool


class Cuda:
    """A GPU; `close` it, or use it in a `with` statement.

    Attributes:
        name: Such as "NVIDIA GeForce RTX 4090".
        compute_capability: Such as "8.9".
        multiprocessors: How many it has; by these and its memory GPUs of one name are told apart.
        ordinal: Its number among those that this process sees.
        uuid: Such as "GPU-12345678-9abc-def0-1234-56789abcdef0", whatever its number.
        count: GPUs that this process sees.
        api: The functions of the binding; `call` calls them.
        driver: Versions of the kernel module, where it can be read, and of CUDA: "570.86.15, CUDA 12.8".
        cuda_version: Newest CUDA that the driver runs, such as (12, 8).
        is_integrated: Whether CPU and GPU share their memory, as on a Jetson.
        total_bytes: Of memory.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Open the GPU with this number, from 0 on.

        Raises:
            RuntimeError: There is no binding, driver or GPU, or none of that number.
        """
        self.api = _load_api()
        self._context, self._lost = None, ""
        self.call("cuInit", 0)
        self.count: int = self.call("cuDeviceGetCount")
        if not 0 <= ordinal < self.count:
            raise BackendError(f"device must be 0..{self.count - 1} on this machine, got {ordinal}")
        self.ordinal, self._device = ordinal, self.call("cuDeviceGet", ordinal)
        self.name = _text(self.call("cuDeviceGetName", 128, self._device))
        major, minor = (self._attribute(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        self.compute_capability = f"{major}.{minor}"
        self.multiprocessors = self._attribute("MULTIPROCESSOR_COUNT")
        self.uuid = f"GPU-{UUID(bytes=bytes(self.call('cuDeviceGetUuid', self._device).bytes))}"
        self.is_integrated = bool(self._attribute("INTEGRATED") and self._attribute("CAN_MAP_HOST_MEMORY"))
        self.total_bytes: int = self.call("cuDeviceTotalMem", self._device)
        version: int = self.call("cuDriverGetVersion")
        self.cuda_version = (version // 1000, version % 1000 // 10)
        self.driver = _describe_driver(self.cuda_version)
        self._context = self.call("cuDevicePrimaryCtxRetain", self._device)

    def close(self) -> None:
        """Give the GPU back; what was allocated must have been freed. A second time does nothing."""
        if self._context is not None:
            self._context = None
            if not self._lost:
                self.call("cuDevicePrimaryCtxRelease", self._device)

    def __enter__(self) -> Cuda:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's context current on this thread; it may already be."""
        if self._context is None:
            raise BackendError("the GPU was given back; open it again")
        if self._lost:  # there is nothing to make current; what is called inside raises
            yield
            return
        self.call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            if not self._lost:
                self.call("cuCtxPopCurrent")

    def free_bytes(self) -> int:
        """Memory that is free now; on a Jetson without what the system could still give up."""
        with self.current():
            free: int = self.call("cuMemGetInfo")[0]
        return free

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU, a multiple of 256; OutOfMemoryError if it has not as many."""
        with self.current():
            return int(
                self.call("cuMemAlloc", size, doing=f"while allocating {size / 1e6:.0f} MB on the GPU")
            )

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self.release("cuMemFree", address)

    def allocate_host(self, size: int) -> HostMemory:
        """Page-locked memory of the computer, which the GPU can address if it is integrated."""
        mapped = self.api.CU_MEMHOSTALLOC_DEVICEMAP if self.is_integrated else 0
        kind = self.api.CU_MEMHOSTALLOC_PORTABLE | mapped
        doing = f"while allocating {size / 1e6:.0f} MB of page-locked memory"
        with self.current():
            pointer = int(self.call("cuMemHostAlloc", size, kind, doing=doing))
            try:
                address = int(self.call("cuMemHostGetDevicePointer", pointer, 0)) if mapped else None
            except BackendError:
                self.release("cuMemFreeHost", pointer)
                raise
        return HostMemory(np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer)), address)

    def free_host(self, memory: HostMemory) -> None:
        """Give back what `allocate_host` gave."""
        self.release("cuMemFreeHost", memory.array.ctypes.data)

    def stream(self) -> CudaStream:
        """A new stream, which waits for no other."""
        with self.current():
            return CudaStream(
                self, self.call("cuStreamCreate", self.api.CUstream_flags.CU_STREAM_NON_BLOCKING)
            )

    def allocation_at(self, address: int) -> Allocation | None:
        """What memory an address belongs to; None if it is none that the GPU knows, such as what was freed."""
        with self.current():
            device = self._pointer("DEVICE_ORDINAL", address)
            if device is None:
                return None
            kind, context = (self._pointer(name, address) for name in ("MEMORY_TYPE", "CONTEXT"))
            start, size = (self._pointer(f"RANGE_{part}", address) for part in ("START_ADDR", "SIZE"))
        is_on_gpu = kind == self.api.CUmemorytype.CU_MEMORYTYPE_DEVICE
        is_of_other = context is not None and int(context) not in (
            0,
            int(self._context or 0),
        )  # 0: memory of a pool
        return Allocation(int(device), is_on_gpu, int(start or 0), int(size or 0), is_of_other)

    def _pointer(self, attribute: str, address: int) -> Any:
        """An attribute of an address; None where it has none."""
        kind = getattr(self.api.CUpointer_attribute, f"CU_POINTER_ATTRIBUTE_{attribute}")
        try:
            return self.call("cuPointerGetAttribute", kind, self.api.CUdeviceptr(address))
        except DeviceLostError:
            raise
        except BackendError:
            return None

    def _attribute(self, name: str) -> int:
        attribute = getattr(self.api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.call("cuDeviceGetAttribute", attribute, self._device))

    def call(self, function: str, *arguments: Any, doing: str = "") -> Any:
        """What a function of the driver gives: nothing, a value or a list of them; an error is raised."""
        if self._lost:
            raise DeviceLostError(self._lost)
        try:
            code, *values = getattr(self.api, function)(*arguments)
        except RuntimeError as error:  # the driver's library is not there, or lacks the function
            raise BackendError(_DRIVER.format(str(error).split("\n", maxsplit=1)[0])) from error
        if code != self.api.CUresult.CUDA_SUCCESS:
            problem = self._error(code, doing or f"in {function}")
            self._lost = str(problem) if isinstance(problem, DeviceLostError) else ""
            raise problem
        return values[0] if len(values) == 1 else values

    def release(self, function: str, *arguments: Any) -> None:
        """Call a function that gives something back; a lost GPU has nothing to give back."""
        if self._lost:
            return
        with self.current():
            self.call(function, *arguments)

    def _error(self, code: Any, doing: str) -> BackendError:
        _, text = self.api.cuGetErrorString(code)
        name, said = code.name.removeprefix("CUDA_ERROR_"), f"{code.name}: {_text(text or b'')}"
        if name == "OUT_OF_MEMORY":
            return OutOfMemoryError(f"out of memory {doing} ({said}); close what else uses it")
        if self._context is None:
            return BackendError(f"{_REMEDIES.get(name, _NO_START)} ({said} {doing})")
        if name in _FATAL:
            return DeviceLostError(
                f"the GPU stopped working {doing} ({said}); start the program again, and if it comes "
                "back look for Xid in the kernel's log (dmesg), at power and at temperature"
            )
        return BackendError(f"CUDA failed {doing} ({said})")


def _load_api() -> ModuleType:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        if not _has_driver():  # the binding would not help
            raise BackendError(_NO_DRIVER) from error
        raise BackendError(_BINDING.format(error)) from error
    return driver  # type: ignore[no-any-return]


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _describe_driver(cuda_version: tuple[int, int]) -> str:
    version = "CUDA {}.{}".format(*cuda_version)
    try:
        found = re.search(r"\d{3}\.\d[\d.]*\d", KERNEL_MODULE.read_text(encoding="utf-8"))
    except OSError:  # Windows, a Jetson, some containers
        found = None
    return f"{found[0]}, {version}" if found else version


def _text(raw: bytes) -> str:
    return raw.split(b"\0", maxsplit=1)[0].decode(errors="replace")

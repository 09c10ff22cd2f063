"""The one place that imports TensorRT, and that knows how its two editions differ.

`tensorrt` is the full library, 10.3 to 11.x: Jetson, data centre, any GPU; it builds on the GPU that will run the
engine. `tensorrt-rtx` is TensorRT for RTX, 1.x, for the RTX cards of PCs; it builds without any GPU, for a list of
compute capabilities, and compiles the kernels at the first load. What the software uses is the same in both, but for:

- the compute capabilities to build for: TensorRT-RTX only;
- the precision flags (FP16, INT8 ...): gone in TensorRT 11 and in TensorRT-RTX, so never used: networks are strongly
  typed, which 11 takes for granted;
- weights left out of the plan: TensorRT-RTX needs a GPU for that, the full library has one anyway;
- a cache of timings while building: the full library only, TensorRT-RTX times nothing;
- a cache of compiled kernels at load: TensorRT-RTX only;
- recording in a CUDA graph: TensorRT-RTX must be told while building, by a flag that the full library lacks, and can
  say of a context whether it works;
- what is in a plan: TensorRT-RTX cannot load one without a GPU, so names, types and shapes are read from the builder's
  list of layers there; its plans hold the source of their kernels, the full library's do not.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Literal

from acl_runtime.files.errors import BackendError, InputError

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[LibraryName, ...] = ("tensorrt", "tensorrt-rtx")

# Of the full library, the tarball's and the package index's modules of TensorRT-RTX.
_MODULES: dict[LibraryName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_REMEDIES: dict[LibraryName, str] = {
    "tensorrt": "on a Jetson it comes with JetPack: make the environment with --system-site-packages; elsewhere, in "
    'the checkout: pip install -e ".[tensorrt]"',
    "tensorrt-rtx": 'in the checkout: pip install -e ".[rtx]"',
}


_OF_CUDA: dict[LibraryName, str] = {  # distributions of the package index that are made for one CUDA
    "tensorrt": "tensorrt-cu{}",
    "tensorrt-rtx": "tensorrt-rtx-cu{}-bindings",
}
_FOR_CUDA_12 = {
    "tensorrt": "tensorrt-cu12",
    "tensorrt-rtx": "tensorrt-rtx-cu12-bindings tensorrt-rtx-cu12-libs",
}
_LEAST = {"int8": (7, 5), "fp8": (8, 9)}  # the oldest compute capability whose tensor cores multiply it
DRIVERS = {12: 525, 13: 580}  # the oldest driver for Linux that runs a CUDA


@dataclass(frozen=True)
class Library:
    """An edition of TensorRT that could be imported."""

    name: LibraryName
    module: ModuleType
    version: str  # such as "10.13.3.9"

    @property
    def cuda_major(self) -> int | None:
        """The CUDA that it is made for; None where that is not known, as of JetPack's."""
        for major in DRIVERS:
            try:
                installed = version(_OF_CUDA[self.name].format(major))
            except PackageNotFoundError:
                continue
            if installed == self.version:
                return major
        return None

    def why_not_on(self, cuda_version: tuple[int, int]) -> str:
        """Why it cannot work with a driver, with the remedy; empty if it can, as far as is known.

        Args:
            cuda_version: Newest CUDA that the driver runs, such as (12, 8).
        """
        needed = self.cuda_major
        if needed is None or cuda_version[0] >= needed:
            return ""
        reason = (
            f"{self.name} {self.version} is made for CUDA {needed}, which needs driver {DRIVERS[needed]} or newer; "
            "this driver runs CUDA {}.{}: update it".format(*cuda_version)
        )
        return f"{reason}, or pip install {_FOR_CUDA_12[self.name]} instead" if needed == 13 else reason

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return self.name == "tensorrt-rtx"

    @property
    def network_flags(self) -> int:
        """Of a network whose precisions are the graph's; TensorRT 11 knows no other and may drop the flag."""
        flags = self.module.NetworkDefinitionCreationFlag
        return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0

    @property
    def times_kernels(self) -> bool:
        """Whether building tries kernels out, and a cache of their timings is of use."""
        return not self.is_rtx

    @property
    def compute_capabilities(self) -> dict[str, Any]:
        """What TensorRT-RTX builds for, such as "8.9", with its own name for it."""
        members = self.module.ComputeCapability.__members__.items()
        return {f"{name[2:-1]}.{name[-1]}": value for name, value in members if name.startswith("SM")}

    def allow_recording(self, config: Any) -> None:
        """Have a builder's configuration make an engine that a CUDA graph can hold."""
        if self.is_rtx:
            config.set_flag(self.module.BuilderFlag.REQUIRE_USER_ALLOCATION)

    def set_compute_capabilities(self, config: Any, capabilities: tuple[str, ...]) -> None:
        """Have a builder's configuration build for these GPUs; none for the one of this machine.

        Raises:
            ValueError: The library does not build for one of them.
        """
        if not capabilities:
            return
        if not self.is_rtx:
            raise InputError(
                "tensorrt builds for the GPU of this machine only; name none, or use tensorrt-rtx"
            )
        known = self.compute_capabilities
        if unknown := [each for each in capabilities if each not in known]:
            raise InputError(
                f"{self.name} {self.version} builds for the compute capabilities {', '.join(known)}, got "
                f"{', '.join(unknown)}; for other GPUs build with tensorrt on a machine that has one"
            )
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(known[capability], index)

    def count_fused_attention(self, plan: memoryview) -> int | None:
        """Attention kernels in an engine; TensorRT-RTX keeps their source in it, the full library does not."""
        return len(re.findall(rb"function={ name=_gemm_mha", plan)) if self.is_rtx else None


def why_not_in(arithmetic: str | None, compute_capabilities: Iterable[str]) -> str:
    """Why some of the GPUs do not multiply in an arithmetic, with the remedy; empty if all do.

    >>> why_not_in("fp8", ["8.7"])
    'fp8 needs compute capability 8.9 or newer, got 8.7; take int8, or name other GPUs with --compute-capability'
    """
    least = _LEAST.get(arithmetic or "")
    if least is None:
        return ""
    old = [each for each in compute_capabilities if tuple(map(int, each.split("."))) < least]
    instead = "take int8" if arithmetic == "fp8" else "take fp16"
    needed = ".".join(map(str, least))
    reason = f"{arithmetic} needs compute capability {needed} or newer, got {', '.join(old)}; {instead}"
    return f"{reason}, or name other GPUs with --compute-capability" if old else ""


def load_library(name: LibraryName) -> Library:
    """Import an edition of TensorRT.

    Raises:
        RuntimeError: It is not installed, or does not load.
    """
    problem = ""
    for module_name in _MODULES[name]:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                problem = f" ({error})"
        except (ImportError, OSError) as error:  # its libraries are missing or of another version
            problem = f" ({error})"
        else:
            return Library(name, module, module.__version__)
    words = "cannot be imported" if problem else "is not installed for this Python"
    raise BackendError(f"{name} {words}{problem}; {_REMEDIES[name]}")


def find_library() -> Library:
    """The edition that is installed: the full library if both are.

    Raises:
        RuntimeError: Neither can be imported.
    """
    problems = []
    for name in _MODULES:
        try:
            return load_library(name)
        except BackendError as error:
            problems.append(str(error))
    raise BackendError("; or ".join(problems))

"""Frames that are on the GPU already: seen to be there, and brought to an engine, or to the computer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from acl_runtime.backends.gpu_pixels import GpuPixels
from acl_runtime.backends.tensorrt.stream import CudaStream, Place2D
from acl_runtime.files.errors import FrameError

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.cuda import Cuda


def check_pixels(pixels: GpuPixels, cuda: Cuda) -> None:
    """Raise FrameError unless pixels lie in memory of this GPU that a stream of ours can read."""
    here = f"GPU {cuda.ordinal} ({cuda.name}), where the engine is"
    if pixels.device not in (None, cuda.ordinal):
        raise FrameError(f"the frame must be on {here}, got GPU {pixels.device}")
    found = cuda.allocation_at(pixels.address)
    if found is None:
        raise FrameError(
            "the frame is not in memory of the GPU, or was freed: keep it until its verdict is there"
        )
    if not found.is_on_gpu:
        raise FrameError("the frame is in the computer's memory, not the GPU's: give it as an array of numpy")
    if found.device != cuda.ordinal:
        raise FrameError(f"the frame must be on {here}, got GPU {found.device}")
    if found.is_of_other_context:
        raise FrameError(
            "the frame was made in another CUDA context than the GPU's primary one; with pycuda import "
            "pycuda.autoprimaryctx in the place of pycuda.autoinit"
        )
    if not found.start <= pixels.address <= found.start + found.size - pixels.bytes:
        raise FrameError(
            f"the frame must lie in its memory of {found.size} bytes, got {pixels.bytes} bytes from byte "
            f"{pixels.address - found.start} on"
        )


def bring(stream: CudaStream, frames: Sequence[tuple[GpuPixels, int]]) -> None:
    """Have a stream copy frames to addresses, of the GPU or of page-locked memory, after the streams that make them."""
    for producer in {pixels.stream for pixels, _ in frames}:
        stream.wait_for(producer)
    for pixels, address in frames:
        _copy(stream, pixels, address)


def _copy(stream: CudaStream, pixels: GpuPixels, address: int) -> None:
    width = 3 * pixels.width
    stream.copy_rows(
        Place2D(address, width), Place2D(pixels.address, pixels.pitch), width=width, height=pixels.height
    )

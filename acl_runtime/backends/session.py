"""What every backend gives: a session, which runs a bundle's graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from acl_runtime.backends.gpu_pixels import GpuPixels

# Sessions were named by their classes in records before these names were used.
_OF_CLASSES = {
    "OnnxSession": "onnxruntime",
    "OpenVinoSession": "openvino",
    "TrtSession": "tensorrt",
    "TorchSession": "torch",
}


class Session(Protocol):
    """A loaded graph: images in, arrays out; threads may share it.

    Attributes:
        backend: What computes, by the name that `--backend` has for it, such as "onnxruntime" or "openvino-int8"; it is
            written into calibration records.
        slots: Calls that are worth making at once; one where it has no such attribute.
        provider: Where and in what, in the backend's own words, such as "CPUExecutionProvider"; also in the records.
    """

    @property
    def backend(self) -> str: ...

    @property
    def provider(self) -> str: ...

    def __call__(self, images: np.ndarray, /) -> Mapping[str, np.ndarray]:
        """Run the graph.

        Args:
            images: (B, S, S, 3) uint8 RGB, any B from 1 on; (B, H, W, 3) BGR frames for a graph that resizes, see
                `Manifest.frame_size`.

        Returns:
            By output name, arrays of the caller's own: head "map" gives `image_logits` (B,) and `anomaly_maps`
            (B, S, S), head "embeddings" `image_embeddings` (B, D) and `patch_embeddings` (B, L, G·G, D), all float32.

        Raises:
            BackendError: The backend fails, or `close` was called before.
        """
        ...

    def close(self) -> None:
        """Give back what it holds, a GPU's memory above all; a second time does nothing."""
        ...


@dataclass(frozen=True)
class Brief:
    """What a call gives where maps stay on the GPU unless they are wanted.

    Attributes:
        image_logits: (B,) float32, log-odds.
        peaks: (B,) float32, the largest value of each map.
        sums: (B,) float32, the sum of each map, which is nan or infinite if any value is.
        maps: Of each image its map, (S, S) float32, or None where it was not wanted.
    """

    image_logits: npt.NDArray[np.float32]
    peaks: npt.NDArray[np.float32]
    sums: npt.NDArray[np.float32]
    maps: tuple[npt.NDArray[np.float32] | None, ...]


@runtime_checkable
class BriefSession(Protocol):
    """A session that can leave maps where they were computed.

    Attributes:
        can_be_brief: Whether what it runs can.
    """

    @property
    def can_be_brief(self) -> bool: ...

    def brief(self, images: Any, wants: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Brief:
        """Run the graph, which has head "map".

        Args:
            images: As for a call.
            wants: Given the `image_logits` and the peaks of some of the images, (n,) each, says of which the map is
                wanted, (n,) bool.
        """
        ...


@runtime_checkable
class GpuSession(Protocol):
    """A session that takes frames that are on its GPU already, in the place of `images`, a list of `GpuPixels`."""

    def check_on_gpu(self, pixels: GpuPixels) -> None:
        """Raise FrameError unless the pixels lie where it can read them."""
        ...

    def fetch(self, pixels: GpuPixels) -> npt.NDArray[np.uint8]:
        """Return the computer's copy, (H, W, 3) uint8."""
        ...


def backend_in_record(backend: str, provider: str) -> str:
    """Return the backend's name of today for what a record says, which may name a class as older versions did.

    >>> backend_in_record("OnnxSession", "CPUExecutionProvider")
    'onnxruntime'
    """
    name = _OF_CLASSES.get(backend, backend)
    precision = provider.removeprefix("CPU ")
    return f"{name}-{precision}" if backend == "OpenVinoSession" and precision in ("bf16", "int8") else name

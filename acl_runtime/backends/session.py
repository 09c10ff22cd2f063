"""What every backend gives: a session, which runs a bundle's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

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


def backend_in_record(backend: str, provider: str) -> str:
    """Return the backend's name of today for what a record says, which may name a class as older versions did.

    >>> backend_in_record("OnnxSession", "CPUExecutionProvider")
    'onnxruntime'
    """
    name = _OF_CLASSES.get(backend, backend)
    precision = provider.removeprefix("CPU ")
    return f"{name}-{precision}" if backend == "OpenVinoSession" and precision in ("bf16", "int8") else name

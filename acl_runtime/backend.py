"""Choose what runs the graph; nothing is imported before it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from acl_runtime.bundle import Bundle

    Session = Callable[[np.ndarray], Mapping[str, np.ndarray]]
    """Images, (B, S, S, 3) uint8 RGB, to the graph's outputs by name."""


class Backend(str, Enum):
    """What runs the graph."""

    auto = "auto"
    onnxruntime = "onnxruntime"


def open_session(bundle: Bundle, *, backend: str = "auto", provider: str = "auto") -> Session:
    """Load the bundle's graph.

    Args:
        bundle: A checked bundle.
        backend: A `Backend` or its name; "auto" is ONNX Runtime.
        provider: Where ONNX Runtime computes; see `OnnxSession`.
    """
    if backend not in [choice.value for choice in Backend]:
        raise ValueError(f"backend must be one of {', '.join(Backend.__members__)}, got {backend}")
    from acl_runtime.onnx_session import OnnxSession

    return OnnxSession(bundle.graph_path, provider)

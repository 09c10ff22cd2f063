"""Choose what runs the graph; nothing is imported before it is chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from acl_runtime.files.errors import InputError

if TYPE_CHECKING:
    from acl_runtime.backends.session import Session
    from acl_runtime.bundle.bundle import Bundle


class Backend(str, Enum):
    """What runs the graph."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    openvino_int8 = "openvino-int8"
    onnxruntime_int8 = "onnxruntime-int8"


def warn(message: str) -> None:
    """Tell the user of the library something that does not stop the work."""
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def open_session(
    bundle: Bundle, *, backend: str = "auto", provider: str = "auto", tell: Callable[[str], None] = warn
) -> Session:
    """Load the bundle's graph, or its engine for this GPU.

    Args:
        bundle: A checked bundle.
        backend: A `Backend` or its name; "auto" is TensorRT where the bundle has an engine for this machine, else ONNX
            Runtime.
        provider: Where ONNX Runtime computes, see `OnnxSession`; naming one chooses ONNX Runtime.
        tell: Called with what the user should know, a sentence each: why the bundle's engines are left aside, or that
            an engine is being proven.

    Raises:
        RuntimeError: What was asked for cannot be loaded; nothing else is taken instead.
    """
    if backend not in [choice.value for choice in Backend]:
        raise InputError(
            f"backend must be one of {', '.join(choice.value for choice in Backend)}, got {backend}"
        )
    if backend not in (Backend.auto.value, Backend.onnxruntime.value) and provider != "auto":
        raise InputError(f"provider is where ONNX Runtime computes, got {provider} with backend {backend}")
    if backend == Backend.openvino.value:
        from acl_runtime.backends.openvino_session import OpenVinoSession

        return OpenVinoSession.of_bundle(bundle)
    if backend in (
        Backend.openvino_bf16.value,
        Backend.openvino_int8.value,
        Backend.onnxruntime_int8.value,
    ):
        from acl_runtime.backends.reduced import open_gated

        return open_gated(bundle, backend)  # type: ignore[arg-type]
    if backend != Backend.onnxruntime.value and provider == "auto":
        from acl_runtime.backends.tensorrt.choose import NoEngineError, has_engines, open_engine

        if backend == Backend.tensorrt.value:
            return open_engine(bundle, tell)
        if has_engines(bundle):
            try:
                return open_engine(bundle, tell)
            except NoEngineError as error:
                tell(f"ONNX Runtime computes, not TensorRT: {error}")
    from acl_runtime.backends.onnx_session import OnnxSession

    return OnnxSession.of_bundle(bundle, provider)

"""Detect defects on frames with an exported AnomalyCLIP bundle, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acl_runtime.backends.telemetry import switch_off

if TYPE_CHECKING:
    from acl_runtime.detection.detector import Detector
    from acl_runtime.detection.verdict import Verdict

__all__ = ["Detector", "Verdict"]

switch_off()  # before anything can import a backend


def __getattr__(name: str) -> object:
    """Import the detector, and with it numpy and OpenCV, when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from acl_runtime.detection import detector

    return getattr(detector, name)

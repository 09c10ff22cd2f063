"""Detect defects on frames with an exported AnomalyCLIP bundle, without PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from acl_runtime.backends.telemetry import switch_off

if TYPE_CHECKING:
    from acl_runtime.backends.session import Session
    from acl_runtime.bundle.bundle import Bundle, load_bundle
    from acl_runtime.bundle.manifest import Tiling
    from acl_runtime.calibration.calibrate import calibrate_bundle
    from acl_runtime.detection.detector import Detector
    from acl_runtime.detection.stream import Stream
    from acl_runtime.detection.verdict import Verdict
    from acl_runtime.images.frame import BadFrame, Frame
    from acl_runtime.images.overlay import scale_map
    from acl_runtime.outputs.pictures import draw_overlay
    from acl_runtime.scoring.regions import Region
    from acl_runtime.scoring.rule import Rule
    from acl_runtime.sources.files import list_sources

__all__ = [
    "BadFrame",
    "Bundle",
    "Detector",
    "Frame",
    "Region",
    "Rule",
    "Session",
    "Stream",
    "Tiling",
    "Verdict",
    "calibrate_bundle",
    "draw_overlay",
    "list_sources",
    "load_bundle",
    "scale_map",
]
_MODULES = {
    "BadFrame": "images.frame",
    "Bundle": "bundle.bundle",
    "Detector": "detection.detector",
    "Frame": "images.frame",
    "Region": "scoring.regions",
    "Rule": "scoring.rule",
    "Session": "backends.session",
    "Stream": "detection.stream",
    "Tiling": "bundle.manifest",
    "Verdict": "detection.verdict",
    "calibrate_bundle": "calibration.calibrate",
    "draw_overlay": "outputs.pictures",
    "list_sources": "sources.files",
    "load_bundle": "bundle.bundle",
    "scale_map": "images.overlay",
}

switch_off()  # before anything can import a backend


def __getattr__(name: str) -> object:
    """Import a name, and with it numpy and OpenCV, when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

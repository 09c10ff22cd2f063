"""Keep the backends' makers from being told what runs here.

Imported, ONNX Runtime writes a device id below `~/.cache/Microsoft` and connects to mobile.events.data.microsoft.com,
and OpenVINO writes `~/intel` and connects to www.google-analytics.com (seen with 1.32.0 and 2026.4.1). Both decide
while they are imported, so this package says no before it imports anything.
"""

from __future__ import annotations

import os
import sys


def switch_off() -> None:
    """Switch both off, unless the user decided: by `ORT_DISABLE_TELEMETRY`, or by importing `openvino_telemetry`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # cannot be imported; OpenVINO has a stub

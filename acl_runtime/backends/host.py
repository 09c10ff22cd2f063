"""What the system says of this process and of where it runs."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def peak_memory() -> int | None:
    """Most bytes of memory that this process had at once, as Linux counts; None elsewhere."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.is_file() else None
    return int(found[1]) << 10 if found else None


def cpu_model() -> str:
    """Linux names it in a file; elsewhere Python's own guess has to do."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()

"""What the system says of this process."""

from __future__ import annotations

import re
from pathlib import Path


def peak_memory() -> int | None:
    """Most bytes of memory that this process had at once, as Linux counts; None elsewhere."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.is_file() else None
    return int(found[1]) << 10 if found else None

"""One verdict on a large frame in a fresh process, and the memory it took; `benchmarks.tiling` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from acl_runtime.detection.detector import Detector
from benchmarks.tiling import TILING


def main(bundle: Path, height: int, width: int) -> None:
    """Print the bytes of the frame, of its map, and of the peak above what the loaded detector takes."""
    detector = Detector(bundle, provider="CPUExecutionProvider", tiling=TILING)
    detector(np.zeros((1000, 1000, 3), np.uint8))  # what the graph takes for a full batch, it keeps
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    frame = np.full((height, width, 3), 140, np.uint8)
    verdict = detector(frame)
    print(frame.nbytes, verdict.anomaly_map.nbytes, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    """Bytes; VmRSS is now, VmHWM the most so far. ru_maxrss would be the parent's where that is larger."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

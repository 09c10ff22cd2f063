"""How long a fresh process takes to its first verdict, and how much memory: `python -m acl_runtime.bench.probe`.

Called with a bundle, a backend, the time of the start and whether the resize is the fast one; prints a `Start` as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from acl_runtime.backends.host import peak_memory
from acl_runtime.files.errors import BackendError


@dataclass(frozen=True)
class Start:
    """A process's beginning.

    Attributes:
        load_s: To have the bundle checked and its graph loaded.
        first_verdict_s: From the start of the process to the first verdict.
        peak_bytes: Most memory that the process had; None where the system does not tell.
        before_bytes: Of that, what it had before the bundle was loaded.
    """

    load_s: float
    first_verdict_s: float
    peak_bytes: int | None
    before_bytes: int | None


def probe(bundle: Path, backend: str, *, fast_resize: bool = False) -> Start:
    """Measure in a process of its own.

    Raises:
        RuntimeError: It ended with an error.
    """
    started = time.time()
    arguments = [str(bundle), backend, repr(started), str(int(fast_resize))]
    command = [sys.executable, "-m", "acl_runtime.bench.probe", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(done.stderr.strip().splitlines()[-1])
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def main(bundle: str, backend: str, started: float, *, fast_resize: bool) -> None:
    """In the process that is measured."""
    from acl_runtime.backends.choose import open_backend
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.detection.detector import Detector

    before, begun = peak_memory(), time.perf_counter()
    loaded = load_bundle(bundle)
    session, _ = open_backend(loaded, backend)
    load_s = time.perf_counter() - begun
    Detector(loaded, session=session, fast_resize=fast_resize)(
        np.zeros(loaded.manifest.frame_size or (loaded.manifest.image_size,) * 2, np.uint8)
    )
    print(json.dumps(asdict(Start(load_s, time.time() - started, peak_memory(), before))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), fast_resize=sys.argv[4] == "1")

"""Start `acl serve` in a process of its own, with the recording output of the tests; run as a program it is that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def start_service(station: Path, *, stdout: Path | None = None) -> subprocess.Popen[str]:
    """A service; its log goes to a file, or nowhere."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    with open(stdout or os.devnull, "a") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "serve", str(station)],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )


def read_events(path: Path, kind: str) -> list[dict[str, Any]]:
    """What the recording output wrote, of a kind such as PartResult; a line that is being written is left out."""
    text = path.read_text() if path.exists() else ""
    events = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [event for event in events if event["kind"] == kind]


if __name__ == "__main__":
    from acl_runtime.cli import app
    from acl_runtime.inspection.station.outputs import KINDS

    KINDS["recording"] = "recording_output"
    app()

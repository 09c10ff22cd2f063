"""Results as JSON, one object a line, in a file that one process writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acl_runtime.detection.verdict import Result
from acl_runtime.images.frame import BadFrame
from acl_runtime.outputs.line_file import LineFile

_DECIMALS_MS = 3  # of latencies: a microsecond


def json_line(result: Result) -> str:
    """One JSON object, its keys as of `json_record`."""
    return json.dumps(json_record(result), allow_nan=False)


def json_record(result: Result) -> dict[str, Any]:
    """What JSON has of a result, its keys as below; of a BadFrame: source, index, error.

    Beside what a Verdict has, `decided_by` says what made the frame anomalous ("score", "peak", "both", else null), and
    `unusual` lists the quantities, see `calibration/monitor.py`, in which the last frames are unlike those of the
    calibration.
    """
    if isinstance(result, BadFrame):
        return {"source": result.source, "index": result.index, "error": result.problem}
    frame, verdict = result.frame, result.verdict
    return {
        "source": frame.source,
        "index": frame.index,
        "score": verdict.score,
        "is_anomalous": verdict.is_anomalous,
        "threshold": verdict.threshold,
        "regions": [dict(vars(region)) for region in verdict.regions],  # `asdict` takes 20 times as long
        "latency_ms": {stage: round(ms, _DECIMALS_MS) for stage, ms in verdict.latency_ms.items()},
        "peak": verdict.peak,
        "peak_threshold": verdict.peak_threshold,
        "margin": verdict.margin,
        "decided_by": verdict.decided_by,
        "unusual": list(result.unusual),
    }


class JsonLines(LineFile):
    """An output that adds a line per result to a file."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """Take the file, alone; see `LineFile`."""
        super().__init__(path, append=append, remedy="pass --append to add to them, or name another file")

    def __call__(self, result: Result) -> None:
        """Write one; see `write`."""
        self.write(json_line(result))

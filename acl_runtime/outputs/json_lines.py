"""Results as JSON, one object a line, in a file that one process writes."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock
from acl_runtime.images.frame import BadFrame

_DECIMALS_MS = 3  # of latencies: a microsecond


def json_line(result: Result) -> str:
    """One JSON object, its keys as below; of a BadFrame: source, index, error.

    Beside what a Verdict has, `decided_by` says what made the frame anomalous ("score", "peak", "both", else null), and
    `unusual` lists the quantities, see `calibration/monitor.py`, in which the last frames are unlike those of the
    calibration.
    """
    if isinstance(result, BadFrame):
        return json.dumps({"source": result.source, "index": result.index, "error": result.problem})
    frame, verdict = result.frame, result.verdict
    record = {
        "source": frame.source,
        "index": frame.index,
        "score": verdict.score,
        "is_anomalous": verdict.is_anomalous,
        "threshold": verdict.threshold,
        "regions": [asdict(region) for region in verdict.regions],
        "latency_ms": {stage: round(ms, _DECIMALS_MS) for stage, ms in verdict.latency_ms.items()},
        "peak": verdict.peak,
        "peak_threshold": verdict.peak_threshold,
        "margin": verdict.margin,
        "decided_by": verdict.decided_by,
        "unusual": list(result.unusual),
    }
    return json.dumps(record, allow_nan=False)


class JsonLines:
    """An output that adds a line per result to a file; what is there is whole, and safe from Ctrl-C."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """Take the file, alone.

        Args:
            path: File to write.
            append: Whether it may hold results of an earlier run, which then stay.

        Raises:
            InputError: It holds results of an earlier run, another process writes it, or it is the journal of a watched
                folder.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("ab+", buffering=0)  # nothing is lost before it is held
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            if self._is_regular:
                lock(self._file, path, "wait until it has ended, or name another file")
                self._check_content(append=append)
        except BaseException:
            self._file.close()
            raise

    def __call__(self, result: Result) -> None:
        """Write one; a disk that has no room for all of a line gets nothing of it.

        Raises:
            OSError: The disk is full or away; the error names the file.
        """
        line = memoryview(f"{json_line(result)}\n".encode("ascii"))
        end = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]  # one write, unless the disk is full
        except OSError as error:
            if self._is_regular:
                self._file.truncate(end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _check_content(self, *, append: bool) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if b'"mtime_ns": ' in first:
            raise InputError(
                f"{self._path}: remembers what was judged of a watched folder; name another file"
            )
        if first and not append:
            raise InputError(
                f"{self._path}: holds the results of an earlier run; pass --append to add to them, or name another file"
            )

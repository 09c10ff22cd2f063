"""What was found on a frame, as a line for a person, as a JSON object, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import lock
from acl_runtime.images.frame import BadFrame


def json_line(result: Result) -> str:
    """One JSON object, its keys as below; of a BadFrame: source, index, error.

    Beside what a Verdict has, `unusual` lists the quantities, see `calibration/drift.py`, in which the last frames are
    unlike those of the calibration.
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
        "latency_ms": dict(verdict.latency_ms),
        "peak": verdict.peak,
        "peak_threshold": verdict.peak_threshold,
        "margin": verdict.margin,
        "unusual": list(result.unusual),
    }
    return json.dumps(record)


def text_line(result: Result) -> str:
    """One line for a person: OK or NG, score, map peak, log-odds from the other verdict, source."""
    if isinstance(result, BadFrame):
        return f"??  -----  -----  -----  {result.problem}"
    frame, verdict = result.frame, result.verdict
    position = f" #{frame.index}" if frame.index else ""
    word = "NG" if verdict.is_anomalous else "OK"
    return (
        f"{word}  {verdict.score:.3f}  {verdict.peak:.3f}  {_short(verdict.margin)}  {frame.source}{position}"
    )


@dataclass
class Tally:
    """What was found so far."""

    good: int = 0
    anomalous: int = 0
    unreadable: int = 0

    def add(self, result: Result) -> None:
        """Count one result."""
        if isinstance(result, BadFrame):
            self.unreadable += 1
        elif result.verdict.is_anomalous:
            self.anomalous += 1
        else:
            self.good += 1

    def text(self, seconds: float) -> str:
        """The closing line."""
        frames = self.good + self.anomalous
        counts = f"{frames} {'frame' if frames == 1 else 'frames'}: {self.anomalous} NG, {self.good} OK"
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"{counts}{unreadable}; {frames / seconds:.2f} frames per second"

    def exit_code(self, *, fail_on_defect: bool) -> int:
        """3 for a defect where that is asked for, else 1 if anything could not be read, else 0."""
        if fail_on_defect and self.anomalous:
            return 3
        return 1 if self.unreadable else 0


def record(results: Iterable[Result], path: Path | None) -> Iterator[Result]:
    """Pass results on, each once its line is in a new file of JSON lines; what is there is safe from Ctrl-C.

    Args:
        results: To write.
        path: File, or None to write nothing.

    Raises:
        InputError: The file is the journal of a watched folder, or another process writes it.
    """
    if path is None:
        yield from results
        return
    _check_no_journal(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:  # every line goes to the system at once
        if path.is_file():  # not a pipe
            lock(file, path, "wait until it has ended, or name another file")
            file.truncate(0)
        for result in results:
            print(json_line(result), file=file)
            yield result


def _check_no_journal(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as file:
        if b'"mtime_ns": ' in file.readline():
            raise InputError(f"{path}: remembers what was judged of a watched folder; name another file")


def _short(margin: float) -> str:
    """A margin in five characters."""
    return f"{margin:+5.2f}" if abs(margin) < 10 else f"{max(-999, min(999, margin)):+5.0f}"

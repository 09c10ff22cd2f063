"""What was found on a frame, as a line for a person, and counted."""

from __future__ import annotations

from dataclasses import dataclass

from acl_runtime.detection.verdict import Result
from acl_runtime.images.frame import BadFrame
from acl_runtime.text.names import printable

HEADER = "    score  peak   margin source"
"""What the columns of `text_line` are called."""


def text_line(result: Result) -> str:
    """One line for a person: OK or NG, score, map peak, margin, source; names cannot steer a terminal."""
    if isinstance(result, BadFrame):
        return f"??  -----  -----  -----  {printable(result.problem)}"
    frame, verdict = result.frame, result.verdict
    position = f" #{frame.index}" if frame.index else ""
    word = "NG" if verdict.is_anomalous else "OK"
    numbers = f"{verdict.score:.3f}  {verdict.peak:.3f}  {_short(verdict.margin)}"
    return f"{word}  {numbers}  {printable(frame.source)}{position}"


@dataclass
class Tally:
    """What was found so far; an output.

    Attributes:
        good: Frames that are OK.
        anomalous: Frames that are NG.
        unreadable: Frames and files that could not be judged.
        warning: What the closing line ends with, such as that the bundle is a demonstration; empty for nothing.
    """

    good: int = 0
    anomalous: int = 0
    unreadable: int = 0
    warning: str = ""

    def __call__(self, result: Result) -> None:
        """Count one result."""
        if isinstance(result, BadFrame):
            self.unreadable += 1
        elif result.verdict.is_anomalous:
            self.anomalous += 1
        else:
            self.good += 1

    def close(self) -> None:
        """Do nothing."""

    def text(self, seconds: float) -> str:
        """The closing line."""
        frames = self.good + self.anomalous
        counts = f"{frames} {'frame' if frames == 1 else 'frames'}: {self.anomalous} NG, {self.good} OK"
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        warning = f"; {self.warning}" if self.warning else ""
        return f"{counts}{unreadable}; {frames / seconds:.2f} frames per second{warning}"

    def exit_code(self, *, fail_on_defect: bool) -> int:
        """3 for a defect where that is asked for, else 1 if anything could not be read, else 0."""
        if fail_on_defect and self.anomalous:
            return 3
        return 1 if self.unreadable else 0


def _short(margin: float) -> str:
    """A margin in five characters."""
    return f"{margin:+5.2f}" if abs(margin) < 10 else f"{max(-999, min(999, margin)):+5.0f}"

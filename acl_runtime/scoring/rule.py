"""When a frame is anomalous, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from acl_runtime.bundle.manifest import Calibration
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.text.percent import probability

SMALLEST = 5e-324  # the smallest positive float: a margin that is not anomalous is negative, however close


DecidedBy = Literal["score", "peak", "both"]
"""What makes a frame anomalous."""


@dataclass(frozen=True)
class Rule:
    """A frame is anomalous when its score or, where that decides too, the peak of its map is high enough.

    The score says that something is wrong with the part as a whole; a small defect hardly moves it, and is
    seen in the peak of the map.
    """

    score_threshold: float  # smallest score that is anomalous, in [0, 1]
    peak_threshold: float | None  # smallest peak that is anomalous, in [0, 1]; None: the peak does not decide

    def __post_init__(self) -> None:
        """Refuse thresholds that are no probabilities."""
        for name, value in (("threshold", self.score_threshold), ("peak_threshold", self.peak_threshold)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} must lie in 0..1, got {value}")

    def is_anomalous(self, score: float, peak: float) -> bool:
        """The verdict on a score and the largest value of a map, both in [0, 1]."""
        return self.decided_by(score, peak) is not None

    def decided_by(self, score: float, peak: float) -> DecidedBy | None:
        """Which of a score and the largest value of a map, both in [0, 1], is high enough; None if neither is.

        Raises:
            FrameError: One of them is no number, so that no comparison would mean anything.
        """
        for name, value in (("score", score), ("peak", peak)):
            if not math.isfinite(value):
                raise FrameError(f"{name} must be a finite number, got {value}; the frame cannot be judged")
        by_score = score >= self.score_threshold
        by_peak = self.peak_threshold is not None and peak >= self.peak_threshold
        if by_score and by_peak:
            return "both"
        return "score" if by_score else "peak" if by_peak else None

    def margin(self, score: float, peak: float) -> float:
        """How far the frame is from the other verdict, in log-odds: not negative if it is anomalous.

        The larger of the distances of score and peak from their thresholds; near 0 the verdict is in doubt.
        """
        is_anomalous = self.is_anomalous(score, peak)
        distance = log_odds(score) - log_odds(self.score_threshold)
        if self.peak_threshold is not None:
            distance = max(distance, log_odds(peak) - log_odds(self.peak_threshold))
        return max(distance, 0.0) if is_anomalous else min(distance, -SMALLEST)


def bundle_rule(calibration: Calibration) -> Rule:
    """What a bundle's thresholds say."""
    peak = calibration.map_threshold if calibration.rule == "score or peak" else None
    return Rule(calibration.score_threshold, peak)


def rule_words(rule: Rule) -> str:
    """From what on a frame is anomalous."""
    words = f"score {probability(rule.score_threshold)}"
    if rule.peak_threshold is None:
        return words
    return f"{words} or map peak {probability(rule.peak_threshold)}"


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), ±750 for 1 and 0: finite, and beyond that of any other float."""
    if probability <= 0:
        return -750.0
    return 750.0 if probability >= 1 else math.log(probability) - math.log1p(-probability)

"""What a rule does to images that were judged."""

from __future__ import annotations

from acl_runtime.calibration.record import Escapes, JudgedImages
from acl_runtime.scoring.rule import Rule


def count_rejected(rule: Rule, images: JudgedImages) -> int:
    """How many of the images it rejects."""
    return sum(_verdicts(rule, images))


def count_escapes(rule: Rule, defective: JudgedImages) -> Escapes:
    """Which of the defective images it lets pass."""
    verdicts = zip(defective.source, _verdicts(rule, defective), strict=True)
    missed = tuple(source for source, is_anomalous in verdicts if not is_anomalous)
    return Escapes(images=len(defective.source), missed=len(missed), sources=missed)


def _verdicts(rule: Rule, images: JudgedImages) -> list[bool]:
    return [rule.is_anomalous(*values) for values in zip(images.score, images.peak, strict=True)]

"""Tell people of a calibration: what it promises in plain words, and what was measured as a picture of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from acl_runtime.calibration.conformal import Demand, needed_images
from acl_runtime.calibration.record import ByHand, CalibrationRecord
from acl_runtime.scoring.rule import log_odds
from acl_runtime.text.names import shorten
from acl_runtime.text.percent import probability

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:-=+*#@"
TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # probabilities that the axis may name
LIMIT = 17.0  # log-odds: what is beyond is drawn at the edge
HARDLY = (
    "Most defective images pass: the model hardly tells them from good ones. If their defects are small, cut the "
    "frames with --tile; otherwise take a larger backbone, or allow more overkill."
)
LABEL = 11  # characters before each line of the picture


def make_statement(
    demand: Demand,
    *,
    promised: float,
    calibrating: int,
    scale_images: int,
    copies: int = 0,
    remembered: int = 0,
    peak_decides: bool = True,
) -> str:
    """Say the promise in plain words.

    Args:
        demand: What was asked.
        promised: The share of good parts that is promised not to be exceeded.
        calibrating: Number of images that the promise rests on.
        scale_images: Number of images that only put score and peak on one scale.
        copies: Number of images that were left out because another has the very same pixels.
        remembered: Number of good images in the memory.
        peak_decides: Whether the map's peak is part of the rule.
    """
    memory = f", {remembered} are the memory" if remembered else ""
    hidden = f", even if {_defective(demand.hidden_defects)}" if demand.hidden_defects else ""
    sentences = [
        f"With {calibrating} good images ({scale_images} others only put score and peak on one scale{memory}): at most "
        f"{_percent_up(promised, demand.max_overkill)} of good parts are rejected, at "
        f"{_percent(demand.confidence)} confidence{hidden}."
    ]
    if promised > demand.max_overkill:
        needed = remembered + needed_images(
            demand.max_overkill, confidence=demand.confidence, hidden_defects=demand.hidden_defects
        )
        sentences.append(
            f"{calibrating + scale_images + remembered} images cannot prove more; for the "
            f"{_percent(demand.max_overkill)} that you asked give {needed} images or more."
        )
    if not peak_decides:
        sentences.append("The map reaches its largest value on good parts, so the score alone decides.")
    if copies:
        sentences.append(_left_out(copies))
    return " ".join(sentences)


def assumption_words(unlabelled: float | None, hidden_defects: int) -> str:
    """Say what a promise from unlabelled frames rests on; nothing where the images are known to be good."""
    if unlabelled is None:
        return ""
    return (
        f" Nobody looked at these frames: all of this holds only if at most {_percent(unlabelled)} of them "
        f"({hidden_defects}) are defective, as you assumed."
    )


def make_segment_statement(
    demand: Demand,
    promised: float,
    segment_mm: float,
    *,
    calibrating: int,
    scale_segments: int,
    left_out: int = 0,
    peak_decides: bool = True,
) -> str:
    """Say the promise about a web, per segment and per 100 m.

    Args:
        demand: What was asked, of segments.
        promised: The share of good segments that is promised not to be exceeded.
        segment_mm: Length of a segment.
        calibrating: Number of segments that the promise rests on.
        scale_segments: Number of segments that only put score and peak on one scale.
        left_out: Number of segments that were not judged from end to end.
        peak_decides: Whether the map's peak is part of the rule.
    """
    metres, per_100_m = segment_mm / 1000, promised * 100_000 / segment_mm
    hidden = f", even if {_defective(demand.hidden_defects)}" if demand.hidden_defects else ""
    sentences = [
        f"With {calibrating} good segments of {metres:g} m ({scale_segments} others only put score and peak on one "
        f"scale): at most {_percent_up(promised, demand.max_overkill)} of good segments have a false alarm, which is "
        f"{_two_digits_up(per_100_m)} in 100 m on average, at {_percent(demand.confidence)} confidence{hidden}."
    ]
    if promised > demand.max_overkill:
        needed = needed_images(
            demand.max_overkill, confidence=demand.confidence, hidden_defects=demand.hidden_defects
        )
        sentences.append(
            f"{(calibrating + scale_segments) * metres:g} m cannot prove more; for the {_percent(demand.max_overkill)} "
            f"that you asked ({demand.max_overkill * 100_000 / segment_mm:.2g} in 100 m) give {needed * metres:g} m of "
            "good web or more."
        )
    if not peak_decides:
        sentences.append("The map reaches its largest value on good web, so the score alone decides.")
    if left_out:
        sentences.append(f"{left_out} segments were not judged from end to end, and left out.")
    return " ".join(sentences)


def by_hand_statement(by_hand: ByHand, created: str) -> str:
    """Say in the place of a promise that there is none.

    Args:
        by_hand: Who set the thresholds.
        created: When, ISO 8601.
    """
    when = f"{created[:10]} {created[11:16]} UTC"
    effect = f"{by_hand.changed} of the last {by_hand.parts} parts would have another verdict"
    return f"Set by hand on {when} by {by_hand.by}, no promise{f': {effect}' if by_hand.parts else ''}."


def threshold_words(value: float) -> str:
    """Write a probability so that one close to 1 is not called 1: 0.9977, or 1 - 2e-09."""
    words = probability(value)
    return f"1 - {1 - value:.0e}" if value < 1 and float(words) == 1 else words


def report_lines(record: CalibrationRecord) -> list[str]:
    """Say what a user wants to know after a calibration, the promise first, a line each."""
    peak = f" or map peak {threshold_words(record.map_threshold)}" if record.rule == "score or peak" else ""
    lines = [
        record.statement,
        f"anomalous from score {threshold_words(record.score_threshold)}{peak}; "
        f"{record.rejected} of these {record.images} good {'images' if record.segment_mm is None else 'segments'} are "
        "rejected",
    ]
    if record.escapes is not None:
        missed, images = record.escapes.missed, record.escapes.images
        names = f": {shorten(record.escapes.sources, most=5)}" if missed else ""
        lines.append(f"{missed} of {images} defective images are missed{names}")
        if 2 * missed > images:
            lines.append(HARDLY)
    return [*lines, *(finding.text for finding in record.findings)]


def histogram_lines(record: CalibrationRecord, *, width: int = 72, ascii_only: bool = False) -> list[str]:
    """Draw how score, and peak where it decides, are distributed over log-odds, the threshold marked.

    Args:
        record: A calibration.
        width: Characters in a line.
        ascii_only: Whether to do without block characters.
    """
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    columns = max(width - LABEL, 20)
    thresholds = {"score": record.score_threshold}
    if record.rule == "score or peak":
        thresholds["peak"] = record.map_threshold
    lines = []
    for name, threshold in thresholds.items():
        groups = {"good": _values(getattr(record.good, name))}
        if record.defective is not None:
            groups["defective"] = _values(getattr(record.defective, name))
        edges = _edges([*groups.values(), _values([threshold])], columns)
        lines += ["", f"{name}, ^ marks {threshold_words(threshold)}"]
        lines += [f"{group:>{LABEL - 1}} {_bars(values, edges, blocks)}" for group, values in groups.items()]
        lines += [" " * LABEL + line for line in (_mark(threshold, edges), _axis(edges))]
    return lines[1:]


def _values(probabilities: Sequence[float]) -> np.ndarray:
    return np.clip([log_odds(value) for value in probabilities], -LIMIT, LIMIT)


def _edges(groups: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """(columns + 1,) log-odds between which the columns lie; everything is inside."""
    values = np.concatenate(groups)
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) / columns, 0.05)
    return np.linspace(low - margin, high + margin, columns + 1)


def _bars(values: np.ndarray, edges: np.ndarray, blocks: str) -> str:
    counts, _ = np.histogram(values, edges)
    heights = np.ceil(counts / max(counts.max(), 1) * (len(blocks) - 1)).astype(int)  # one image is seen too
    return "".join(blocks[height] for height in heights).rstrip()


def _column(value: float, edges: np.ndarray) -> int:
    return int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2))


def _mark(threshold: float, edges: np.ndarray) -> str:
    return " " * _column(float(_values([threshold])[0]), edges) + "^"


def _axis(edges: np.ndarray) -> str:
    """Probabilities below their columns: those of `TICKS` that lie inside, and the ends where none does."""
    inside = [tick for tick in TICKS if edges[0] < log_odds(tick) < edges[-1]]
    ends = [1 / (1 + math.exp(-edge)) for edge in (float(edges[0]), float(edges[-1]))]
    line = ""
    for tick in inside if len(inside) > 1 else sorted([*ends, *inside]):
        text = f"{tick:.3g}"
        column = min(_column(log_odds(tick), edges), len(edges) - 1 - len(text))
        if column >= len(line) + bool(line):
            line = line.ljust(column) + text
    return line


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _percent_up(share: float, asked: float) -> str:
    """Two digits, never less than the share; what was asked where it is kept and two digits say more than that."""
    percent = 100 * share
    step = 10.0 ** (math.floor(math.log10(percent)) - 1)
    rounded = math.ceil(percent / step - 1e-9) * step / 100
    return _percent(min(rounded, asked) if share <= asked else min(rounded, 1.0))


def _two_digits_up(value: float) -> str:
    """Two digits, never less than the value, which is above 0."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.4g}"


def _defective(count: int) -> str:
    return f"{count} of them {'is' if count == 1 else 'are'} defective"


def _left_out(copies: int) -> str:
    nouns = ("image", "was") if copies == 1 else ("images", "were")
    return f"{copies} {nouns[0]} with the very pixels of another {nouns[1]} left out."

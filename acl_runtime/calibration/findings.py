"""What a user must know about the good images before he believes in the thresholds.

A promise holds for parts like those that were given. Nobody but the user knows whether these were good, each another
one, and taken as on the line; what speaks against it is found here and said with its figures. Nothing here moves a
threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from acl_runtime.calibration.conformal import (
    LEAST_IMAGES,
    Demand,
    allowed_rejections,
    promised_overkill,
    scale_images,
)
from acl_runtime.calibration.pictures import Picture, find_near_copies
from acl_runtime.calibration.record import CalibrationRecord, Finding, JudgedImages
from acl_runtime.calibration.report import threshold_words
from acl_runtime.calibration.thresholds import (
    PEAK_LIMIT,
    Thresholds,
    Values,
    find_rule,
    fit_scales,
)
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.rule import Rule, log_odds, rule_words
from acl_runtime.text.names import shorten
from acl_runtime.text.percent import probability

SHOWN = 5  # names in a sentence
HIGHEST = 5  # good images to look at
LEAST_NAMED = 3  # a group of so many is looked at in their place
APART = 1.0  # a gap is as wide as all that lies between the median and it
MOST_APART = 1 / 4  # of the images lie above a gap
SEPARATION = 5.0  # distance of two groups' means over the spread inside them; 3 to 4 for one group
LEAST_GROUP = 1 / 10  # of the images are in each of two groups
IDLE = 3.0  # log-odds between the highest good part and a threshold that practically never decides


def find_picture_findings(
    sources: Sequence[str], pictures: Sequence[Picture], demand: Demand
) -> tuple[Finding, ...]:
    """Find what speaks against the pictures: black or white ones, and parts that were taken more than once.

    Args:
        sources: Of the good images.
        pictures: Of the same.
        demand: As asked, for the promise that distinct parts allow.
    """
    findings = []
    black = tuple(source for source, picture in zip(sources, pictures, strict=True) if picture.is_black)
    white = tuple(source for source, picture in zip(sources, pictures, strict=True) if picture.is_white)
    of_all = f"of {len(sources)} good images"
    if black:
        text = f"{len(black)} {of_all} are nearly black: {shorten(black, most=SHOWN)}; check light, exposure and bits"
        findings.append(Finding(kind="dark", text=text, images=black))
    if white:
        text = f"{len(white)} {of_all} are white nearly everywhere: {shorten(white, most=SHOWN)}; check the exposure"
        findings.append(Finding(kind="saturated", text=text, images=white))
    if copies := find_near_copies(pictures):
        pairs = [f"{sources[row]} like {sources[first]}" for row, first in list(copies.items())[:SHOWN]]
        distinct = len(sources) - len(copies)
        text = (
            f"{len(copies)} {of_all} look nearly like another ({', '.join(pairs)}"
            f"{', ...' if len(copies) > SHOWN else ''}); if they show the same parts again, {distinct} distinct "
            f"{'part is' if distinct == 1 else 'parts are'} left, which {_distinct_promise(distinct, demand)}"
        )
        images = tuple(sources[row] for row in copies)
        findings.append(Finding(kind="near copies", text=text, images=images))
    return tuple(findings)


def find_score_findings(
    good: JudgedImages,
    found: Thresholds,
    demand: Demand,
    previous: tuple[CalibrationRecord, Rule] | None,
) -> tuple[Finding, ...]:
    """Find what speaks against the scores: the highest images by name, groups of their own, idle thresholds.

    Args:
        good: The good images.
        found: The thresholds that were set with them.
        demand: As asked.
        previous: The calibration before, where its thresholds mean the same, with its rule.
    """
    scores, peaks = np.array(good.score), np.array(good.peak)
    levels = _levels(scores, peaks)
    order = np.argsort(-levels, kind="stable")
    apart = _find_group(np.sort(levels))
    findings = []
    if apart is not None:
        kind, count = apart
        findings.append(_group_finding(kind, good, order[:count], found, demand))
    if apart is None or apart[1] < LEAST_NAMED:
        findings.append(_highest_finding(good, order, found, demand, with_move=apart is None))
    if previous is not None:
        findings.append(_previous_finding(good, *previous))
    findings += _idle_findings(good, found.rule)
    return tuple(findings)


def _distinct_promise(distinct: int, demand: Demand) -> str:
    least = max(LEAST_IMAGES, 3 * demand.hidden_defects)
    if distinct < least:
        return f"{'is' if distinct == 1 else 'are'} too few to promise anything ({least} are needed)"
    calibrating = distinct - scale_images(distinct)
    promised = promised_overkill(calibrating, allowed_rejections(calibrating, demand), demand)
    return f"can promise no less than {100 * promised:.2g} % overkill"


def _levels(scores: Values, peaks: Values) -> Values:
    """Return how high images lie, by the larger of score and peak, each on the scale of all of them: (N,)."""
    values = [
        np.clip([log_odds(value) for value in each.tolist()], -PEAK_LIMIT, PEAK_LIMIT)
        for each in (scores, peaks)
    ]
    score, peak = fit_scales(*values)
    levels: Values = np.maximum(score.standardise(values[0]), peak.standardise(values[1]))
    return levels


def _find_group(levels: Values) -> tuple[str, int] | None:
    """Tell whether the highest of some levels, (N,) ascending, are a group of their own, and of how many."""
    gaps = {}
    for count in range(1, int(MOST_APART * len(levels)) + 1):
        below = levels[: len(levels) - count]
        gaps[count] = (levels[len(below)] - below[-1]) / max(below[-1] - np.median(below), 0.25)
    if gaps and max(gaps.values()) >= APART:
        return "gap", max(gaps, key=lambda count: gaps[count])
    least = max(2, int(LEAST_GROUP * len(levels)))
    separations = {count: _separation(levels, count) for count in range(least, len(levels) // 2 + 1)}
    if separations and max(separations.values()) >= SEPARATION:
        return "two groups", max(separations, key=lambda count: separations[count])
    return None


def _separation(levels: Values, count: int) -> float:
    """Return the distance of the means of the `count` highest and the others, over the spread inside the two."""
    low, high = levels[:-count], levels[-count:]
    inside = (low.var() * len(low) + high.var() * len(high)) / len(levels)
    return float((high.mean() - low.mean()) / max(np.sqrt(inside), 1e-9))


def _group_finding(
    kind: str, good: JudgedImages, rows: npt.NDArray[np.intp], found: Thresholds, demand: Demand
) -> Finding:
    images = tuple(good.source[row] for row in rows)
    count, others = len(images), len(good.source) - len(images)
    what = "lies" if count == 1 else "lie"
    seen = (
        f"far above the other {others}"
        if kind == "gap"
        else f"in a group of their own above the other {others}"
    )
    text = (
        f"{count} of {count + others} good images {what} {seen}: {_named(good, rows[:SHOWN])}"
        f"{' ...' if count > SHOWN else ''}; defective parts among good ones look like this, and let others pass; "
        f"look at them; {_move(good, rows, found, demand)}"
    )
    return Finding(kind="gap" if kind == "gap" else "two groups", text=text, images=images)


def _highest_finding(
    good: JudgedImages, order: npt.NDArray[np.intp], found: Thresholds, demand: Demand, *, with_move: bool
) -> Finding:
    rows = order[:HIGHEST]
    move = f"; {_move(good, rows[:1], found, demand)}" if with_move else ""
    text = (
        f"look at these, the good images most like a defect; if one is defective, leave it out and calibrate "
        f"again: {_named(good, rows)}{move}"
    )
    return Finding(kind="highest", text=text, images=tuple(good.source[row] for row in rows))


def _named(good: JudgedImages, rows: Sequence[int] | npt.NDArray[np.intp]) -> str:
    return ", ".join(
        f"{good.source[row]} (score {probability(good.score[row])}, peak {probability(good.peak[row])})"
        for row in rows
    )


def _move(good: JudgedImages, left_out: npt.NDArray[np.intp], found: Thresholds, demand: Demand) -> str:
    """Say which rule the other images would have set, with the same scale images."""
    kept = np.ones(len(good.source), np.bool_)
    kept[left_out] = False
    scales = found.sets_scales[kept]
    without = "without it" if len(left_out) == 1 else "without them"
    calibrating = int((~scales).sum())
    if not scales.any() or calibrating <= demand.hidden_defects:
        return f"{without} too few are left"
    try:
        rule = find_rule(
            np.array(good.score)[kept],
            np.array(good.peak)[kept],
            scales,
            rejections=allowed_rejections(calibrating, demand),
            hidden_defects=demand.hidden_defects,
        )
    except InputError:
        return f"{without} no threshold could be set"
    if len(left_out) == 1 and rule == found.rule:
        return "without the first the thresholds stay as they are"
    return f"{'without the first' if len(left_out) == 1 else without} NG would begin at {rule_words(rule)}"


def _previous_finding(good: JudgedImages, previous: CalibrationRecord, rule: Rule) -> Finding:
    rejected = tuple(
        source
        for source, score, peak in zip(good.source, good.score, good.peak, strict=True)
        if rule.is_anomalous(score, peak)
    )
    share = len(rejected) / len(good.source)
    text = (
        f"the calibration before, of {previous.created[:10]}, would reject {len(rejected)} of these "
        f"{len(good.source)} good images"
    )
    promised = previous.promised_overkill
    if promised is not None and len(rejected) > 2 and share > 2 * promised:
        text += (
            f", where it promised at most {100 * promised:.2g} %: parts or pictures are unlike those "
            "of then, or these are not all good"
        )
    return Finding(kind="before", text=text, images=rejected)


def _idle_findings(good: JudgedImages, rule: Rule) -> Iterator[Finding]:
    for name, values, threshold in (
        ("score", good.score, rule.score_threshold),
        ("map peak", good.peak, rule.peak_threshold),
    ):
        if threshold is not None and log_odds(threshold) - log_odds(max(values)) > IDLE:
            text = (
                f"the {name} will practically never decide: its threshold is {threshold_words(threshold)}, and the "
                f"highest good part has {probability(max(values))}; more good images bring the two together"
            )
            yield Finding(kind="idle threshold", text=text, images=())

"""The charts of one category."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from acl_runtime.evaluation.evaluate import CategoryEvaluation, Curve
from acl_runtime.evaluation.overlap import FPR_LIMIT, STEPS
from acl_runtime.report.charts import Line, curves, histogram, threshold_chart
from acl_runtime.scoring.rule import Rule
from acl_runtime.text.percent import percent

NEAR_END = 0.8  # of its axis: a PRO curve that stops before is explained


def category_charts(category: CategoryEvaluation, rule: Rule, *, name: str) -> str:
    """How scores are distributed and what thresholds do, the same for peaks where they decide, and the curves.

    Args:
        category: What was found.
        rule: By which the verdicts were made.
        name: Unique on the page: what the charts' names begin with.
    """
    charts = [*_distributions(category, category.scores, rule.score_threshold, "Score", f"{name}-score")]
    if rule.peak_threshold is not None:
        charts += _distributions(category, category.peaks, rule.peak_threshold, "Map peak", f"{name}-peak")
    charts += _curves(category, rule, name)
    return f'<div class="charts">{"".join(charts)}</div>'


def _distributions(
    category: CategoryEvaluation, values: np.ndarray, threshold: float, what: str, name: str
) -> Iterator[str]:
    defective = category.labels.astype(np.bool_)
    good, bad = values[~defective], values[defective]
    x_title = what.lower()
    title = f"{what}s"
    yield _figure(title, histogram(good, bad, threshold=threshold, title=title, x_title=x_title, name=name))
    title = f"Errors by threshold of the {x_title}"
    chart = threshold_chart(
        good, bad, threshold=threshold, title=title, x_title=f"threshold of the {x_title}", name=f"{name}-at"
    )
    yield _figure(title, chart)


def _curves(category: CategoryEvaluation, rule: Rule, name: str) -> Iterator[str]:
    images = "images, ○ the verdicts" if rule.peak_threshold is None else "score, ○ with peak"
    lines = [
        _line(images, category.image_roc, "good"),
        _line("pixels", category.pixel_roc, "bad"),
    ]
    if roc := [line for line in lines if line is not None]:
        chart = curves(
            roc,
            x_limit=1,
            title="ROC",
            x_title="good ones marked (false positive rate)",
            y_title="% of defective ones marked",
            name=f"{name}-roc",
            point=_rates(category) if category.image_roc is not None else None,
        )
        yield _figure("ROC", chart)
    if (pro := _line("mean overlap with defect regions", category.pro, "third")) is not None:
        chart = curves(
            [pro],
            x_limit=FPR_LIMIT,
            title="PRO",
            x_title="good pixels marked (false positive rate)",
            y_title="% of each region marked",
            name=f"{name}-pro",
        )
        yield _figure("Per-region overlap (PRO)", chart, _why_short(float(pro.x[-1])))


def _line(label: str, curve: Curve | None, style: str) -> Line | None:
    return None if curve is None else Line(label, curve.x, curve.y, style)


def _rates(category: CategoryEvaluation) -> tuple[float, float]:
    """Of the verdicts: the share of the good parts that are rejected, and of the defective ones found."""
    defective = category.labels.astype(np.bool_)
    rejected = category.is_anomalous
    return float(rejected[~defective].mean()), float(rejected[defective].mean())


def _why_short(end: float) -> str:
    """Why a PRO curve stops at the false positive rate `end`; nothing if that is near the end of the axis."""
    if end >= NEAR_END * FPR_LIMIT:
        return ""
    return (
        f"The curve stops at {percent(end)} %: the published definition places {STEPS} thresholds at equal steps of "
        "the maps' values, and where most values are close to 0 or 1 (saturated maps) few thresholds fall in "
        f"between; the next one marks {100 * FPR_LIMIT:g} % of the good pixels or more."
    )


def _figure(title: str, chart: str, note: str = "") -> str:
    below = f'<p class="below">{note}</p>' if note else ""
    return f"<figure><figcaption>{title}</figcaption>{chart}{below}</figure>"

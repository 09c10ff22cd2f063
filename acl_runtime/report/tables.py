"""A report's numbers as HTML: the metrics of each category, and where the time goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from acl_runtime.evaluation.metrics import MEAN, METRICS
from acl_runtime.report.page import to_html
from acl_runtime.text.percent import percent

COLORS = 5  # the style's stage0 to stage4


def metrics_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Eval rows in percent, data set by data set, its mean last."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    ordered = sorted(rows, key=lambda row: (datasets.index(row["dataset"]), row["category"] == MEAN))
    names = ("dataset", "category") if len(datasets) > 1 else ("category",)
    heading = "".join(f'<th class="name">{name.capitalize()}</th>' for name in names)
    heading += "<th>Images</th>" + "".join(f"<th>{title}</th>" for title in METRICS.values())
    body = "\n".join(_metrics_row(row, names) for row in ordered)
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide">{table}</div>'


def timing_chart(timing: Mapping[str, Mapping[str, float]]) -> str:
    """A stacked bar for each way to compute, all to one scale, and the same numbers as a table.

    Args:
        timing: Milliseconds per frame, of each stage, of each way; the first way is what the others are
            compared with.
    """
    _check_timing(timing)
    stages = list(dict.fromkeys(stage for parts in timing.values() for stage in parts))
    totals = {name: sum(parts.values()) for name, parts in timing.items()}
    reference = next(iter(totals))
    bars = []
    for name, parts in timing.items():
        ratio = f"{_ratio(totals[reference] / totals[name])}&times; as fast"
        speed = f"{_ms(totals[name])} per frame, {'the reference' if name == reference else ratio}"
        bars.append(_bar(name, speed, _segments(parts, stages, longest=max(totals.values()))))
    return "\n".join((*bars, _timing_table(timing, stages)))


def _metrics_row(row: Mapping[str, object], names: Sequence[str]) -> str:
    cells = "".join(f'<td class="name">{to_html(str(row[name]))}</td>' for name in names)
    cells += f"<td>{to_html(str(row['images']))}</td>"
    cells += "".join(f"<td>{_percent(row[metric])}</td>" for metric in METRICS)
    return f"<tr{' class=mean' if row['category'] == MEAN else ''}>{cells}</tr>"


def _percent(value: object) -> str:
    if value is None:
        return "&ndash;"
    if not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"metrics must be None or lie in 0..1, got {value!r}")
    return percent(value)


def _check_timing(timing: Mapping[str, Mapping[str, float]]) -> None:
    for name, parts in timing.items():
        if not all(0 <= value < math.inf for value in parts.values()) or sum(parts.values()) <= 0:
            raise ValueError(f"timing must be positive milliseconds, got {dict(parts)} for {name}")


def _bar(name: str, speed: str, segments: str) -> str:
    label = f"<p><strong>{to_html(name)}</strong><span>{speed}</span></p>"
    return f'<div class="bar">{label}<svg role="img" aria-label="{to_html(name)}">{segments}</svg></div>'


def _segments(parts: Mapping[str, float], stages: Sequence[str], *, longest: float) -> str:
    """Rectangles one after another, in percent of the width that the longest bar has."""
    left, segments = 0.0, ""
    for index, stage in enumerate(stages):
        width = 100 * parts.get(stage, 0) / longest
        title = f"<title>{to_html(stage)}: {_ms(parts.get(stage, 0))}</title>"
        place = f'x="{left:.3f}%" width="{width:.3f}%" height="26"'
        segments += f'<rect class="stage{index % COLORS}" {place}>{title}</rect>'
        left += width
    return segments


def _timing_table(timing: Mapping[str, Mapping[str, float]], stages: Sequence[str]) -> str:
    heading = "<th>Stage</th>" + "".join(f"<th>{to_html(name)}</th>" for name in timing)
    body = "\n".join(
        f'<tr><td><span class="swatch stage{index % COLORS}"></span>{to_html(stage)}</td>'
        + "".join(
            f"<td>{_ms(parts[stage]) if stage in parts else '&ndash;'}</td>" for parts in timing.values()
        )
        + "</tr>"
        for index, stage in enumerate(stages)
    )
    totals = "".join(f"<td>{_ms(sum(parts.values()))}</td>" for parts in timing.values())
    table = (
        f"<table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody>"
        f"<tfoot><tr><td>Total</td>{totals}</tr></tfoot></table>"
    )
    return f'<div class="wide">{table}</div>'


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"

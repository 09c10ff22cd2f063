"""Charts as inline SVG: how scores are distributed, what a threshold does, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acl_runtime.report.odds_axis import OddsAxis, fit_axis, to_odds, to_probability
from acl_runtime.report.page import to_html
from acl_runtime.text.percent import percent, probability

WIDTH, HEIGHT = 380, 244  # of a chart, in its own units, which are pixels at its usual size
LEFT, RIGHT, TOP, BOTTOM = 46, 368, 34, 204  # edges of the plot inside it
STEPS = 256  # thresholds of `threshold_chart`: finer than a screen shows

CHART_STYLE = """
:root { --good: #1f6fb2; --bad: #c4541a; --third: #6b5b95; --grid: #e7eaef; }
@media (prefers-color-scheme: dark) { :root { --good: #67b2ee; --bad: #f0934e; --third: #b9a5e8; --grid: #2a313c; } }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 11.5px; fill: var(--pale); font-variant-numeric: tabular-nums; }
.chart .middle { text-anchor: middle; } .chart .end { text-anchor: end; }
.chart .grid { stroke: var(--grid); } .chart .axis { stroke: var(--pale); }
.chart .limit { stroke: var(--ink); stroke-width: 1.5; } .chart .limit-text { fill: var(--ink); }
.chart .good { fill: var(--good); } .chart .bad { fill: var(--bad); } .chart .third { fill: var(--third); }
.chart path { fill: none !important; stroke-width: 2.2; stroke-linejoin: round; }
.chart path.good { stroke: var(--good); } .chart path.bad { stroke: var(--bad); stroke-dasharray: 7 3; }
.chart path.third { stroke: var(--third); }
.chart .point { fill: var(--paper); stroke: var(--ink); stroke-width: 2; }
"""  # the two classes differ by more than colour: above and below the axis, unbroken and dashed
PERCENTS = [(value / 100, str(value)) for value in range(0, 101, 25)]  # ticks


@dataclass(frozen=True)
class Line:
    """A curve of a chart."""

    label: str
    x: np.ndarray  # (P,) ascending
    y: np.ndarray  # (P,) in [0, 1]
    style: str  # "good" and "third" are unbroken, "bad" is dashed


@dataclass(frozen=True)
class _Scale:
    """From values to places on the plot."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def histogram(
    good: np.ndarray, bad: np.ndarray, *, threshold: float, title: str, x_title: str, name: str
) -> str:
    """Good parts above the axis, defective ones below: which share of each has which value, over log-odds.

    Args:
        good: (N,) float in [0, 1], values of the good parts; may be empty.
        bad: (M,) the same of the defective parts.
        threshold: Where a line is drawn.
        title: What is shown.
        x_title: What the values are.
        name: Of the chart, unique on the page, letters, digits and dashes.
    """
    axis = fit_axis([good, bad], threshold)
    counts = [np.histogram(to_odds(values), axis.edges)[0] for values in (good, bad)]
    shares = [count / max(1, count.sum()) for count in counts]
    above, below = (_ceiling(share.max()) for share in shares)
    x, y = _Scale(axis.low, axis.high, LEFT, RIGHT), _Scale(-below, above, BOTTOM, TOP)
    ticks = [(value, f"{100 * abs(value):g}") for value in (-below, 0, above)]
    parts = [*_y_axis(y, ticks, "% of each class"), *_x_axis(x, axis.ticks(), x_title)]
    for style, count, share, sign in zip(("good", "bad"), counts, shares, (1, -1), strict=True):
        parts += _bars(axis, count, [y(height) for height in sign * share], x, y(0), style)
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{y(0):.2f}" y2="{y(0):.2f}"/>')
    parts.append(_limit(x, threshold))
    parts += _legend([(f"{len(good)} good, above", "good"), (f"{len(bad)} defective, below", "bad")])
    told = f"{title}. {_spread('good', good)} {_spread('defective', bad)}"
    return _svg(name, title, told + f" The threshold is {probability(threshold)}.", parts)


def threshold_chart(
    good: np.ndarray, bad: np.ndarray, *, threshold: float, title: str, x_title: str, name: str
) -> str:
    """Which share of the good parts a threshold rejects, and of the defective ones misses, for every threshold.

    Arguments as for `histogram`, to which it has the same x axis.
    """
    axis = fit_axis([good, bad], threshold)
    x, y = _Scale(axis.low, axis.high, LEFT, RIGHT), _Scale(0, 1, BOTTOM, TOP)
    lines = _errors(to_odds(good), to_odds(bad), np.linspace(axis.low, axis.high, STEPS + 1))
    parts = [*_y_axis(y, PERCENTS, "% of each class"), *_x_axis(x, axis.ticks(), x_title)]
    parts += [_path(line, x, y) for line in lines]
    parts.append(_limit(x, threshold))
    parts += _legend([(line.label, line.style) for line in lines])
    here = _errors(good, bad, np.array([threshold]))
    there = ", ".join(f"{line.label} {percent(line.y[0])} %" for line in here)
    return _svg(
        name,
        title,
        f"{title}. The threshold is {probability(threshold)}. There: {there or 'no parts'}.",
        parts,
    )


def curves(
    lines: Sequence[Line],
    *,
    x_limit: float,
    title: str,
    x_title: str,
    y_title: str,
    name: str,
    point: tuple[float, float] | None = None,
) -> str:
    """Curves over 0 to `x_limit`, in percent.

    Args:
        lines: With x in [0, x_limit].
        x_limit: Right end of the x axis.
        title: What is shown.
        x_title: What x is.
        y_title: What y is.
        name: Of the chart, unique on the page, letters, digits and dashes.
        point: x and y of a circle, such as where the rule in use lies.
    """
    x, y = _Scale(0, x_limit, LEFT, RIGHT), _Scale(0, 1, BOTTOM, TOP)
    parts = [*_y_axis(y, PERCENTS, y_title), *_x_axis(x, _tenths(x_limit), x_title)]
    parts += [_path(line, x, y) for line in lines]
    if point is not None:
        parts.append(f'<circle class="point" cx="{x(point[0]):.2f}" cy="{y(point[1]):.2f}" r="4.5"/>')
    parts += _legend([(line.label, line.style) for line in lines])
    told = ". ".join([title, *(line.label for line in lines)])
    here = f" The rule in use: {percent(point[0])} % of x, {percent(point[1])} % of y." if point else ""
    return _svg(name, title, f"{told}.{here}", parts)


def rejected_share(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T,) share of `values` (N,), N > 0, that is at least each of `thresholds` (T,)."""
    below = np.searchsorted(np.sort(values), thresholds, side="left")
    return 1 - below / len(values)


def _errors(good: np.ndarray, bad: np.ndarray, thresholds: np.ndarray) -> list[Line]:
    """The errors of each class that has parts."""
    lines = []
    if len(good):
        lines.append(Line("good rejected", thresholds, rejected_share(good, thresholds), "good"))
    if len(bad):
        lines.append(Line("defective missed", thresholds, 1 - rejected_share(bad, thresholds), "bad"))
    return lines


def _svg(name: str, title: str, description: str, parts: Sequence[str]) -> str:
    heads = (
        f'<title id="{name}-t">{to_html(title)}</title>',
        f'<desc id="{name}-d">{to_html(description)}</desc>',
    )
    opening = (
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-labelledby="{name}-t" aria-describedby="{name}-d">'
    )
    return "\n".join((opening, *heads, *parts, "</svg>"))


def _bars(
    axis: OddsAxis, count: np.ndarray, ends: Sequence[float], x: _Scale, zero: float, style: str
) -> list[str]:
    """From the place `zero` to the bins' `ends`."""
    bars = []
    for index in np.flatnonzero(count).tolist():
        edges = [float(edge) for edge in axis.edges[index : index + 2]]
        left, right = x(edges[0]) + 0.5, x(edges[1]) - 0.5
        top, bottom = sorted((ends[index], zero))
        words = "good" if style == "good" else "defective"
        low, high = (probability(to_probability(edge)) for edge in edges)
        told = f"{count[index]} {words}, {low} to {high}"
        bars.append(
            f'<rect class="{style}" x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" '
            f'height="{bottom - top:.2f}"><title>{told}</title></rect>'
        )
    return bars


def _path(line: Line, x: _Scale, y: _Scale) -> str:
    points = " ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in zip(line.x, line.y, strict=True))
    return f'<path class="{line.style}" d="M{points}"/>'


def _limit(x: _Scale, threshold: float) -> str:
    place = x(float(to_odds(np.array([threshold]))[0]))
    side, away = ("end", -5) if place > (LEFT + RIGHT) / 2 else ("", 5)
    return (
        f'<line class="limit" x1="{place:.2f}" x2="{place:.2f}" y1="{TOP}" y2="{BOTTOM}"/>'
        f'<text class="limit-text {side}" x="{place + away:.2f}" y="{TOP + 11}">{probability(threshold)}</text>'
    )


def _x_axis(x: _Scale, ticks: Sequence[tuple[float, str]], title: str) -> list[str]:
    parts = [f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>']
    parts += [
        f'<text class="middle" x="{x(value):.2f}" y="{BOTTOM + 16}">{label}</text>' for value, label in ticks
    ]
    return [*parts, f'<text class="middle" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}">{to_html(title)}</text>']


def _y_axis(y: _Scale, ticks: Sequence[tuple[float, str]], title: str) -> list[str]:
    parts = []
    for value, label in ticks:
        place = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{place:.2f}" y2="{place:.2f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{place + 4:.2f}">{label}</text>')
    middle = (TOP + BOTTOM) / 2
    turned = f'transform="rotate(-90 11 {middle})"'
    return [*parts, f'<text class="middle" x="11" y="{middle}" {turned}>{to_html(title)}</text>']


def _legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Above the plot, side by side, each in its half."""
    parts = []
    for index, (label, style) in enumerate(entries):
        left = LEFT + index * (RIGHT - LEFT) / 2
        dashes = (0, 9) if style == "bad" else (0,)  # a dashed line has a broken key
        width = 16 / len(dashes) - (len(dashes) - 1)
        parts += [
            f'<rect class="{style} key" x="{left + start:.2f}" y="13" width="{width:.2f}" height="5"/>'
            for start in dashes
        ]
        parts.append(f'<text x="{left + 22:.2f}" y="20">{to_html(label)}</text>')
    return parts


def _tenths(limit: float) -> list[tuple[float, str]]:
    step = 0.2 if limit > 0.5 else 0.1
    return [(step * number, f"{step * number:g}") for number in range(round(limit / step) + 1)]


def _ceiling(share: float) -> float:
    """The next round share, for the end of an axis."""
    return next(limit for limit in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0) if share <= limit)


def _spread(word: str, values: np.ndarray) -> str:
    if not len(values):
        return f"No {word} parts."
    low, middle, high = (probability(float(value)) for value in np.percentile(values, (0, 50, 100)))
    return f"{len(values)} {word} parts from {low} to {high}, half of them up to {middle}."

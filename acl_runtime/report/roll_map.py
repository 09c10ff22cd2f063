"""The map of a roll as inline SVG: across over along, with defects, gaps, lanes and the web's edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from acl_runtime.report.page import to_html
from acl_runtime.report.roll_log import KINDS, Kind, RollLog, kind_of
from acl_runtime.web.account import Lost
from acl_runtime.web.drawn_truth import Box
from acl_runtime.web.records import Defect, Lane, Scale

WIDTH = 1080  # of a panel, in its own units, which are pixels at its usual size
LEFT, RIGHT, TOP, BOTTOM = 64, 1066, 8, 34  # margins around the plot; RIGHT is its right edge
LEAST_HEIGHT, MOST_HEIGHT = 130, 300  # of the plot
MOST_PANELS = 10
PANEL_ASPECT = 12  # web widths that a panel shows, where the roll is no longer than its panels together
RADII = ((1.0, 2.6), (10.0, 4.0), (100.0, 6.0), (math.inf, 8.5))  # area up to so many mm² -> radius of a spot
LEAST_MISSED = 9.0  # units: side of the mark of a defect that was missed
LEAST_GAP = 1.2  # units: a gap is seen however short it is

MAP_STYLE = """
:root { --spot: #c4541a; --along: #1f6fb2; --across: #6b5b95; --flood: #a3211a; --gap: #98a1ae; --web: #fff; }
@media (prefers-color-scheme: dark) { :root { --spot: #f0934e; --along: #67b2ee; --across: #b9a5e8; --flood: #ff9d92;
  --gap: #667080; --web: #20262f; } }
.roll { display: block; width: 100%; height: auto; margin: 14px 0 2px; break-inside: avoid; }
.roll text { font-size: 11.5px; fill: var(--pale); font-variant-numeric: tabular-nums; }
.roll .middle { text-anchor: middle; } .roll .end { text-anchor: end; }
.roll .web { fill: var(--web); stroke: none; } .roll .frame { fill: none; stroke: var(--pale); stroke-width: .8; }
.roll .grid { stroke: var(--line); } .roll .lane { stroke: var(--pale); stroke-dasharray: 5 4; stroke-width: .9; }
.roll .gap { fill: var(--gap); opacity: .75; } .roll .unknown { fill: var(--gap); opacity: .4; }
.roll .spot { fill: var(--spot); fill-opacity: .85; } .roll .along { fill: var(--along); }
.roll .across { fill: var(--across); }
.roll .missed { fill: none; stroke: var(--flood); stroke-width: 1.6; stroke-dasharray: 3 2; }
.roll .flood { fill: var(--flood); } .roll a { cursor: pointer; } .roll .alarm { fill: var(--flood); }
.keys { display: flex; flex-wrap: wrap; gap: 6px 20px; font-size: .85rem; color: var(--pale); margin-top: 10px; }
.keys svg.key { display: inline; width: 22px; height: 16px; vertical-align: -3px; margin: 0 6px 0 0; }
"""


@dataclass(frozen=True)
class _Panel:
    """A stretch of the roll, with the scales of its two axes in units per mm."""

    start_mm: float
    stop_mm: float
    width_mm: float
    height: float  # of the plot, in units

    def x(self, along_mm: float) -> float:
        share = (along_mm - self.start_mm) / (self.stop_mm - self.start_mm)
        return LEFT + min(max(share, 0.0), 1.0) * (RIGHT - LEFT)

    def y(self, across_mm: float) -> float:
        return TOP + min(max(across_mm / self.width_mm, 0.0), 1.0) * self.height

    def shows(self, first_mm: float, stop_mm: float) -> bool:
        if first_mm == stop_mm:
            return self.start_mm <= first_mm <= self.stop_mm
        return first_mm < self.stop_mm and stop_mm > self.start_mm


def roll_map(
    log: RollLog,
    *,
    scale: Scale,
    width: int,
    lanes: Sequence[Lane],
    linked: frozenset[int] = frozenset(),
    missed: Sequence[Box] = (),
) -> str:
    """Draw a roll, cut into panels below each other; the first metre is at the upper left.

    Args:
        log: What happened.
        scale: How large lines and pixels are.
        width: Of a line, in pixels.
        lanes: Drawn where they begin and end, from the web's left edge as it was first.
        linked: Numbers of defects that the page has a section `#d<number>` of.
        missed: Places of known defects that nothing was told of, where somebody knows them.
    """
    length_mm, width_mm = max(log.stop, 1) * scale.mm_per_line, width * scale.mm_per_pixel
    panels = _cut_panels(length_mm, width_mm)
    drawn = [
        _panel(panel, number, log, scale, lanes, linked, missed)
        for number, panel in enumerate(panels, start=1)
    ]
    return "\n".join([*drawn, _keys(log, len(missed))])


def _cut_panels(length_mm: float, width_mm: float) -> list[_Panel]:
    count = min(MOST_PANELS, max(1, math.ceil(length_mm / (PANEL_ASPECT * width_mm))))
    each = length_mm / count
    height = min(max((RIGHT - LEFT) * width_mm / each, LEAST_HEIGHT), MOST_HEIGHT)
    return [_Panel(each * number, each * (number + 1), width_mm, height) for number in range(count)]


def _panel(
    panel: _Panel,
    number: int,
    log: RollLog,
    scale: Scale,
    lanes: Sequence[Lane],
    linked: frozenset[int],
    missed: Sequence[Box],
) -> str:
    parts = [_box(LEFT, TOP, RIGHT - LEFT, panel.height, "unknown"), *_web(panel, log, scale)]
    parts += _axes(panel)
    parts += [line for lost in log.lost if (line := _gap(panel, lost, scale))]
    parts += _lanes(panel, log, lanes, scale)
    parts += [_missed(panel, box, log, scale) for box in missed if panel.shows(box.start, box.stop)]
    parts += [mark for defect in log.defects if (mark := _mark(panel, defect, scale, linked))]
    parts += [
        f'<path class="alarm" d="M{panel.x(alarm.y_mm):.1f},{TOP}l-4,-7h8z">'
        f"<title>{to_html(alarm.rule)}</title></path>"
        for alarm in log.alarms
        if panel.shows(alarm.y_mm, alarm.y_mm)
    ]
    parts.append(_box(LEFT, TOP, RIGHT - LEFT, panel.height, "frame"))
    inside = sum(panel.start_mm <= defect.y_mm < panel.stop_mm for defect in log.defects if defect.part == 1)
    told = f"{panel.start_mm / 1000:.3g} to {panel.stop_mm / 1000:.3g} m of the roll, {inside} defects begin here"
    opening = (
        f'<svg class="roll" role="img" viewBox="0 0 {WIDTH} {panel.height + TOP + BOTTOM:.0f}" '
        f'aria-labelledby="roll{number}-t">'
    )
    return "\n".join((opening, f'<title id="roll{number}-t">{told}</title>', *parts, "</svg>"))


def _web(panel: _Panel, log: RollLog, scale: Scale) -> list[str]:
    """Where the web lay, between its edges."""
    inside = [
        each
        for each in log.edges
        if panel.shows(each.first * scale.mm_per_line, each.stop * scale.mm_per_line)
    ]
    if not inside:
        return []
    shown = [
        (
            panel.x(line * scale.mm_per_line),
            panel.y(each.left * scale.mm_per_pixel),
            panel.y(each.right * scale.mm_per_pixel),
        )
        for each in inside
        for line in (each.first, each.stop)
    ]
    shown = [
        (LEFT, *shown[0][1:]),
        *shown,
        (RIGHT if panel.stop_mm <= log.stop * scale.mm_per_line else shown[-1][0], *shown[-1][1:]),
    ]
    upper = [f"{x:.1f},{top:.1f}" for x, top, _ in shown]
    lower = [f"{x:.1f},{bottom:.1f}" for x, _, bottom in reversed(shown)]
    return [f'<path class="web" d="M{" ".join([*upper, *lower])}z"/>']


def _axes(panel: _Panel) -> list[str]:
    parts = []
    end = TOP + panel.height
    for value in _ticks(panel.start_mm, panel.stop_mm, 8):
        x = panel.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{end:.1f}"/>')
        if x < RIGHT - 30:
            parts.append(f'<text class="middle" x="{x:.1f}" y="{end + 15:.1f}">{value / 1000:g}</text>')
    parts.append(f'<text class="end" x="{RIGHT}" y="{end + 15:.1f}">m</text>')
    for value in _ticks(0, panel.width_mm, 4):
        y = panel.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>')
    middle = TOP + panel.height / 2
    return [
        *parts,
        f'<text class="middle" x="14" y="{middle:.1f}" transform="rotate(-90 14 {middle:.1f})">mm across</text>',
    ]


def _gap(panel: _Panel, lost: Lost, scale: Scale) -> str:
    first, stop = lost.first * scale.mm_per_line, lost.stop * scale.mm_per_line
    if not panel.shows(first, stop):
        return ""
    left, right = panel.x(first), panel.x(stop)
    told = f"{_about(lost)}{lost.stop - lost.first} lines from {first:.1f} mm not judged: {lost.reason}"
    return _box(left, TOP, max(right - left, LEAST_GAP), panel.height, "gap", told)


def _about(lost: Lost) -> str:
    return "about " if lost.estimated else ""


def _lanes(panel: _Panel, log: RollLog, lanes: Sequence[Lane], scale: Scale) -> list[str]:
    edge = log.edges[0].left * scale.mm_per_pixel if log.edges else 0.0
    parts = []
    for lane in lanes:
        for side in (lane.left_mm, lane.right_mm):
            y = panel.y(edge + side)
            parts.append(f'<line class="lane" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        middle = panel.y(edge + (lane.left_mm + lane.right_mm) / 2)
        parts.append(f'<text x="{LEFT + 5}" y="{middle + 4:.1f}">{to_html(lane.name)}</text>')
    return parts


def _mark(panel: _Panel, defect: Defect, scale: Scale, linked: frozenset[int]) -> str:
    stop_mm = defect.y_mm + defect.length_mm
    if not panel.shows(defect.y_mm, stop_mm):
        return ""
    kind = kind_of(defect)
    left, right = panel.x(defect.y_mm), panel.x(stop_mm)
    top, bottom = (panel.y(edge * scale.mm_per_pixel) for edge in (defect.left, defect.right))
    told = (
        f"#{defect.number}: {KINDS[kind]}, {defect.y_mm:.1f} mm along, {defect.x_mm:.1f} mm across, "
        f"{defect.length_mm:.1f} × {defect.width_mm:.1f} mm, {defect.area_mm2:.2f} mm², peak {defect.peak:.2f}"
    )
    x, y = (left + right) / 2, (top + bottom) / 2
    if kind == "spot":
        radius = _radius(defect.area_mm2)
        half = max(radius, (right - left) / 2), max(radius, (bottom - top) / 2)
        drawn = (
            f'<ellipse class="spot" cx="{x:.1f}" cy="{y:.1f}" rx="{half[0]:.1f}" ry="{half[1]:.1f}">'
            f"<title>{told}</title></ellipse>"
        )
    else:
        least = {"along": (9.0, 3.2), "across": (3.2, 12.0), "flood": (6.0, 6.0)}[kind]
        width, height = max(right - left, least[0]), max(bottom - top, least[1])
        drawn = _box(x - width / 2, y - height / 2, width, height, kind, told)
    return f'<a href="#d{defect.number}">{drawn}</a>' if defect.number in linked else drawn


def _missed(panel: _Panel, box: Box, log: RollLog, scale: Scale) -> str:
    edge = log.edges[0].left * scale.mm_per_pixel if log.edges else 0.0
    left, right = panel.x(box.start), panel.x(box.stop)
    top, bottom = panel.y(edge + box.left), panel.y(edge + box.right)
    told = f"missed: {box.stop - box.start:.1f} × {box.right - box.left:.1f} mm at {box.start:.1f} mm along"
    width, height = max(right - left, LEAST_MISSED), max(bottom - top, LEAST_MISSED)
    return _box((left + right - width) / 2, (top + bottom - height) / 2, width, height, "missed", told)


def _radius(area_mm2: float) -> float:
    return next(radius for most, radius in RADII if area_mm2 <= most)


def _box(x: float, y: float, width: float, height: float, style: str, told: str = "") -> str:
    title = f"<title>{to_html(told)}</title>" if told else ""
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{title}</rect>'


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, `most` + 1 at most."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 9) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _keys(log: RollLog, missed: int) -> str:
    """What the marks mean, of those that are there."""
    marks: dict[Kind, str] = {
        "spot": '<circle class="spot" cx="11" cy="8" r="4"/>',
        "along": _box(2, 6, 18, 4, "along"),
        "across": _box(9, 1, 4, 14, "across"),
        "flood": _box(5, 2, 12, 12, "flood"),
    }
    counts = dict.fromkeys(KINDS, 0)
    for defect in log.defects:
        counts[kind_of(defect)] += defect.part == 1
    entries = [(marks[kind], f"{KINDS[kind]}: {count}") for kind, count in counts.items() if count]
    if missed:
        entries.append((_box(6, 3, 10, 10, "missed"), f"drawn and missed: {missed}"))
    if log.lost:
        entries.append((_box(6, 0, 8, 16, "gap"), f"not judged: {len(log.lost)} intervals"))
    if log.alarms:
        entries.append(('<path class="alarm" d="M11,13l-5,-9h10z"/>', f"a rule was met: {len(log.alarms)}"))
    items = [
        f'<span><svg class="roll key" viewBox="0 0 22 16" aria-hidden="true">{mark}</svg>{to_html(text)}</span>'
        for mark, text in entries
    ]
    sizes = "<span>A spot is larger from 1, 10 and 100 mm² on.</span>" if counts["spot"] else ""
    return f'<div class="keys">{"".join(items)}{sizes}</div>'

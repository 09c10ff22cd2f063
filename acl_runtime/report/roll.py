"""The report on a roll: one page with its map, its defects in pictures and numbers, and all that was not judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.inspection.web_files import Roll
from acl_runtime.report.page import facts_list, notes_list, page, section, to_html
from acl_runtime.report.pictures import jpeg_uri
from acl_runtime.report.roll_log import KINDS, RollLog, kind_of
from acl_runtime.report.roll_map import MAP_STYLE, roll_map
from acl_runtime.web.records import Defect, Lane, Scale
from acl_runtime.web.summary import Summary

PAGE = "index.html"
MOST_CARDS = 60  # defects with pictures, those with the highest peaks
MOST_ROWS = 500  # of the table
MOST_GAPS = 200
SIDE = 260  # pixels of a picture's longer edge
QUALITY = 82  # of JPEG

STYLE = """
.defects { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 16px; margin-top: 16px; }
.defects .card { margin: 0; } .defects .card h3 { display: flex; justify-content: space-between; gap: 8px; }
td a { color: var(--accent); }
.defects .card:target { outline: 2px solid var(--accent); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; margin-bottom: 8px; }
.pair img { height: 150px; } .defects p { font-size: .86rem; margin: 0; }
"""


def write_roll_report(log: RollLog, roll: Roll, summary: Summary, *, lanes: Sequence[Lane] = ()) -> Path:
    """Write the page of a roll into the log's folder; one file that needs no other.

    Returns:
        The file.
    """
    path = log.folder / PAGE
    with atomic_file(path) as temporary:
        temporary.write_text(roll_page(log, roll, summary, lanes=lanes), encoding="utf-8")
    return path


def roll_page(log: RollLog, roll: Roll, summary: Summary, *, lanes: Sequence[Lane] = ()) -> str:
    """The page as text; it reads the pictures that the log has saved."""
    scale = Scale(mm_per_line=roll.mm_per_line, mm_per_pixel=roll.mm_per_pixel)
    worst = log.worst(MOST_CARDS)
    linked = frozenset(defect.number for defect in worst)
    drawn = roll_map(log, scale=scale, width=roll.width, lanes=lanes, linked=linked)
    parts = [
        f"<h1>Roll {to_html(roll.name)}</h1>",
        f'<p class="lead">{to_html(_lead(summary))}</p>',
        facts_list(_facts(roll, summary)),
        section("Roll map", _map_words(log), drawn),
    ]
    if log.alarms:
        parts.append(section("Rules that were met", notes_list(_alarm_lines(log))))
    if worst:
        cards = "\n".join(_card(log, defect) for defect in worst)
        parts.append(
            section("Defects in pictures", _card_words(log, worst), f'<div class="defects">{cards}</div>')
        )
        table = _table(log.defects[:MOST_ROWS], linked=linked, lanes=bool(lanes))
        parts.append(section("Defects in numbers", table, _rows_words(log)))
    if log.lost:
        parts.append(section("Not judged", _lost_words(summary), _lost_table(log, scale)))
    parts.append(section("What this rests on", notes_list(_ground(roll))))
    return page(f"Roll {roll.name}", "\n".join(parts), style=MAP_STYLE + STYLE)


def _lead(summary: Summary) -> str:
    share = 100 * summary.judged / summary.exposed if summary.exposed else 0.0
    lost = (
        "; every line was judged"
        if not summary.not_judged
        else f"; {100 - share:.2f} % of the lines were not judged"
    )
    nouns = "defect" if summary.defects == 1 else "defects"
    return f"{summary.defects} {nouns} on {summary.metres:.2f} m{lost}."


def _facts(roll: Roll, summary: Summary) -> list[tuple[str, str]]:
    width_mm = roll.width * roll.mm_per_pixel
    return [
        ("Camera sees", f"{width_mm:.0f} mm across, {roll.width} pixels"),
        ("Passed", f"{summary.metres:.3f} m, {summary.exposed} lines"),
        ("Judged", f"{summary.judged_metres:.3f} m, {summary.judged} lines"),
        ("Defects", str(summary.defects)),
        ("Kept up", f"{100 * summary.kept_up:.1f} % of {summary.seconds:.0f} s"),
        ("Started", roll.started.replace("T", " ").replace("+00:00", " UTC")),
    ]


def _map_words(log: RollLog) -> str:
    words = (
        "The roll's start is at the upper left; along and across have their own scales. Grey was not judged."
    )
    if log.not_kept:
        words += f" {log.not_kept} further defects are in the records and not drawn."
    return f'<p class="pale">{to_html(words)}</p>'


def _alarm_lines(log: RollLog) -> list[str]:
    return [
        f"{alarm.y_mm / 1000:.3f} m: {alarm.rule} ({', '.join(f'#{number}' for number in alarm.numbers[-10:])})"
        for alarm in log.alarms
    ]


def _card_words(log: RollLog, worst: Sequence[Defect]) -> str:
    total = sum(defect.part == 1 for defect in log.defects)
    which = "All of them" if total == len(worst) else f"The {len(worst)} of {total} with the highest peaks"
    return f'<p class="pale">{which}, along the roll; to the right with the map over it.</p>'


def _card(log: RollLog, defect: Defect) -> str:
    file = log.picture(defect)
    shown = [_image(path, defect) for path in (file, file.with_name(f"{file.stem}-map.png"))]
    pictures = f'<div class="pair">{"".join(shown)}</div>' if all(shown) else ""
    lanes = f"; lane {', '.join(defect.lanes)}" if defect.lanes else ""
    words = (
        f"{defect.y_mm / 1000:.4f} m along, {defect.x_mm:.1f} mm across{lanes}. {defect.length_mm:.1f} mm "
        f"long, {defect.width_mm:.1f} mm wide, {defect.area_mm2:.2f} mm². Peak {defect.peak:.3f}, score "
        f"{defect.score:.3f}; NG by its {'score and peak' if defect.decided_by == 'both' else defect.decided_by}."
    )
    heading = f"<h3>#{defect.number}<span class=pale>{KINDS[kind_of(defect)]}</span></h3>"
    return f'<article class="card" id="d{defect.number}">{heading}{pictures}<p>{to_html(words)}</p></article>'


def _image(path: Path, defect: Defect) -> str:
    """A saved picture, enlarged or shrunk; nothing where none was saved."""
    if not path.is_file():
        return ""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"{path}: is no picture any more; name an empty folder for the report")
    scale = SIDE / max(picture.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    fitted = np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
    alt = f"defect {defect.number}{' under its map' if path.stem.endswith('-map') else ''}"
    return f'<figure><img src="{jpeg_uri(fitted, quality=QUALITY)}" alt="{alt}"></figure>'


def _table(defects: Sequence[Defect], *, linked: frozenset[int], lanes: bool) -> str:
    """In their order along; those with a picture lead to it."""
    titles = ("Defect", "m along", "mm across", "mm long", "mm wide", "mm²", "Peak", "Score", "Kind", "Lane")
    rows = []
    for each in sorted(defects, key=lambda defect: (defect.first, defect.left)):
        name = f"#{each.number}" + (f" part {each.part}" if each.part > 1 or each.continues else "")
        link = f'<a href="#d{each.number}">{name}</a>' if each.number in linked else name
        values = (
            f"{each.y_mm / 1000:.4f}",
            f"{each.x_mm:.1f}",
            f"{each.length_mm:.1f}",
            f"{each.width_mm:.1f}",
            f"{each.area_mm2:.2f}",
            f"{each.peak:.3f}",
            f"{each.score:.3f}",
            KINDS[kind_of(each)],
            *([", ".join(each.lanes)] if lanes else []),
        )
        rows.append("".join((f"<td>{link}</td>", *(f"<td>{to_html(value)}</td>" for value in values))))
    return _html_table(titles if lanes else titles[:-1], rows)


def _rows_words(log: RollLog) -> str:
    if len(log.defects) + log.not_kept <= MOST_ROWS:
        return ""
    return f'<p class="pale">The first {MOST_ROWS}; all are in the records.</p>'


def _lost_words(summary: Summary) -> str:
    parts = [f"{count} lines: {reason}" for reason, count in summary.not_judged.items()]
    words = f"Lines that nobody judged are never good: {'; '.join(parts) or 'their number is not known'}."
    return f"<p>{to_html(words)}</p>"


def _lost_table(log: RollLog, scale: Scale) -> str:
    rows = [
        "".join(
            f"<td>{to_html(value)}</td>"
            for value in (
                each.reason,
                f"{each.first * scale.mm_per_line / 1000:.4f}",
                f"{'about ' if each.estimated else ''}{(each.stop - each.first) * scale.mm_per_line:.1f}",
                str(each.stop - each.first),
            )
        )
        for each in log.lost[:MOST_GAPS]
    ]
    table = _html_table(("Reason", "from m", "mm", "Lines"), rows)
    counts = Counter(each.reason for each in log.lost)
    more = (
        ""
        if len(log.lost) <= MOST_GAPS
        else f'<p class="pale">The first {MOST_GAPS} of {counts.total()}.</p>'
    )
    return table + more


def _html_table(titles: Sequence[str], rows: Sequence[str]) -> str:
    heading = "".join(f"<th>{to_html(title)}</th>" for title in titles)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def _ground(roll: Roll) -> list[str]:
    peak = "" if roll.peak_threshold is None else f", or a peak of {roll.peak_threshold:.4f}"
    return [
        f"Source {roll.source}; bundle {roll.bundle}, {roll.checksum[:12]}.",
        f"A line is {roll.mm_per_line:g} mm along, a pixel {roll.mm_per_pixel:g} mm across; tiles of {roll.tile} "
        f"lines, a row every {roll.step} lines.",
        f"A defect begins at a tile's score of {roll.score_threshold:.4f}{peak}; it reaches as far as the map is at "
        f"least {roll.region_threshold:.4f}.",
        f"Thresholds: {roll.promise}",
    ]

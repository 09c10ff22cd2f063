"""Write what was inspected, how well and how fast as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from acl_runtime.contact_sheet import contact_sheet
from acl_runtime.files import atomic_file
from acl_runtime.report_page import page, section
from acl_runtime.report_pictures import Card, Picture, color_bar, draw_panels, jpeg_uri
from acl_runtime.report_tables import metrics_table, timing_chart

__all__ = ["Card", "contact_sheet", "write_report"]

SIDE = 480  # pixels: the longer edge of the pictures, twice what a page shows


def write_report(
    path: Path | str,
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, str]],
    cards: Sequence[Card],
    rows: Sequence[Mapping[str, object]],
    timing: Mapping[str, Mapping[str, float]],
    notes: Sequence[str],
) -> None:
    """Write a report; a part without content is left out. All strings are text, not HTML.

    Args:
        path: HTML file to write, replaced if it is there.
        title: Heading of the page.
        lead: What the page shows, in a sentence or two.
        facts: Names and values, such as the model and the machine.
        cards: Inspected frames, in the order to show them.
        rows: Rows of `metric_rows`: dataset, category, images, and the metrics from 0 to 1 or None.
        timing: Milliseconds per frame of each stage of each way to compute, the reference first.
        notes: What a reader must know to judge the numbers.
    """
    parts = [f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{_facts(facts)}</header>']
    if cards:
        text = f"<p>{escape(_summary(cards))}</p>"
        parts.append(section("Inspected frames", text, _scale(), *(_card(card) for card in cards)))
    if rows:
        text = (
            '<p class="pale">Percent; a dash where a figure is undefined, as pixel figures without masks.</p>'
        )
        parts.append(section("Accuracy", text, metrics_table(rows)))
    if timing:
        parts.append(section("Where the time goes", timing_chart(timing)))
    if notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        parts.append(section("Notes", f'<ul class="notes">{items}</ul>'))
    with atomic_file(path) as temporary:
        temporary.write_text(page(title, "\n".join(parts)), encoding="utf-8")


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>'


def _summary(cards: Sequence[Card]) -> str:
    """What the verdicts below add up to, counted from the cards that have a label."""
    bad = [card.is_anomalous for card in cards if card.label == 1]
    good = [card.is_anomalous for card in cards if card.label == 0]
    known = [f"{sum(bad)} of {len(bad)} defective parts found"] if bad else []
    known += [f"{sum(good)} of {len(good)} good parts rejected"] if good else []
    frames = "1 frame" if len(cards) == 1 else f"{len(cards)} frames"
    return f"{frames} shown: {', '.join(known)}." if known else f"{frames} shown, without known labels."


def _scale() -> str:
    bar = f'<img src="{jpeg_uri(color_bar(512, 16))}" alt="colours of the probabilities from 0 to 1">'
    ticks = "<span>0</span><span>probability of a defect</span><span>1</span>"
    note = '<p class="pale">The same colour is the same probability in every map.</p>'
    return f'{note}<figure class="scale">{bar}<figcaption>{ticks}</figcaption></figure>'


def _card(card: Card) -> str:
    panels = draw_panels(card, side=SIDE)
    views = (
        _view(panels.frame, "Input", card.title),
        _view(panels.truth, _truth_caption(card), card.title),
        _view(panels.anomaly_map, f"Anomaly map, peak {card.anomaly_map.max():.2f}", card.title),
        _view(panels.overlay, "Overlay", card.title),
    )
    content = f'<div class="views">{"".join(views)}{_verdict(card)}</div>'
    return f'<article class="card"><h3>{escape(card.title)}</h3>{content}</article>'


def _view(picture: Picture, caption: str, title: str) -> str:
    height, width = picture.shape[:2]
    alt = escape(f"{caption} of {title}")
    image = f'<img src="{jpeg_uri(picture)}" width="{width}" height="{height}" alt="{alt}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _truth_caption(card: Card) -> str:
    if card.label == 0:
        return "Ground truth: good"
    if card.mask is None:
        return "Ground truth: unknown" if card.label is None else "Ground truth: defective, not outlined"
    return "Ground truth, outlined"


def _verdict(card: Card) -> str:
    badge = '<span class="badge ng">NG</span>' if card.is_anomalous else '<span class="badge ok">OK</span>'
    numbers = f"<span>score {card.score:.3f}</span><span>threshold {card.threshold:.3f}</span>"
    return (
        f'<div class="verdict">{badge}{_judgement(card)}{_meter(card)}'
        f'<div class="pale number">{numbers}</div></div>'
    )


def _judgement(card: Card) -> str:
    if card.is_right is None:
        return '<span class="unknown">? not labelled</span>'
    if card.is_right:
        return '<span class="right">&#10003; right</span>'
    return f'<span class="wrong">&#10007; {"missed defect" if card.label else "false alarm"}</span>'


def _meter(card: Card) -> str:
    """The score as a bar from 0 to 1 with a tick at the threshold; the numbers stand below it."""
    tick = f"{100 * card.threshold:.2f}%"
    return (
        '<svg class="meter" aria-hidden="true"><rect class="track" y="4" width="100%" height="8" rx="4"/>'
        f'<rect class="level" y="4" width="{100 * card.score:.2f}%" height="8" rx="4"/>'
        f'<line x1="{tick}" x2="{tick}" y1="0" y2="16"/></svg>'
    )

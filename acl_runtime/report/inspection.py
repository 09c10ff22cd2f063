"""Write what was inspected, how well and how fast as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from acl_runtime.files.atomic import atomic_file
from acl_runtime.report.cards import color_scale, wide_card
from acl_runtime.report.contact_sheet import contact_sheet
from acl_runtime.report.page import facts_list, notes_list, page, section, to_html
from acl_runtime.report.pictures import Card
from acl_runtime.report.tables import metrics_table, timing_chart

__all__ = ["Card", "contact_sheet", "write_report"]


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
        rows: Rows of `DatasetEvaluation.rows`: dataset, category, images, and the metrics from 0 to 1 or None.
        timing: Milliseconds per frame of each stage of each way to compute, the reference first.
        notes: What a reader must know to judge the numbers.
    """
    parts = [
        f'<header><h1>{to_html(title)}</h1><p class="lead">{to_html(lead)}</p>{facts_list(facts)}</header>'
    ]
    if cards:
        text = f"<p>{to_html(_summary(cards))}</p>"
        parts.append(section("Inspected frames", text, color_scale(), *(wide_card(card) for card in cards)))
    if rows:
        text = (
            '<p class="pale">Percent; a dash where a figure is undefined, as pixel figures without masks.</p>'
        )
        parts.append(section("Accuracy", text, metrics_table(rows)))
    if timing:
        parts.append(section("Where the time goes", timing_chart(timing)))
    if notes:
        parts.append(section("Notes", notes_list(notes)))
    with atomic_file(path) as temporary:
        temporary.write_text(page(title, "\n".join(parts)), encoding="utf-8")


def _summary(cards: Sequence[Card]) -> str:
    """What the verdicts below add up to, counted from the cards that have a label."""
    bad = [card.is_anomalous for card in cards if card.label == 1]
    good = [card.is_anomalous for card in cards if card.label == 0]
    known = [f"{sum(bad)} of {len(bad)} defective parts found"] if bad else []
    known += [f"{sum(good)} of {len(good)} good parts rejected"] if good else []
    frames = "1 frame" if len(cards) == 1 else f"{len(cards)} frames"
    return f"{frames} shown: {', '.join(known)}." if known else f"{frames} shown, without known labels."

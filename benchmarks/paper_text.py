"""The paper's tables as Markdown, its own numbers below ours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from acl_runtime.evaluation.metrics import METRICS
from benchmarks.judges import mean
from benchmarks.paper_rows import FULL_SHOT, TABLES, FullShotRow, Row
from benchmarks.paper_speed import Cost
from benchmarks.tables import markdown_table

SHOWN = {"image": ("image_auroc", "image_ap"), "pixel": ("pixel_auroc", "aupro")}
PRINTED = Path(__file__).with_name("paper_tables.json")
METHODS = ("1", "2")  # where the methods' numbers are, industrial and medical


def to_text(
    name: str,
    records: Mapping[str, Sequence[dict[str, Any]]],
    published: Mapping[str, str],
    costs: Mapping[str, Cost],
) -> str:
    """A table of the paper: one of images and one of pixels, the paper's own numbers below ours, then the cost."""
    title, rows = TABLES[name]
    shown: tuple[Row | FullShotRow, ...] = (*rows, *FULL_SHOT) if name == "12" else rows
    called = (
        f"Figure {name[3:]}" if name.startswith("fig") else f"Table {name}" if name.isdigit() else "Beside"
    )
    parts = [f"### {called}: {title}"]
    if records:
        groups = list(dict.fromkeys(record["group"] for found in records.values() for record in found))
        for kind, metrics in SHOWN.items():
            lines = []
            for row in shown:
                lines.append([row.label, *(_cell(records[row.label], group, metrics) for group in groups)])
                if any(group in published for group in groups) and row.printed is not None:
                    cells = [
                        printed_words(name, row.printed, published.get(group), metrics) for group in groups
                    ]
                    lines.append(["printed in the paper", *cells])
            heading = " / ".join(METRICS[metric] for metric in metrics)
            parts.append(f"**{heading}**\n\n{markdown_table([kind, *groups], lines)}")
    if costs:
        parts.append(cost_table(rows, costs))
    return "\n\n".join(parts)


def _cell(records: Sequence[dict[str, Any]], group: str, metrics: Sequence[str]) -> str:
    chosen = [record for record in records if record["group"] == group]
    return " / ".join(_value([record[metric] for record in chosen]) for metric in metrics)


def _value(values: Sequence[float]) -> str:
    """In percent: the mean over seeds, and half the distance of the largest from the least."""
    if math.isnan(values[0]):
        return "-"
    spread = f" ± {50 * (max(values) - min(values)):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def printed_words(table: str, row: str, published: str | None, metrics: Sequence[str]) -> str:
    """What the paper prints in a row of a table on a data set, in percent; of methods where the table is ours."""
    tables = _printed()["tables"]
    places = [table] if table in tables and table not in METHODS else METHODS
    found = (tables[place].get(published, {}).get(row) for place in places)
    values: dict[str, float] = next((each for each in found if each is not None), {})
    return " / ".join("-" if (value := values.get(metric)) is None else f"{value:.1f}" for metric in metrics)


def cost_table(rows: Sequence[Row], costs: Mapping[str, Cost]) -> str:
    """Frames per second over those of plain CLIP, each in the same way of running; the paper's beside."""
    fps = _printed()["fps"]
    lines = []
    for row in rows:
        cost, printed = costs[row.label], fps.get(row.printed)
        lines.append(
            [
                row.label,
                f"{cost.reference_ratio:.2f}",
                f"{cost.exported_ratio:.2f}",
                f"{cost.speed_up:.2f}",
                "-" if cost.giga_flop is None else f"{cost.giga_flop:.1f}",
                f"{cost.image_logits:.0e}",
                f"{cost.anomaly_map:.0e}",
                "-" if printed is None else f"{printed / fps['CLIP']:.2f}",
            ]
        )
    header = ["frames per second", "published steps", "exported", "exported / published", "GFLOP"]
    header += ["log-odds off", "map off", "the paper's"]
    return f"**Frames per second, as multiples of plain CLIP's**\n\n{markdown_table(header, lines)}"


@lru_cache
def _printed() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(PRINTED.read_text(encoding="utf-8"))
    return document

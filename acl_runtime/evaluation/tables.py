"""An evaluation as tables: on the terminal, as Markdown, as CSV and as JSON, the paper's numbers beside ours."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from acl_runtime.evaluation.evaluate import DatasetEvaluation
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.evaluation.rows import (
    KEYS,
    Decisions,
    Row,
    all_decisions,
    compared_rows,
    dataset_notes,
    decisions,
)
from acl_runtime.text.names import printable, table_cell
from acl_runtime.text.percent import counted_share, percent, points
from acl_runtime.text.text_table import left, name_width

COMPARED = tuple(  # the metrics that the paper reports
    metric for metric in METRICS if metric in {"image_auroc", "image_ap", "pixel_auroc", "aupro"}
)
COUNTS = ("good", "rejected", "defective", "missed")  # of `Decisions`
HEADS = {metric: title.split() for metric, title in METRICS.items()}  # "Image", "AUROC"; "AUPRO" alone
VALUE, BESIDE = 7, 6  # columns of "  100.0", and of " +12.3" beside the paper's number
WIDTH = 100  # columns of the widest table, which has all that the paper gives
LONGEST_NAME = 20  # columns of a name in it


def terminal_table(evaluations: Sequence[DatasetEvaluation]) -> str:
    """Metrics in percent, what the verdicts did, and the notes, data set by data set; at most 100 columns.

    Below a row with numbers of the paper's stand those, each with the difference to ours. A data set of one
    category has no row of its mean, which would say the same.
    """
    return "\n\n".join("\n".join(_block(evaluation)) for evaluation in evaluations)


def markdown_table(evaluations: Sequence[DatasetEvaluation]) -> str:
    """The same as `terminal_table`, to paste into a page."""
    return "\n\n".join("\n".join(_markdown(evaluation)) for evaluation in evaluations) + "\n"


def csv_table(evaluations: Sequence[DatasetEvaluation]) -> str:
    """The eval rows with a heading, values 0 to 1, empty where undefined.

    Behind the metrics stand the paper's as `paper_<metric>`, then what the verdicts did, in counts: COUNTS, in the
    row of a mean those of all its categories together.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *(f"paper_{metric}" for metric in COMPARED), *COUNTS])
    for evaluation in evaluations:
        decided = [*decisions(evaluation), all_decisions(evaluation)]
        for row, each in zip(compared_rows(evaluation), decided, strict=True):
            paper = [row.paper.get(metric) for metric in COMPARED]
            names = (table_cell(row.dataset), table_cell(row.category))
            counts = [getattr(each, count) for count in COUNTS]
            writer.writerow([*names, row.images, *row.metrics.values(), *paper, *counts])
    return text.getvalue()


def json_document(
    evaluations: Sequence[DatasetEvaluation], *, settings: Mapping[str, object]
) -> dict[str, Any]:
    """What `acl eval --json` writes.

    Args:
        evaluations: The data sets.
        settings: How they were evaluated, for the record.

    Returns:
        `rows`: an object with the keys KEYS for each category and each mean; `paper`: dataset, category and
        the metrics that the paper gives; `decisions`: dataset, category, good, rejected, defective, missed;
        `settings`; `notes`: dataset and note; `bad_frames`: dataset, source and problem of each image that could
        not be judged. Values are 0 to 1 or None.
    """
    rows = list(_rows(evaluations))
    return {
        "rows": [_names(row) | {"images": row.images} | dict(row.metrics) for row in rows],
        "paper": [_names(row) | dict(row.paper) for row in rows if row.paper],
        "decisions": [asdict(each) for evaluation in evaluations for each in decisions(evaluation)],
        "settings": dict(settings),
        "notes": [
            {"dataset": evaluation.dataset.name, "note": note}
            for evaluation in evaluations
            for note in dataset_notes(evaluation)
        ],
        "bad_frames": [
            {"dataset": evaluation.dataset.name, "source": bad.source, "problem": bad.problem}
            for evaluation in evaluations
            for bad in evaluation.bad
        ],
    }


def json_text(evaluations: Sequence[DatasetEvaluation], *, settings: Mapping[str, object]) -> str:
    """`json_document` as the text of a file."""
    return json.dumps(json_document(evaluations, settings=settings), indent=2, allow_nan=False) + "\n"


def shown_rows(evaluation: DatasetEvaluation) -> list[Row]:
    """The rows for people: of a single category without the mean, which repeats it.

    What the paper has for such a data set as a whole stands beside its category, where it has no more for that.
    """
    *rows, mean = compared_rows(evaluation)
    if len(rows) > 1:
        return [*rows, mean]
    return [replace(row, paper=row.paper or mean.paper) for row in rows]


def _rows(evaluations: Sequence[DatasetEvaluation]) -> Iterator[Row]:
    return (row for evaluation in evaluations for row in compared_rows(evaluation))


def _names(row: Row) -> dict[str, Any]:
    return {"dataset": row.dataset, "category": row.category}


def _block(evaluation: DatasetEvaluation) -> Iterator[str]:
    rows = shown_rows(evaluation)
    compared = [metric for metric in METRICS if any(metric in row.paper for row in rows)]
    width = name_width([row.category for row in rows], least=19 if compared else 8, most=LONGEST_NAME)
    yield printable(evaluation.dataset.name)
    first = [title[0] if len(title) > 1 else "" for title in HEADS.values()]
    second = [title[-1] for title in HEADS.values()]
    for name, images, titles in (("", "", first), ("category", "images", second)):
        yield _line(name, images, titles, [""] * len(titles), width, compared)
    for row in rows:
        if row.is_mean:
            yield "-" * (width + 7 + sum(_width(metric, compared) for metric in METRICS))
        values = [percent(value) for value in row.metrics.values()]
        yield _line(row.category, str(row.images), values, [""] * len(values), width, compared)
        if row.paper:
            paper = [percent(row.paper[metric]) if metric in row.paper else "" for metric in METRICS]
            beside = [points(row.difference(metric)) for metric in METRICS]
            yield _line("  paper, difference", "", paper, beside, width, compared)
    yield ""
    yield from _decision_lines(evaluation, width)
    for number, note in enumerate(dataset_notes(evaluation)):
        yield from [""] * (number == 0)
        yield from textwrap.wrap(f"note: {printable(note)}", WIDTH, subsequent_indent="      ")


def _width(metric: str, compared: Sequence[str]) -> int:
    return VALUE + (BESIDE if metric in compared else 0)


def _line(
    name: str,
    images: str,
    values: Sequence[str],
    beside: Sequence[str],
    width: int,
    compared: Sequence[str],
) -> str:
    line = f"{left(name, width)}{images:>7}"
    for metric, value, difference in zip(METRICS, values, beside, strict=True):
        line += f"{value:>{VALUE}}" + (f"{difference:>{BESIDE}}" if metric in compared else "")
    return line.rstrip()


def _decision_lines(evaluation: DatasetEvaluation, width: int) -> Iterator[str]:
    yield f"{left('verdicts', width)}{'good':>7}{'rejected':>18}{'defective':>12}{'missed':>18}"
    for each in _decisions(evaluation):
        yield (
            f"{left(each.category, width)}{each.good:>7}{counted_share(each.rejected, each.good):>18}"
            f"{each.defective:>12}{counted_share(each.missed, each.defective):>18}"
        )


def _decisions(evaluation: DatasetEvaluation) -> list[Decisions]:
    each = decisions(evaluation)
    return [*each, all_decisions(evaluation)] if len(each) > 1 else each


def _markdown(evaluation: DatasetEvaluation) -> Iterator[str]:
    rows = shown_rows(evaluation)
    yield f"### {_cell(evaluation.dataset.name)}\n"
    yield "| category | images | " + " | ".join(METRICS.values()) + " |"
    yield "|---|--:|" + "--:|" * len(METRICS)
    for row in rows:
        bold = "**" if row.is_mean else ""
        cells = [_cell(row.category), str(row.images), *(percent(value) for value in row.metrics.values())]
        yield "| " + " | ".join(f"{bold}{cell}{bold}" for cell in cells) + " |"
        if row.paper:
            paper = [_paper_cell(row, metric) for metric in METRICS]
            yield "| *paper, difference* | | " + " | ".join(paper) + " |"
    yield "\n| verdicts | good | rejected | defective | missed |"
    yield "|---|--:|--:|--:|--:|"
    for each in _decisions(evaluation):
        yield (
            f"| {_cell(each.category)} | {each.good} | {counted_share(each.rejected, each.good)} | {each.defective} "
            f"| {counted_share(each.missed, each.defective)} |"
        )
    if found := dataset_notes(evaluation):
        yield ""
        yield from (f"- {_cell(note)}" for note in found)


def _paper_cell(row: Row, metric: str) -> str:
    if metric not in row.paper:
        return ""
    return f"{percent(row.paper[metric])} {points(row.difference(metric))}".rstrip()


def _cell(text: str) -> str:
    """Text that Markdown takes as text: its special characters escaped."""
    return "".join(
        "\\" + character if character in "\\`*_{}[]<>#|~&!" else character for character in printable(text)
    )

"""The figures of an evaluation as HTML: a data set's table, and a category's figures beside its charts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acl_runtime.evaluation.evaluate import CategoryEvaluation
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.evaluation.rows import Decisions, Row
from acl_runtime.report.page import to_html
from acl_runtime.text.percent import counted_share, percent, points, probability

DASH = "&ndash;"


def summary_table(rows: Sequence[Row], decided: Sequence[Decisions], links: Sequence[str]) -> str:
    """A data set's rows in percent, below each number the paper's and the difference, where it has one.

    Args:
        rows: Of the categories and, last, where there are several, of their mean.
        decided: What the verdicts did, of each category and, last, of all.
        links: Names of the categories' sections.
    """
    titles = ("Category", "Images", *METRICS.values(), "Good rejected", "Defective missed")
    heading = "".join(
        f"<th{' class=name' if title == 'Category' else ''}>{_unbroken(title)}</th>" for title in titles
    )
    names = ["mean" if row.is_mean else to_html(row.category) for row in rows]
    linked = [f'<a href="#{link}">{name}</a>' for name, link in zip(names, links, strict=False)]
    body = "\n".join(
        _summary_row(row, each, name)
        for row, each, name in zip(rows, decided, [*linked, *names[len(links) :]], strict=True)
    )
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide">{table}</div>'


def category_figures(row: Row, decided: Decisions, category: CategoryEvaluation) -> str:
    """A category's parts, what the verdicts did to them, its metrics, and where a threshold could lie."""
    outcome = (
        f"<dt>Good parts</dt><dd>{decided.good}</dd>"
        f"<dt>rejected (overkill)</dt><dd>{_share(decided.rejected, decided.good)}</dd>"
        f"<dt>Defective parts</dt><dd>{decided.defective}</dd>"
        f"<dt>missed (escapes)</dt><dd>{_share(decided.missed, decided.defective)}</dd>"
    )
    return f'<div class="figures"><dl>{outcome}</dl>{_metrics(row)}{_extremes(category)}</div>'


def _summary_row(row: Row, decided: Decisions, name: str) -> str:
    cells = f'<td class="name">{name}</td><td>{row.images}</td>'
    cells += "".join(f"<td>{_percent(row.metrics[metric])}{_paper(row, metric)}</td>" for metric in METRICS)
    cells += f"<td>{_stacked(decided.rejected, decided.good)}</td>"
    cells += f"<td>{_stacked(decided.missed, decided.defective)}</td>"
    return f"<tr{' class=mean' if row.is_mean else ''}>{cells}</tr>"


def _paper(row: Row, metric: str) -> str:
    if metric not in row.paper:
        return ""
    return f"<small>{_percent(row.paper[metric])} {_points(row.difference(metric))}</small>"


def _metrics(row: Row) -> str:
    columns = ("", "here", "paper", "diff.") if row.paper else ("", "here")
    heading = "".join(f"<th>{title}</th>" for title in columns)
    lines = []
    for metric, title in METRICS.items():
        cells = [f"{_percent(row.metrics[metric])}"]
        if row.paper:
            cells += [_percent(row.paper.get(metric)), _points(row.difference(metric))]
        lines.append(f"<tr><td>{title}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _extremes(category: CategoryEvaluation) -> str:
    """What the score's threshold would have to be for no error of one kind, and what that costs in the other."""
    defective = category.labels.astype(np.bool_)
    good, bad = category.scores[~defective], category.scores[defective]
    if not len(good) or not len(bad):
        return ""
    lowest, highest = float(bad.min()), float(good.max())
    rejected = float((good >= lowest).mean())
    missed = float((bad <= highest).mean())
    return (
        f"<p>By the score alone, a threshold of {probability(lowest)} misses no defect here and rejects "
        f"{percent(rejected)}&nbsp;% of the good parts; one above {probability(highest)} rejects none and misses "
        f"{percent(missed)}&nbsp;% of the defects.</p>"
    )


def _unbroken(title: str) -> str:
    """A heading that breaks at its spaces only."""
    return title.replace("-", "&#8209;")


def _percent(value: float | None) -> str:
    return percent(value, dash=DASH)


def _points(difference: float | None) -> str:
    return points(difference).replace("-", "&minus;")


def _share(count: int, total: int) -> str:
    return counted_share(count, total, dash=DASH).replace(" %", "&nbsp;%")


def _stacked(count: int, total: int) -> str:
    return f"{count} of {total}<small>{percent(count / total)}&nbsp;%</small>" if total else DASH

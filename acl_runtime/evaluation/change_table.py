"""Two evaluations of the same images side by side: what an export, an engine or a setting changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.text.names import printable
from acl_runtime.text.text_table import left, name_width

VALUE = 10  # columns of "  +12.3456"
LONGEST_NAME = 30

MetricRow = Mapping[str, object]  # an eval row: dataset, category, images and METRICS


def change_table(
    rows: Sequence[MetricRow],
    reference_rows: Sequence[MetricRow],
    *,
    score_difference: float,
    map_difference: float,
    names: tuple[str, str] = ("bundle", "torch"),
) -> str:
    """Every metric of both in percent, and the difference in percentage points, at most 100 columns wide.

    Args:
        rows: Eval rows, values 0 to 1 or None.
        reference_rows: Those of the reference: the same data sets, categories and images in the same order.
        score_difference: Largest absolute difference of a score.
        map_difference: Largest absolute difference of a map's value.
        names: What the two are called.
    """
    _check_same(rows, reference_rows)
    labels = [f"  {name}" for name in (*names, "difference")]
    width = name_width([*(str(row["category"]) for row in rows), *labels], least=12, most=LONGEST_NAME)
    lines = []
    for number, (row, reference) in enumerate(zip(rows, reference_rows, strict=True)):
        if number == 0 or row["dataset"] != rows[number - 1]["dataset"]:
            lines += [*[""] * (number > 0), printable(str(row["dataset"])), *_heading(width)]
        lines += _group(row, reference, labels, width)
    return "\n".join([*lines, "", *_worst(rows, reference_rows, score_difference, map_difference)])


def _heading(width: int) -> Iterator[str]:
    titles = [title.split() for title in METRICS.values()]
    first = "".join(f"{title[0] if len(title) > 1 else '':>{VALUE}}" for title in titles)
    yield (" " * width + first).rstrip()
    yield left("category", width) + "".join(f"{title[-1]:>{VALUE}}" for title in titles)


def _group(row: MetricRow, reference: MetricRow, labels: Sequence[str], width: int) -> Iterator[str]:
    ours, theirs = (
        [_value(row, metric) for metric in METRICS],
        [_value(reference, metric) for metric in METRICS],
    )
    difference = [_difference(row, reference, metric) for metric in METRICS]
    yield left(str(row["category"]), width).rstrip()
    for label, values, form in zip(labels, (ours, theirs, difference), (".3f", ".3f", "+.4f"), strict=True):
        cells = "".join(f"{'-' if value is None else format(100 * value, form):>{VALUE}}" for value in values)
        yield left(label, width) + cells


def _worst(
    rows: Sequence[MetricRow], reference_rows: Sequence[MetricRow], score: float, map_value: float
) -> Iterator[str]:
    yield f"largest difference of a score {score:.1e}, of a map {map_value:.1e}"
    found = [
        (abs(difference), f"{METRICS[metric]} of {printable(str(row['category']))}")
        for row, reference in zip(rows, reference_rows, strict=True)
        for metric in METRICS
        if (difference := _difference(row, reference, metric)) is not None
    ]
    if found:
        difference, where = max(found, key=lambda each: each[0])
        yield f"largest difference of a metric {100 * difference:.4f} percentage points" + f" ({where})" * (
            difference > 0
        )


def _difference(row: MetricRow, reference: MetricRow, metric: str) -> float | None:
    ours, theirs = _value(row, metric), _value(reference, metric)
    return None if ours is None or theirs is None else ours - theirs


def _value(row: MetricRow, metric: str) -> float | None:
    value = row[metric]
    return None if value is None else float(str(value))


def _check_same(rows: Sequence[MetricRow], reference_rows: Sequence[MetricRow]) -> None:
    ours, theirs = (
        [(row["dataset"], row["category"], row["images"]) for row in each] for each in (rows, reference_rows)
    )
    if ours != theirs:
        raise ValueError(f"reference_rows must be of the same images as rows {ours}, got {theirs}")

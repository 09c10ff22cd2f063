"""How far the fast resize moves the answers on labelled photographs. `python -m benchmarks.resize_drift BUNDLE DATA...`

The reference is the torch model on frames resized by Pillow; beside it stand the bundle's graph with Pillow's resize,
which is what exporting alone moves, and with the fast one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from acl_export.torch_session import TorchSession
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.data.datasets import read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import evaluate_together
from acl_runtime.evaluation.metrics import METRICS
from benchmarks.judges import metric_differences
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json


@dataclass
class Measured:
    """One resize on one data set.

    Attributes:
        data: Name of the data set.
        resize: "Pillow" or "fast".
        images: How many.
        log_odds: Of every image, the difference from the reference.
        anomaly_map: Largest difference of any pixel, probability.
        verdicts: Images on whose verdict the two disagree.
        metrics: Of `acl eval`, minus the reference's.
    """

    data: str
    resize: str
    images: int = 0
    log_odds: list[float] = field(default_factory=list)
    anomaly_map: float = 0.0
    verdicts: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, verdict: Verdict, reference: Verdict) -> None:
        """Take in the verdicts on one image."""
        off = np.abs(verdict.anomaly_map - reference.anomaly_map)
        self.images += 1
        self.log_odds.append(abs(_log_odds(verdict.score) - _log_odds(reference.score)))
        self.anomaly_map = max(self.anomaly_map, float(off.max()))
        self.verdicts += verdict.is_anomalous != reference.is_anomalous


def measure(bundle: Bundle, data: Path, weights: str | None = None) -> list[Measured]:
    """Judge a data set of one category with both resizes, and with torch."""
    dataset, session = read_dataset(data), TorchSession.of_bundle(bundle, weights)
    pillow = Detector(bundle, provider="cpu", threshold=0.5)
    fast = Detector(bundle, session=pillow.session, threshold=0.5, fast_resize=True)
    rows = [Measured(dataset.name, resize) for resize in ("Pillow", "fast")]

    def compare(verdicts: Sequence[Verdict]) -> None:
        for row, verdict in zip(rows, verdicts[1:], strict=True):
            row.add(verdict, verdicts[0])

    judges = [Detector(bundle, session=session, threshold=0.5), pillow, fast]
    reference, *others = evaluate_together(dataset, judges, compare=compare)
    for row, evaluation in zip(rows, others, strict=True):
        row.metrics = metric_differences(evaluation, reference)
    return rows


def to_table(rows: Sequence[Measured]) -> str:
    """One row per measurement; metrics in points."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    header = ["data", "images", "resize", "log-odds, worst", "median", "map, worst", "other verdicts"]
    return markdown_table(
        [*header, *(METRICS[name] for name in metrics)], [_cells(row, metrics) for row in rows]
    )


def _cells(row: Measured, metrics: Sequence[str]) -> list[str]:
    figures = [f"{100 * row.metrics[name]:+.3f}" if name in row.metrics else "" for name in metrics]
    worst = f"{max(row.log_odds):.1e}", f"{np.median(row.log_odds):.1e}", f"{row.anomaly_map:.1e}"
    return [row.data, str(row.images), row.resize, *worst, str(row.verdicts), *figures]


def _log_odds(score: float) -> float:
    return float(np.log(score) - np.log1p(-score))


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.")],
    data: Annotated[
        list[Path], typer.Argument(help="Labelled images, as acl eval reads them; one category each.")
    ],
    weights: Annotated[
        str | None, typer.Option(help="File that the bundle was exported from, if there was one.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write all figures to this file.")] = None,
) -> None:
    """Measure and print the table."""
    machine = describe_machine()
    rows = [row for folder in data for row in measure(load_bundle(bundle), folder, weights)]
    typer.echo(f"{machine_line(machine)}\n\n{to_table(rows)}")
    write_json(json, {"machine": machine, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    typer.run(main)

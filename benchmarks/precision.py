"""How far each arithmetic moves the answers on labelled photographs. `python -m benchmarks.precision BUNDLE DATA...`

BUNDLE was exported with `--precision fp16`. Each of its graphs is run by ONNX Runtime on the CPU, which computes fp16
in float32 and rounds in between, and by PyTorch, whose products of fp16 numbers are rounded to fp16 as on a GPU. Graphs
of eight bits (`--quantize`) are run by ONNX Runtime alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer

from acl_export.config import Head
from acl_export.graph import OUTPUTS, make_graph
from acl_export.torch_session import TorchSession, load_clip
from acl_runtime.backends.onnx_session import OnnxSession
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Arithmetic
from acl_runtime.data.datasets import read_dataset
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.verdict import Verdict
from acl_runtime.evaluation.evaluate import evaluate_together
from acl_runtime.evaluation.metrics import METRICS
from acl_train.weights import Network
from benchmarks.judges import metric_differences
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json


class RoundingSession:
    """A graph of the bundle as a PyTorch module, with true fp16 rounding."""

    backend, provider = "torch", "CPU"

    def __init__(self, bundle: Bundle, clip: Network, arithmetic: Arithmetic) -> None:
        manifest = bundle.manifest
        self._head = Head(manifest.head)
        self._graph = make_graph(
            clip.visual,
            load_text_embeddings(bundle),
            head=self._head,
            blur_sigma=manifest.blur_sigma,
            temperature=manifest.temperature,
            arithmetic=arithmetic,
        )

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._graph(torch.from_numpy(images))
        return {name: tensor.numpy() for name, tensor in zip(OUTPUTS[self._head], outputs, strict=True)}

    def close(self) -> None:
        """Hold nothing that could be given back."""


@dataclass
class Measured:
    """One arithmetic, run in one way, on one data set.

    Attributes:
        data: Name of the data set.
        arithmetic: Of the graph.
        run_by: What computed.
        images: How many.
        image_logits: Largest difference from torch in float32, log-odds.
        anomaly_map: Largest difference of any pixel, probability.
        metrics: Of `acl eval`, minus torch's.
    """

    data: str
    arithmetic: Arithmetic
    run_by: str
    images: int = 0
    image_logits: float = 0.0
    anomaly_map: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, verdict: Verdict, reference: Verdict) -> None:
        """Take in the verdicts on one image."""
        difference = abs(_log_odds(verdict.score) - _log_odds(reference.score))
        self.images += 1
        self.image_logits = max(self.image_logits, difference)
        self.anomaly_map = max(
            self.anomaly_map, float(np.abs(verdict.anomaly_map - reference.anomaly_map).max())
        )


def measure(
    bundle: Bundle, data: Path, weights: str | None = None, arithmetics: Sequence[Arithmetic] = ()
) -> list[Measured]:
    """Judge a data set with graphs of the bundle, all if none are named, in both ways, and with torch in float32."""
    dataset, clip = read_dataset(data), load_clip(bundle, weights)
    manifest = bundle.manifest
    judges, rows = [Detector(bundle, session=TorchSession.of_bundle(bundle, weights))], []
    for arithmetic in arithmetics or (*manifest.arithmetics(), *manifest.on_request):
        path = bundle.path / manifest.graph_file(arithmetic)
        judges.append(Detector(bundle, session=OnnxSession(path, "cpu")))
        rows.append(Measured(dataset.name, arithmetic, "ONNX Runtime"))
        if arithmetic in manifest.arithmetics():
            judges.append(Detector(bundle, session=RoundingSession(bundle, clip, arithmetic)))
            rows.append(Measured(dataset.name, arithmetic, "PyTorch"))

    def compare(verdicts: Sequence[Verdict]) -> None:
        for row, verdict in zip(rows, verdicts[1:], strict=True):
            row.add(verdict, verdicts[0])

    reference, *others = evaluate_together(dataset, judges, compare=compare)
    for row, evaluation in zip(rows, others, strict=True):
        row.metrics = metric_differences(evaluation, reference)
    return rows


def to_table(rows: Sequence[Measured]) -> str:
    """One row per measurement; metrics in points."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    header = [
        "data",
        "images",
        "arithmetic",
        "run by",
        "log-odds",
        "map",
        *(METRICS[name] for name in metrics),
    ]
    return markdown_table(header, [_cells(row, metrics) for row in rows])


def _cells(row: Measured, metrics: Sequence[str]) -> list[str]:
    figures = [f"{100 * row.metrics[name]:+.3f}" if name in row.metrics else "" for name in metrics]
    worst = (f"{row.image_logits:.1e}", f"{row.anomaly_map:.1e}")
    return [row.data, str(row.images), row.arithmetic, row.run_by, *worst, *figures]


def _log_odds(score: float) -> float:
    return float(np.log(score) - np.log1p(-score))


def main(
    bundle: Annotated[Path, typer.Argument(help="Exported with --precision fp16.")],
    data: Annotated[
        list[Path], typer.Argument(help="Labelled images, as acl eval reads them; one category each.")
    ],
    weights: Annotated[
        str | None, typer.Option(help="File that the bundle was exported from, if there was one.")
    ] = None,
    arithmetics: Annotated[
        str, typer.Option(help="Graphs to run, such as fp16,int8,fp8. [default: all of the bundle]")
    ] = "",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure and print the table."""
    machine = describe_machine()
    chosen = cast("list[Arithmetic]", [each for each in arithmetics.split(",") if each])
    rows = [row for folder in data for row in measure(load_bundle(bundle), folder, weights, chosen)]
    typer.echo(machine_line(machine))
    typer.echo(to_table(rows))
    write_json(json_path, {"machine": machine, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    typer.run(main)

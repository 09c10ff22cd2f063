"""How far graphs of eight bits are from float32 on a shape of CLIP: `python -m benchmarks.eight_bits`.

A stress figure: weights are drawn, the layer norms of every block have a few channels that are twenty times as large
as the others, as trained CLIPs have, and the images are noise. Photographs on trained weights: `benchmarks.precision`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from acl_export.channels import largest_of_channels
from acl_export.config import Head, LowType
from acl_export.graph import make_graph, write_onnx
from acl_export.quantized import write_quantized
from acl_export.weights_file import WeightsFile
from acl_runtime.backends.onnx_session import OnnxSession
from acl_train.clip import VisionTower
from benchmarks.engines import DIMENSION, SHAPES, Shape, make_tower
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

LOW: tuple[LowType, ...] = ("int8", "fp8")
OUTLIERS, FACTOR = 4, 20.0


@dataclass(frozen=True)
class Measured:
    """A graph in ONNX Runtime against PyTorch in float32.

    Attributes:
        shape: Name of the shape.
        arithmetic: Of the graph.
        images: How many.
        image_logits: Largest difference, log-odds.
        map_rms: Root of the mean square of the map's differences, probability.
        anomaly_map: Largest difference of any pixel.
    """

    shape: str
    arithmetic: str
    images: int
    image_logits: float
    map_rms: float
    anomaly_map: float


def draw_weights(tower: VisionTower, width: int) -> VisionTower:
    """Give the tower weights that keep the size of its tokens, and outlier channels; in place."""
    torch.manual_seed(0)
    for name, parameter in tower.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=width**-0.5)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    for block in tower.transformer:
        for norm in (block.ln_1, block.ln_2):
            norm.weight.data[torch.randperm(width)[:OUTLIERS]] = FACTOR
    return tower


def measure(shape: Shape, images: int) -> Iterator[Measured]:
    """Export the shape in fp16, then in eight bits scaled by other images, and run each."""
    tower = draw_weights(make_tower(shape), shape.width)
    text = np.eye(2, DIMENSION, dtype=np.float32)[None]
    size = (2 * images, shape.image_size, shape.image_size, 3)
    drawn = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    samples, judged = drawn[:images], drawn[images:]
    with torch.no_grad():
        exact = make_graph(tower, text, head=Head.map, blur_sigma=4.0)(torch.from_numpy(judged))
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "fp16.onnx"
        network = make_graph(tower, text, head=Head.map, blur_sigma=4.0, arithmetic="fp16")
        write_onnx(network, half, head=Head.map, max_batch=2, weights=WeightsFile(Path(f"{half}.data")))
        del network
        yield _compare(shape, "fp16", half, judged, exact)
        largest = largest_of_channels(half, samples)
        for low in LOW:
            path = Path(folder) / f"{low}.onnx"
            write_quantized(half, path, largest, low)
            yield _compare(shape, low, path, judged, exact)


def _compare(
    shape: Shape, arithmetic: str, path: Path, images: np.ndarray, exact: tuple[torch.Tensor, torch.Tensor]
) -> Measured:
    found = OnnxSession(path, "cpu", threads=1)(images)
    logits, maps = (
        found[name] - array.numpy()
        for name, array in zip(("image_logits", "anomaly_maps"), exact, strict=True)
    )
    rms = float(np.sqrt(np.mean(maps**2)))
    return Measured(
        shape.name, arithmetic, len(images), float(np.abs(logits).max()), rms, float(np.abs(maps).max())
    )


def main(
    shapes: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "l14-336",
    images: Annotated[int, typer.Option(min=1, help="To judge, and as many to scale by.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure and print the table."""
    machine = describe_machine()
    rows = [row for name in shapes.split(",") for row in measure(SHAPES[name], images)]
    typer.echo(machine_line(machine))
    header = ["shape", "arithmetic", "images", "log-odds", "map, rms", "map"]
    cells = [
        [
            row.shape,
            row.arithmetic,
            str(row.images),
            *(f"{figure:.1e}" for figure in (row.image_logits, row.map_rms, row.anomaly_map)),
        ]
        for row in rows
    ]
    typer.echo(markdown_table(header, cells))
    write_json(json_path, {"machine": machine, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    typer.run(main)

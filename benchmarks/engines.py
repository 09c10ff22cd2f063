"""Engines built for shapes of CLIP with random weights: their size, memory, time. `python -m benchmarks.engines`

It needs no GPU: TensorRT-RTX builds without one. Of the full TensorRT on a machine with a GPU: `--library tensorrt`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer

from acl_export.channels import largest_of_channels
from acl_export.config import Head, LowType
from acl_export.graph import make_graph, write_onnx
from acl_export.quantized import write_quantized
from acl_export.weights_file import WeightsFile
from acl_runtime.backends.tensorrt.build import BuildReport, BuildRequest, build_engine
from acl_runtime.backends.tensorrt.library import LibraryName, why_not_in
from acl_runtime.bundle.manifest import QUANTIZED, Arithmetic
from acl_train.clip import Architecture, VisionTower
from acl_train.config import VisionConfig
from benchmarks.machine import describe_machine, machine_line
from benchmarks.plans import read_plan
from benchmarks.tables import markdown_table, write_json

DIMENSION = 512  # of the joint space


@dataclass(frozen=True)
class Shape:
    """A vision tower at an image size."""

    name: str
    width: int
    blocks: int
    patch: int
    image_size: int
    layers: tuple[int, ...]
    vv_from: int

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch) ** 2 + 1


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("b16-224", 768, 12, 16, 224, (6, 12), 6),
        Shape("b16-512", 768, 12, 16, 512, (12,), 6),
        Shape("l14-336", 1024, 24, 14, 336, (24,), 6),
        Shape("l14-518", 1024, 24, 14, 518, (24,), 6),
    )
}


@dataclass(frozen=True)
class Measured:
    """One engine."""

    shape: Shape
    head: Head
    arithmetic: Arithmetic
    max_batch: int
    engine_bytes: int
    report: BuildReport
    products: str  # by type, of TensorRT-RTX


def make_tower(shape: Shape) -> VisionTower:
    """A tower of the shape, its weights drawn; their values matter to no figure here."""
    heads = shape.width // 64
    architecture = Architecture(
        DIMENSION,
        shape.width,
        shape.blocks,
        heads,
        shape.patch,
        shape.image_size // shape.patch,
        77,
        1,
        64,
        1,
        1,
        True,
    )
    tower = VisionTower(architecture, VisionConfig(shape.image_size, shape.layers, shape.vv_from))
    torch.manual_seed(0)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return tower.requires_grad_(False).eval()


def measure(
    shape: Shape, head: Head, arithmetics: Sequence[Arithmetic], batches: Sequence[int], library: LibraryName
) -> Iterator[Measured]:
    """Export the shape's graphs and build each for batches 1 to each of `batches`."""
    tower, text = make_tower(shape), np.eye(2, DIMENSION, dtype=np.float32)[None]
    with tempfile.TemporaryDirectory() as folder:
        plan, log = Path(folder) / "a.engine", Path(folder) / "build.log"
        for arithmetic in arithmetics:
            graph = Path(folder) / f"{arithmetic}.onnx"
            half = Path(folder) / "fp16.onnx"
            written = half if arithmetic in QUANTIZED else graph
            if not written.exists():
                weights = WeightsFile(written.with_name(f"{written.name}.data"), narrow=True)
                steps: Arithmetic = "fp16" if arithmetic in QUANTIZED else arithmetic
                network = make_graph(tower, text, head=head, blur_sigma=4.0, arithmetic=steps)
                write_onnx(network, written, head=head, max_batch=max(batches), weights=weights)
            if arithmetic in QUANTIZED:
                _quantize(half, graph, shape, cast("LowType", arithmetic))
            for batch in batches:
                cards = [each for each in ("8.6", "8.9", "12.0") if not why_not_in(arithmetic, [each])]
                capabilities = tuple(cards) if library == "tensorrt-rtx" else ()
                request = BuildRequest(
                    library=library,
                    graph=graph,
                    plan=plan,
                    max_batch=batch,
                    compute_capabilities=capabilities,
                )
                report = build_engine(request, log=log, progress=lambda what, done, total: None)
                products = read_plan(plan.read_bytes()).words if library == "tensorrt-rtx" else "?"
                yield Measured(shape, head, arithmetic, batch, plan.stat().st_size, report, products)


def _quantize(half: Path, graph: Path, shape: Shape, low: LowType) -> None:
    """Scaled by one drawn image: what the scales are matters to no figure here."""
    image = np.random.default_rng(0).integers(0, 256, (1, shape.image_size, shape.image_size, 3), np.uint8)
    write_quantized(half, graph, largest_of_channels(half, image), low)


def to_table(measured: Sequence[Measured]) -> str:
    """One row per engine; sizes in MB."""
    header = [
        "shape, head",
        "arithmetic",
        "batch",
        "engine",
        "weights",
        "activations",
        "builder",
        "fused attention",
        "products with weights",
        "s",
    ]
    return markdown_table(header, [_cells(one) for one in measured])


def _cells(one: Measured) -> list[str]:
    report = one.report
    return [
        f"{one.shape.name}, {one.head.value}",
        one.arithmetic,
        "1" if one.max_batch == 1 else f"1..{one.max_batch}",
        _megabytes(one.engine_bytes),
        _megabytes(report.weights_bytes),
        _megabytes(report.activation_bytes),
        _megabytes(report.host_bytes),
        "?" if report.fused_attention is None else str(report.fused_attention),
        one.products,
        f"{report.seconds:.0f}",
    ]


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f}" if size < 1e8 else f"{size / 1e6:,.0f}"


def main(
    shapes: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "b16-224",
    arithmetics: Annotated[str, typer.Option(help="Steps of the ladder, int8, fp8.")] = "fp16,fp32",
    batches: Annotated[str, typer.Option(help="Largest batches.")] = "1,8",
    heads: Annotated[str, typer.Option(help="map, embeddings.")] = "map,embeddings",
    library: Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")] = "tensorrt-rtx",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Build engines and print the table."""
    machine = describe_machine()
    measured = []
    for name in shapes.split(","):
        for head in heads.split(","):
            steps = cast("list[Arithmetic]", arithmetics.split(","))
            sizes = [int(batch) for batch in batches.split(",")]
            for one in measure(SHAPES[name], Head(head), steps, sizes, cast("LibraryName", library)):
                measured.append(one)
                typer.echo(_cells(one), err=True)
    typer.echo(machine_line(machine))
    typer.echo(f"{library} {measured[0].report.library_version}")
    typer.echo(to_table(measured))
    write_json(json_path, {"machine": machine, "engines": [asdict(one) for one in measured]})


if __name__ == "__main__":
    typer.run(main)

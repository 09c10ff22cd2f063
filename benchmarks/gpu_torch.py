"""What a card's tensor cores do with the network, in PyTorch, where TensorRT is not. `python -m benchmarks.gpu_torch`

The network of the bundles that `benchmarks.gpu prepare` made, in fp32, TF32, and fp16 with sums in fp32 and in fp16,
eager and compiled. Of each: time of a call with the images on the device, TFLOP/s, the share of what a large product of
matrices reaches on the same card in the same arithmetic, and the difference from torch in float32 on the golden images.
Without a GPU it runs on the CPU, which shows that it works and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from acl_export.config import Head
from acl_export.graph import OUTPUTS, make_graph
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Arithmetic
from acl_train.weights import Network as Backbone
from benchmarks.bundles import SHAPES, bundle_path
from benchmarks.gpu import load_reference
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json

WARM_UP = 3  # uncounted calls; the first of a compiled network compiles
PEAK_SIDE = {"cuda": 8192, "cpu": 512}  # of the matrices whose product is the measure of a device


@dataclass(frozen=True)
class Way:
    """How products are computed.

    Attributes:
        name: In the table.
        arithmetic: Of the network; None for float32.
        dtype: Of the matrices whose product is the measure.
        tf32: Whether float32 is multiplied as TF32.
        sums_in_fp16: Whether products of fp16 may be summed in fp16.
    """

    name: str
    arithmetic: Arithmetic | None
    dtype: torch.dtype
    tf32: bool = False
    sums_in_fp16: bool = False


WAYS = (
    Way("fp32", None, torch.float32),
    Way("tf32", None, torch.float32, tf32=True),
    Way("fp16, sums in fp32", "fp16", torch.half),
    Way("fp16, sums in fp16", "fp16", torch.half, sums_in_fp16=True),
)
MODES = ("eager", "compiled")


@dataclass(frozen=True)
class Row:
    """One way, mode and batch size."""

    way: str
    mode: str
    batch: int
    call_ms: float  # median
    tflops: float  # of products, per second
    share: float  # of what a large product of matrices reaches
    image_logits: float  # largest difference, log-odds
    anomaly_map: float  # probability


class Network:
    """The exported network as a PyTorch module on a device; also a session, for the golden images."""

    backend, provider = "torch", "PyTorch"

    def __init__(
        self, bundle: Bundle, clip: Backbone, arithmetic: Arithmetic | None, *, compiled: bool = False
    ) -> None:
        manifest = bundle.manifest
        self.device = next(clip.parameters()).device
        self._head = Head(manifest.head)
        module = make_graph(
            clip.visual,
            load_text_embeddings(bundle),
            head=self._head,
            blur_sigma=manifest.blur_sigma,
            temperature=manifest.temperature,
            arithmetic=arithmetic,
        ).to(self.device)
        self.run: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = (
            torch.compile(module) if compiled else module
        )

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.run(torch.from_numpy(images).to(self.device))
        return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS[self._head], outputs, strict=True)}

    def close(self) -> None:
        """Hold nothing that could be given back."""


@contextmanager
def products_as(way: Way) -> Iterator[None]:
    """Have CUDA multiply so; on a CPU it changes nothing."""
    matmul = torch.backends.cuda.matmul
    names = ("allow_tf32", "allow_fp16_accumulation", "allow_fp16_reduced_precision_reduction")
    before = {name: getattr(matmul, name) for name in names}
    for name, value in zip(names, (way.tf32, way.sums_in_fp16, way.sums_in_fp16), strict=True):
        setattr(matmul, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(matmul, name, value)


@torch.no_grad()
def measure(
    bundle: Bundle, clip: Backbone, way: Way, mode: str, batches: Sequence[int], *, turns: int
) -> Iterator[Row]:
    """Time the network at each batch size, and compare it on the golden images."""
    network, golden = Network(bundle, clip, way.arithmetic, compiled=mode == "compiled"), GoldenImages(bundle)
    with products_as(way):
        peak = measure_peak(way.dtype, network.device, turns=turns)
        for batch in batches:
            images = torch.from_numpy(golden.images(golden.rows(0, batch))).to(network.device)
            call_s = median_s(partial(network.run, images), network.device, turns=turns)
            found = golden.compare(network, batch=batch, rounds=1)
            rate = count_flops(bundle, clip, images) / call_s
            figures = (1000 * call_s, rate / 1e12, rate / peak, found.image_logits, found.anomaly_map)
            yield Row(way.name, mode, batch, *figures)


def count_flops(bundle: Bundle, clip: Backbone, images: torch.Tensor) -> int:
    """Of all products of the network, whatever they are computed in."""
    counter = FlopCounterMode(display=False)
    with counter:
        Network(bundle, clip, None).run(images)
    return int(counter.get_total_flops())


def measure_peak(dtype: torch.dtype, device: torch.device, *, turns: int) -> float:
    """FLOP/s of a large product of matrices."""
    side = PEAK_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2.0 * side**3 / median_s(lambda: a @ b, device, turns=turns)


def median_s(call: Callable[[], object], device: torch.device, *, turns: int) -> float:
    """Median time of a call, in seconds, until the device is done."""
    times = []
    for turn in range(WARM_UP + turns):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= WARM_UP:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def to_text(rows: Sequence[Row]) -> str:
    """The table."""
    header = ["way", "mode", "batch", "ms a call", "TFLOP/s", "of a product", "log-odds", "map"]
    return markdown_table(header, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    times = (f"{row.call_ms:.2f}", f"{row.tflops:.2f}", f"{row.share:.0%}")
    return [row.way, row.mode, str(row.batch), *times, f"{row.image_logits:.1e}", f"{row.anomaly_map:.1e}"]


def main(
    folder: Annotated[Path, typer.Argument(help="Folder that benchmarks.gpu prepare wrote.")],
    shape: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "tiny",
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8",
    modes: Annotated[str, typer.Option(help="Of eager, compiled.")] = ",".join(MODES),
    turns: Annotated[int, typer.Option(help="Timed calls.")] = 20,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure and print the table."""
    bundle = load_bundle(bundle_path(shape, folder, "--precision", "fp16"))
    clip = load_reference(bundle, shape, folder)
    assert clip is not None
    sizes, rows = [int(size) for size in batches.split(",")], []
    for way in WAYS:
        for mode in modes.split(","):
            for row in measure(bundle, clip, way, mode, sizes, turns=turns):
                typer.echo(f"{row.way}, {row.mode}, {row.batch}", err=True)
                rows.append(row)
    machine, device = describe_machine(), next(clip.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    typer.echo(f"{machine_line(machine)}; {name}\n\n{to_text(rows)}")
    write_json(json_path, {"machine": machine, "gpu": name, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    typer.run(main)

"""All that has to be measured on a GPU: parity, speed against PyTorch, engines, drift. `python -m benchmarks.gpu`

It makes two bundles of the test recipe's weights, fp32 and fp16, of the small network or, with `--shape l14-518`, of
the true ViT-L/14@336 at 518 pixels, and runs them with ONNX Runtime and with engines of TensorRT and TensorRT-RTX, each
beside the published steps in PyTorch on the same device, in turn. What cannot run here is told with the reason. Without
a GPU the same command runs what a CPU can.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from acl_export.torch_session import TorchSession, load_clip
from acl_runtime.backends.onnx_session import CUDA, OnnxSession, available_providers
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
from acl_runtime.backends.tensorrt.library import LIBRARIES, LibraryName, load_library
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.detection.detector import Detector
from acl_runtime.doctor.machine import read_machine
from acl_runtime.evaluation.metric_change import measure_change
from acl_train.clip import CLIP
from acl_train.reference import run_reference
from benchmarks.bundles import SHAPES, export, write_weights
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Pairs, in_turn

FRAME = (480, 640, 3)
NOISY = 1.5  # a 90th percentile of the ratio that is this many times the 10th


class NotHereError(Exception):
    """This machine lacks what a step needs."""


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        what: What computed.
        batch: Frames at once.
        ratio: How many times more frames than PyTorch, one at a time, from camera frame to map.
        spread: 10th and 90th percentile of the ratio over the turns.
        image_logits: Worst difference from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
        note: What went otherwise.
    """

    what: str
    batch: int | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    image_logits: float | None = None
    anomaly_map: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """What is measured, and with what."""

    bundles: dict[str, Bundle]  # by precision
    clip: CLIP  # on the GPU if there is one
    batches: Sequence[int]
    turns: int
    data: Sequence[Path]

    @property
    def has_gpu(self) -> bool:
        """Whether PyTorch sees one."""
        return torch.cuda.is_available()

    def row(self, what: str, detector: Detector, batch: int) -> Row:
        """Parity and speed of a detector at a batch size."""
        bundle, frames = detector.bundle, [draw_frame(seed) for seed in range(batch)]
        text = torch.from_numpy(load_text_embeddings(bundle))
        found = GoldenImages(bundle).compare(detector.session, batch=batch)

        def reference(turn: int) -> None:
            run_reference(self.clip, text, frames[:1], blur_sigma=bundle.manifest.blur_sigma)

        pairs = in_turn(reference, lambda turn: detector.detect(frames), turns=self.turns)
        return Row(what, batch, *_per_frame(pairs, batch), found.image_logits, found.anomaly_map)


def draw_frame(seed: int) -> np.ndarray:
    """A frame of noise, (H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, FRAME, dtype=np.uint8)


def onnx_runtime(bench: Bench, precision: str, provider: str) -> Iterator[Row]:
    """ONNX Runtime at each batch size."""
    if provider != "cpu" and CUDA not in available_providers():
        raise NotHereError("this ONNX Runtime has no CUDA")
    if provider == "cpu" and bench.has_gpu:
        raise NotHereError("PyTorch computes on the GPU; compare with it on a machine without one")
    bundle = bench.bundles[precision]
    detector = Detector(bundle, session=OnnxSession.of_bundle(bundle, provider))
    for batch in bench.batches:
        yield bench.row(f"ONNX Runtime, {provider}, {precision}", detector, batch)


def tensorrt(bench: Bench, name: LibraryName) -> Iterator[Row]:
    """An engine for all batch sizes: built, proven, run."""
    try:
        library = load_library(name)
    except RuntimeError as error:
        raise NotHereError(str(error)) from error
    try:
        cuda = Cuda()
    except RuntimeError as error:
        if not library.is_rtx:
            raise NotHereError(str(error)) from error
        cuda = None
    capabilities = () if cuda else ("8.6", "8.9", "12.0")
    bundle, options = (
        bench.bundles["fp16"],
        EngineOptions(max_batch=max(bench.batches), compute_capabilities=capabilities),
    )
    for attempt in make_engine(bundle, library, cuda, options, progress=lambda *_: None):
        what = f"{name} {library.version}, {attempt.arithmetic}"
        if attempt.engine is None:
            yield Row(what, note=f"refused: {attempt.problem}")
            continue
        record = attempt.engine.record
        fused = "?" if record.fused_attention is None else record.fused_attention
        built = (
            f"{record.bytes / 1e6:.0f} MB in {record.build_seconds:.0f} s, {fused} fused attention kernels"
        )
        yield Row(what, note=f"built, {built}" + ("" if attempt.certificate else "; not run: no GPU"))
        if attempt.certificate:
            with TrtSession(bundle, attempt.engine) as session:
                detector = Detector(bundle, session=session)
                for batch in bench.batches:
                    yield bench.row(what, detector, batch)


def drift(bench: Bench) -> Iterator[Row]:
    """How far ONNX Runtime moves the metrics on labelled images."""
    if not bench.data:
        raise NotHereError("no --data")
    provider = "cuda" if CUDA in available_providers() else "cpu"
    for precision, bundle in bench.bundles.items():
        text = torch.from_numpy(load_text_embeddings(bundle))
        torch_session = TorchSession(bench.clip, text, bundle.manifest)
        found = measure_change(
            Detector(bundle, session=OnnxSession.of_bundle(bundle, provider)),
            Detector(bundle, session=torch_session),
            bench.data,
        )
        points = ", ".join(f"{name} {100 * value:+.3f}" for name, value in found.metrics.items())
        yield Row(f"drift, {provider}, {precision}", note=f"{points} points on {found.images} images")


def run_steps(bench: Bench) -> Iterator[tuple[Row, bool]]:
    """Every row, and whether it is a step that failed."""
    steps: dict[str, Callable[[], Iterator[Row]]] = {
        f"ONNX Runtime, {provider}, {precision}": partial(onnx_runtime, bench, precision, provider)
        for provider in ("cpu", "cuda")
        for precision in bench.bundles
    }
    steps |= {name: partial(tensorrt, bench, name) for name in LIBRARIES}
    steps["drift"] = partial(drift, bench)
    for name, step in steps.items():
        try:
            yield from ((row, False) for row in step())
        except NotHereError as error:
            yield Row(name, note=f"not run: {error}"), False
        except (RuntimeError, ValueError, OSError) as error:
            yield Row(name, note=f"failed: {' '.join(str(error).split())}"), True


def to_text(rows: Sequence[Row]) -> str:
    """A table of what was timed, and a line for all else."""
    header = ["what", "batch", "ratio", "10-90 %", "log-odds", "map", ""]
    table = markdown_table(header, [_cells(row) for row in rows if row.spread is not None])
    return "\n".join([table, "", *(f"- {row.what}: {row.note}" for row in rows if row.note)])


def _per_frame(pairs: Pairs, batch: int) -> tuple[float, tuple[float, float]]:
    low, high = pairs.spread
    return batch * pairs.ratio, (batch * low, batch * high)


def _cells(row: Row) -> list[str]:
    assert row.spread is not None
    low, high = row.spread
    noisy = "noisy" if high > NOISY * low else ""
    worst = (f"{row.image_logits:.1e}", f"{row.anomaly_map:.1e}")
    return [row.what, str(row.batch), f"**{row.ratio:.2f}**", f"{low:.2f}-{high:.2f}", *worst, noisy]


def main(
    shape: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "tiny",
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,2,4,8",
    turns: Annotated[int, typer.Option(help="Timed calls of each side.")] = 50,
    data: Annotated[list[Path] | None, typer.Option(help="Labelled images, for drift.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder to keep bundles in for the next time.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure and print the table; the exit code is 1 if a step failed."""
    machine, seen = describe_machine(), read_machine()
    with contextlib.ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        bundles = {
            precision: export(shape, folder, "--precision", precision) for precision in ("fp32", "fp16")
        }
        weights = write_weights(shape, folder)
        clip = load_clip(bundles["fp32"], str(weights))
        if torch.cuda.is_available():
            clip = clip.to("cuda")
        bench = Bench(bundles, clip, [int(size) for size in batches.split(",")], turns, data or [])
        rows, failed = [], False
        for row, is_failure in run_steps(bench):
            typer.echo(f"{row.what} {row.batch or row.note}", err=True)
            rows.append(row)
            failed |= is_failure
    gpus = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in seen.gpus) or "no GPU"
    typer.echo(f"{machine_line(machine)}; {gpus}, driver {seen.driver or 'none'}")
    typer.echo(f"{shape}, against PyTorch on {next(clip.parameters()).device}, one frame at a time\n")
    typer.echo(to_text(rows))
    write_json(json_path, {"machine": machine, "seen": asdict(seen), "rows": [asdict(row) for row in rows]})
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

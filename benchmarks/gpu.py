"""All that has to be measured on a GPU: parity, speed against PyTorch, engines, drift. `python -m benchmarks.gpu`

`prepare` runs anywhere beforehand and needs PyTorch: it makes bundles of the test recipe's weights, in fp32, in fp16,
and in fp16 for frames of 1080×1920 pixels, of the small network or, with `--shape l14-518`, of the true ViT-L/14@336 at
518 pixels. `measure` runs them with ONNX Runtime and with engines of TensorRT and TensorRT-RTX, and there measures what
each lever of `gpu_levers.py` gains; where PyTorch is installed each beside the published steps on the same device, in
turn, and else by itself. What cannot run here is told with the reason; without a GPU it runs what a CPU can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from acl_runtime.backends.onnx_session import CUDA, OnnxSession, available_providers
from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
from acl_runtime.backends.tensorrt.library import LIBRARIES, Library, LibraryName, load_library
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.detection.detector import Detector
from acl_runtime.doctor.machine import read_machine
from acl_runtime.evaluation.metric_change import measure_change
from benchmarks import gpu_levers
from benchmarks.bundles import SHAPES, bundle_path, export, write_weights
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Clock, in_turn, time_block

if TYPE_CHECKING:
    from acl_train.clip import CLIP

PRECISIONS = ("fp32", "fp16")
FRAME = (480, 640, 3)
FRAME_SIZE = (1080, 1920)  # of the bundle that resizes by itself
FRAMED = ("--precision", "fp16", "--frame-size", "{}x{}".format(*FRAME_SIZE))
NOISY = 1.5  # a 90th percentile of the ratio that is this many times the 10th


class NotHereError(Exception):
    """This machine lacks what a step needs."""


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        what: What computed.
        batch: Frames at once.
        latency_ms: Median time of a call, from camera frames to verdicts.
        ratio: How many times more frames than PyTorch, one at a time, from camera frame to map; None without PyTorch.
        spread: 10th and 90th percentile of the ratio over the turns.
        image_logits: Worst difference from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
        note: What went otherwise.
    """

    what: str
    batch: int | None = None
    latency_ms: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    image_logits: float | None = None
    anomaly_map: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """What is measured, and with what."""

    bundles: dict[str, Bundle]  # by precision
    clip: CLIP | None  # on the GPU if there is one; None without PyTorch
    batches: Sequence[int]
    turns: int
    data: Sequence[Path]
    framed: Bundle | None = None  # takes frames of FRAME_SIZE

    @property
    def has_gpu(self) -> bool:
        """Whether PyTorch computes on one."""
        return self.clip is not None and next(self.clip.parameters()).is_cuda

    def row(self, what: str, detector: Detector, batch: int) -> Row:
        """Parity and speed of a detector at a batch size."""
        bundle, frames = detector.bundle, [draw_frame(seed) for seed in range(batch)]
        found = GoldenImages(bundle).compare(detector.session, batch=batch)

        def ours(turn: int) -> None:
            detector.detect(frames)

        if self.clip is None:
            clocks = time_block(ours, range(self.turns))
            return Row(what, batch, _median_ms(clocks), None, None, found.image_logits, found.anomaly_map)
        pairs = in_turn(reference_on(self.clip, bundle, frames[0]), ours, turns=self.turns)
        low, high = pairs.spread
        latency_ms = 1000 * float(np.median(pairs.ours[:, 0]))
        spread = (batch * low, batch * high)
        return Row(
            what, batch, latency_ms, batch * pairs.ratio, spread, found.image_logits, found.anomaly_map
        )


def reference_on(clip: CLIP, bundle: Bundle, frame: np.ndarray) -> Callable[[int], None]:
    """The published steps in PyTorch on one frame."""
    import torch

    from acl_train.reference import run_reference

    text = torch.from_numpy(load_text_embeddings(bundle))

    def run(turn: int) -> None:
        run_reference(clip, text, [frame], blur_sigma=bundle.manifest.blur_sigma)

    return run


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
    library = _library(name)
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


def levers(bench: Bench, name: LibraryName) -> Iterator[Row]:
    """What each lever gains, see `gpu_levers.py`."""
    library = _library(name)
    try:
        cuda = Cuda()
    except RuntimeError as error:
        raise NotHereError(str(error)) from error
    place = gpu_levers.Place(cuda, library, bench.batches, bench.turns)
    frame = np.random.default_rng(0).integers(0, 256, (*frame_size(bench), 3), dtype=np.uint8)
    for timed in gpu_levers.measure(place, bench.bundles["fp16"], bench.framed, frame):
        yield Row(
            f"{name}, {timed.what}",
            timed.batch,
            timed.latency_ms,
            image_logits=timed.image_logits,
            anomaly_map=timed.anomaly_map,
        )
    cuda.close()


def frame_size(bench: Bench) -> tuple[int, int]:
    """Height and width of the frames that levers are measured with."""
    size = None if bench.framed is None else bench.framed.manifest.frame_size
    return FRAME_SIZE if size is None else size


def _library(name: LibraryName) -> Library:
    try:
        return load_library(name)
    except RuntimeError as error:
        raise NotHereError(str(error)) from error


def drift(bench: Bench) -> Iterator[Row]:
    """How far ONNX Runtime moves the metrics on labelled images."""
    if not bench.data:
        raise NotHereError("no --data")
    if bench.clip is None:
        raise NotHereError("no PyTorch")
    import torch

    from acl_export.torch_session import TorchSession

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
    steps |= {f"{name}, levers": partial(levers, bench, name) for name in LIBRARIES}
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
    header = ["what", "batch", "ms a call", "ratio", "10-90 %", "log-odds", "map", ""]
    table = markdown_table(header, [_cells(row) for row in rows if row.latency_ms is not None])
    return "\n".join([table, "", *(f"- {row.what}: {row.note}" for row in rows if row.note)])


def _median_ms(clocks: Sequence[Clock]) -> float:
    return 1000 * float(np.median([clock.wall_s for clock in clocks]))


def _cells(row: Row) -> list[str]:
    worst = (f"{row.image_logits:.1e}", f"{row.anomaly_map:.1e}")
    start = [row.what, str(row.batch), f"{row.latency_ms:.2f}"]
    if row.spread is None:
        return [*start, "", "", *worst, ""]
    low, high = row.spread
    noisy = "noisy" if high > NOISY * low else ""
    return [*start, f"**{row.ratio:.2f}**", f"{low:.2f}-{high:.2f}", *worst, noisy]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Argument(help="Folder with the bundles.")]
ShapeName = Annotated[str, typer.Option("--shape", help=f"Of {', '.join(SHAPES)}.")]


@app.command()
def prepare(folder: Folder, shape: ShapeName = "tiny") -> None:
    """Write weights and bundles, anywhere, with PyTorch; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        typer.echo(export(shape, folder, "--precision", precision).path)
    typer.echo(export(shape, folder, *FRAMED).path)


@app.command()
def measure(
    folder: Folder,
    shape: ShapeName = "tiny",
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,2,4,8",
    turns: Annotated[int, typer.Option(help="Timed calls of each side.")] = 50,
    data: Annotated[list[Path] | None, typer.Option(help="Labelled images, for drift.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write all figures here.")] = None,
) -> None:
    """Measure on this machine and print the table; the exit code is 1 if a step failed."""
    machine, seen = describe_machine(), read_machine()
    bundles = {
        precision: load_bundle(bundle_path(shape, folder, "--precision", precision))
        for precision in PRECISIONS
    }
    framed = bundle_path(shape, folder, *FRAMED)
    clip = load_reference(bundles["fp32"], shape, folder)
    bench = Bench(bundles, clip, [int(size) for size in batches.split(",")], turns, data or [])
    bench = replace(bench, framed=load_bundle(framed) if framed.exists() else None)
    rows, failed = [], False
    for row, is_failure in run_steps(bench):
        typer.echo(f"{row.what} {row.batch or row.note}", err=True)
        rows.append(row)
        failed |= is_failure
    gpus = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in seen.gpus) or "no GPU"
    typer.echo(f"{machine_line(machine)}; {gpus}, driver {seen.driver or 'none'}")
    device = "without PyTorch" if clip is None else f"against PyTorch on {next(clip.parameters()).device}"
    typer.echo(f"{shape}, {device}, one frame at a time\n")
    typer.echo(to_text(rows))
    write_json(json_path, {"machine": machine, "seen": asdict(seen), "rows": [asdict(row) for row in rows]})
    if failed:
        raise typer.Exit(1)


def load_reference(bundle: Bundle, shape: str, folder: Path) -> CLIP | None:
    """The network in PyTorch, on the GPU if there is one; None where PyTorch is not installed."""
    if find_spec("torch") is None:
        return None
    import torch

    from acl_export.torch_session import load_clip

    clip = load_clip(bundle, str(write_weights(shape, folder)))
    return clip.to("cuda") if torch.cuda.is_available() else clip


if __name__ == "__main__":
    app()

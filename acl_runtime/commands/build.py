"""`acl build`: a TensorRT engine on the machine that will run it, and the proof."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.files.errors import BackendError
from acl_runtime.text.terminal import echo, note

if TYPE_CHECKING:
    from acl_runtime.backends.tensorrt.cuda import Cuda
    from acl_runtime.backends.tensorrt.ladder import Attempt
    from acl_runtime.backends.tensorrt.library import Library, LibraryName
    from acl_runtime.bundle.manifest import Arithmetic


class BuildBackend(str, Enum):
    """What builds and later runs the engine."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


LIBRARY_OF: dict[BuildBackend, LibraryName] = {
    BuildBackend.tensorrt: "tensorrt",
    BuildBackend.tensorrt_rtx: "tensorrt-rtx",
}


class First(str, Enum):
    """Where on the precision ladder to begin."""

    fp16 = "fp16"
    accumulate_fp32 = "fp16-accumulate-fp32"
    attention_fp32 = "fp16-attention-fp32"
    attention_split = "fp16-attention-split"
    fp32 = "fp32"


RTX_CAPABILITIES = ("8.6", "8.9", "12.0")  # RTX 30, 40 and 50, where there is no GPU to ask
_TUNING = "Tuning"  # a panel of the help


def build(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    backend: Annotated[
        BuildBackend | None,
        typer.Option(
            help="tensorrt, or tensorrt-rtx for RTX cards of PCs. [default: the TensorRT that is installed]"
        ),
    ] = None,
    batch: Annotated[
        str,
        typer.Option(
            metavar="N|A..B|1,2,4,8",
            help="Number or range of images per call, or several of these, an engine each; speed is optimised for the "
            "largest.",
        ),
    ] = "1",
    compute_capability: Annotated[
        str | None,
        typer.Option(
            metavar="8.6,8.9",
            help="Compute capabilities of the GPUs to build for; tensorrt-rtx only, needs no GPU. [default: the GPU "
            "of this machine]",
        ),
    ] = None,
    device: Annotated[
        int | None, typer.Option(min=0, help="Number of the GPU, from 0 on. [default: 0]", show_default=False)
    ] = None,
    arithmetic: Annotated[
        First | None,
        typer.Option(
            help="Step of the precision ladder to begin with. [default: the bundle's own]",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MB",
            help="Maximum scratch memory per kernel, in MB. [default: no limit]",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=5,
            help="Effort of the builder's search: a higher level builds longer. [default: the library's]",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    weightless: Annotated[
        bool,
        typer.Option(
            "--weightless",
            help="Leave the weights out of the engine; loading reads them from the ONNX file.",
            rich_help_panel=_TUNING,
        ),
    ] = False,
) -> None:
    """Build a TensorRT engine on the machine that will run it, and prove it.

    The bundle's golden images run on the engine at every batch size and are
    compared with PyTorch in fp32. An engine that is off is not kept: the next of
    the bundle's graphs is tried, fp16, then sums in fp32, then attention in fp32,
    then attention that cannot be fused, then fp32. The proof is kept beside the
    engine, and made again when GPU, driver or TensorRT have changed.

    Without a GPU TensorRT-RTX builds too, for RTX 30, 40 and 50 unless told
    otherwise; the proof then waits for the first load.

    For bf16 and int8 on a CPU see acl qualify.
    """
    from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.text.progress import progress_phases

    loaded = load_bundle(bundle)
    sizes = parse_batches(batch)
    if backend is BuildBackend.tensorrt:
        _refuse_without_gpu(device)  # before anybody installs what would not help
    library = _library(backend)
    cuda = _gpu(library, device)
    for fault in _known_faults(library, cuda):
        note(fault)
    options = EngineOptions(
        compute_capabilities=_capabilities(compute_capability, library, cuda),
        workspace_bytes=workspace and workspace << 20,
        optimization_level=optimization_level,
        weightless=weightless,
        first=None if arithmetic is None else arithmetic.value,
    )
    came_to: list[Arithmetic] = []
    for smallest, largest in sizes:
        options = replace(options, min_batch=smallest, max_batch=largest)
        with progress_phases() as progress:
            attempts = make_engine(loaded, library, cuda, options, progress=progress)
        for warning in dict.fromkeys(each for attempt in attempts for each in attempt.warnings):
            note(warning)
        for line in describe(attempts):
            echo(line)
        came_to.append(attempts[-1].arithmetic)
        options = replace(options, first=came_to[-1])
    if came_to[0] != came_to[-1]:
        told = ", ".join(dict.fromkeys(came_to))
        note(f"engines of {told} do not serve together; build them again with --arithmetic {came_to[-1]}")


def parse_batches(text: str) -> list[tuple[int, int]]:
    """`1,4,2` as [(4, 4), (2, 2), (1, 1)], the largest first; see `parse_batch`."""
    sizes = dict.fromkeys(parse_batch(part) for part in text.split(","))
    return sorted(sizes, key=lambda size: (-size[1], size[0]))


def parse_batch(text: str) -> tuple[int, int]:
    """`4` as (4, 4), `1..8` as (1, 8); typer.BadParameter for anything else."""
    first, dots, last = text.partition("..")
    if not first.isdecimal() or (dots and not last.isdecimal()):
        raise typer.BadParameter(f"--batch must be numbers or ranges such as 8, 1..8 or 1,2,4,8, got {text}")
    return int(first), int(last or first)


def describe(attempts: tuple[Attempt, ...]) -> list[str]:
    """What each step of the ladder gave, a line each, and the engine."""
    lines = [_describe(attempt) for attempt in attempts]
    timed = [
        (attempt.arithmetic, attempt.latency_ms) for attempt in attempts if attempt.latency_ms is not None
    ]
    if len(timed) > 1:
        (first, first_ms), (last, last_ms) = timed[0], timed[-1]
        lines.append(f"what it costs: {last} takes {last_ms / first_ms:.2f} times as long as {first}")
    engine = attempts[-1].engine
    if engine is not None:
        record = engine.record
        fused = record.fused_attention
        attention = "" if fused is None else f", {fused} fused attention kernels"
        lines.append(
            f"{engine.path}: {record.bytes / 1e6:.0f} MB, built in {record.build_seconds:.0f} s{attention}"
        )
    return lines


def _describe(attempt: Attempt) -> str:
    if attempt.engine is None:
        return f"{attempt.arithmetic}: refused: {attempt.problem}"
    if attempt.certificate is None:
        return (
            f"{attempt.arithmetic}: built, not proven: no GPU here that it is for; the golden images run at the "
            "first load on one"
        )
    worst = attempt.certificate.worst
    return (
        f"{attempt.arithmetic}: holds at batch 1..{len(attempt.certificate.batches)}: log-odds within "
        f"{worst['image_logits']:.1e}, map within {worst['anomaly_map']:.1e} of torch"
    )


def _library(backend: BuildBackend | None) -> Library:
    from acl_runtime.backends.tensorrt.library import find_library, load_library

    return find_library() if backend is None else load_library(LIBRARY_OF[backend])


def _refuse_without_gpu(device: int | None) -> None:
    """Raise BackendError unless there is a GPU; TensorRT itself need not be there."""
    from acl_runtime.backends.tensorrt.cuda import Cuda

    try:
        Cuda(device or 0).close()
    except BackendError as error:
        raise BackendError(
            f"TensorRT builds on the GPU that will run the engine: {error}; tensorrt-rtx can build without one"
        ) from error


def _gpu(library: Library, device: int | None) -> Cuda | None:
    """The GPU; None, with a note, where TensorRT-RTX can do without and none was named."""
    from acl_runtime.backends.tensorrt.cuda import Cuda

    try:
        return Cuda(device or 0)
    except BackendError as error:
        if not library.is_rtx or device is not None:
            raise
        note(f"no GPU can be used ({error}): the engine is built, and proven at its first load")
        return None


def _capabilities(text: str | None, library: Library, cuda: Cuda | None) -> tuple[str, ...]:
    if text is None:
        return () if cuda is not None or not library.is_rtx else RTX_CAPABILITIES
    if not library.is_rtx:
        raise typer.BadParameter(
            "--compute-capability is for --backend tensorrt-rtx; tensorrt builds for the GPU of this machine"
        )
    return tuple(part.strip() for part in text.split(","))


def _known_faults(library: Library, cuda: Cuda | None) -> list[str]:
    """What is known to be wrong with this TensorRT on this GPU, in sentences."""
    from acl_runtime.doctor.known_bad import known_faults

    capability = cuda.compute_capability if cuda else None
    return [str(fault) for fault in known_faults(library.name, library.version, capability)]

"""`acl bench`: measure how fast a bundle is, and how exact."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backends.choose import LOCAL
from acl_runtime.text.terminal import echo, note
from acl_train import options


class BenchAgainst(str, Enum):
    """What to compare speed with."""

    reference = "reference"


_REFERENCE = "With --against reference"  # a panel of the help


def bench(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    images: Annotated[
        list[str] | None, typer.Argument(help="Images to judge. [default: drawn]", show_default=False)
    ] = None,
    *,
    against: Annotated[
        BenchAgainst | None,
        typer.Option(
            help="Also measure the published pipeline in PyTorch, in turn, and give speeds relative to it."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="File or tag of the weights, if they are not where the export found them.",
            rich_help_panel=_REFERENCE,
        ),
    ] = None,
    untuned: Annotated[
        bool,
        typer.Option(
            "--untuned",
            help="Leave PyTorch its slow default memory allocation.",
            rich_help_panel=_REFERENCE,
        ),
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help=f"Backends to measure, of {', '.join(LOCAL)}. [default: all that this machine has]",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="A,B", help="Numbers of frames per call.")] = "1",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of labelled images, to measure how far each backend moves the AUROC; repeat.",
            rich_help_panel=_REFERENCE,
        ),
    ] = None,
    fast_resize: Annotated[
        bool,
        typer.Option(
            "--fast-resize",
            help="Resize the bundle's frames (not the reference's) several times faster than Pillow and nearly the "
            "same. Needs the extra fast-resize.",
        ),
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0, help="Approximate duration of the measurement, in seconds.")
    ] = 20,
    sustained: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="MINUTES",
            help="Then run the fastest backend so long, in minutes, to see what heat costs.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for all figures; - for stdout.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the table.")] = None,
    plot: Annotated[Path | None, typer.Option(help="File for a picture, .png.")] = None,
) -> None:
    """Measure how fast a bundle is on this machine, and how exact.

    All backends take turns on the same frames. A row has the median and the 95th
    percentile of a frame, frames per second one after the other and with the
    stages overlapped (as acl run works), how many times faster that is than the
    reference, the worst differences from PyTorch on the golden images, the share
    of this CPU's matrix speed, and of a fresh process the memory and the time to
    the first verdict.
    """
    from acl_runtime.bench.candidates import label
    from acl_runtime.bench.measure import sustain
    from acl_runtime.bench.report import draw, to_json, to_markdown, to_text
    from acl_runtime.bench.run import draw_frames, reopen_fastest, run_benchmark
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.files.atomic import atomic_file
    from acl_runtime.images.decode import load_frame
    from acl_runtime.sources.files import list_sources
    from acl_runtime.text.progress import progress_phases

    loaded = load_bundle(bundle)
    batches = options.parse_numbers(batch, "batch") or (1,)
    files = [Path(source.path) for source in list_sources(images or [])]
    frames = [load_frame(file) for file in files] or draw_frames(loaded.manifest.frame_size)
    reference = drift_of = None
    if against is None:
        for option, is_given in (("--data", data), ("--weights", weights), ("--untuned", untuned)):
            if is_given:
                raise typer.BadParameter(
                    f"{option} is for the comparison with PyTorch: add --against reference"
                )
    if against is not None:
        from acl_export.reference_candidate import drift_from, keep_freed_memory, make_reference
        from acl_export.torch_session import load_clip
        from acl_train.device import choose_device

        if not untuned and not keep_freed_memory():
            note("PyTorch's memory allocation cannot be tuned on this system; ratios may flatter the bundle")
        clip = load_clip(loaded, weights).to(choose_device("auto"))
        reference = make_reference(loaded, clip)
        if data:
            drift_of = drift_from(loaded, clip, data)
    with progress_phases() as progress:
        result = run_benchmark(
            loaded,
            backend.split(",") if backend else (),
            batches,
            reference=reference,
            frames=frames,
            files=files,
            drift_of=drift_of,
            fast_resize=fast_resize,
            seconds=seconds,
            progress=progress,
        )
    echo(to_json(result).rstrip() if json == Path("-") else to_text(result))
    written = {json: to_json(result), markdown: to_markdown(result)}
    for path, text in written.items():
        if path not in (None, Path("-")):
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if plot is not None:
        with atomic_file(plot) as temporary:
            draw(result, temporary)
    if sustained is not None:
        with progress_phases() as progress:
            candidate = reopen_fastest(loaded, result)
            speeds = sustain(candidate, frames, seconds=60 * sustained, parts=10, progress=progress)
        tenths = ", ".join(f"{speed:.1f}" for speed in speeds)
        name = label(candidate.backend, candidate.precision, candidate.batch)
        echo(f"{name}, for {sustained:g} minutes, frames/s in each tenth: {tenths}", err=json == Path("-"))

"""The commands of the box: look at frames, say what a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backend import Backend
from acl_runtime.terminal import echo, note_unless_fit


def run(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    source: Annotated[
        list[str], typer.Argument(help="Images, folders, videos, camera numbers.", show_default=False)
    ],
    *,
    json: Annotated[
        Path | None, typer.Option(help="Write one JSON object per frame to this file; - for stdout.")
    ] = None,
    save_maps: Annotated[Path | None, typer.Option(help="Folder for anomaly maps, .npy float32.")] = None,
    save_overlays: Annotated[Path | None, typer.Option(help="Folder for heat maps on frames, .png.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs the graph.")] = Backend.auto,
    provider: Annotated[str, typer.Option(help="Where ONNX Runtime computes: auto, cpu, cuda ...")] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Smallest score of a defect, instead of the bundle's own."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames to look at together.")] = 1,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 when any frame is anomalous.")
    ] = False,
) -> None:
    """Look at every frame and say OK or NG.

    Folders are searched with all folders below them. A file that cannot be read is reported and does not stop
    the run; the exit code is then 1. The JSON file is written anew by each run.
    """
    import time

    from acl_runtime.detector import Detector
    from acl_runtime.frames import list_sources
    from acl_runtime.progress import progress
    from acl_runtime.run import Tally, check_outputs, inspect_sources, json_line, json_writer, text_line

    to_stdout = json == Path("-")
    sources = list_sources(source)
    check_outputs(source, sources, bundle, json=None if to_stdout else json, save_overlays=save_overlays)
    detector = Detector(bundle, backend=backend.value, provider=provider, threshold=threshold)
    note_unless_fit(detector.bundle.manifest.backbone)
    total = None if any(item.is_video for item in sources) else len(sources)
    show = json_line if to_stdout else text_line
    tally, started = Tally(), time.perf_counter()
    results = inspect_sources(
        detector, sources, batch=batch, save_maps=save_maps, save_overlays=save_overlays
    )
    with json_writer(None if to_stdout else json) as write, progress("inspecting", total=total) as advance:
        for result in results:
            tally.add(result)
            write(result)
            echo(show(result))
            advance()
    echo(tally.text(time.perf_counter() - started), err=to_stdout)
    raise typer.Exit(tally.exit_code(fail_on_defect=fail_on_defect))


def info(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Check every file of a bundle and say what it is."""
    from acl_runtime.bundle import load_bundle
    from acl_runtime.info import describe
    from acl_runtime.manifest import manifest_to_json

    loaded = load_bundle(bundle)
    echo(manifest_to_json(loaded.manifest).rstrip() if json else describe(loaded))

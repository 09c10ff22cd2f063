"""`acl run`: look at frames and say OK or NG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import check_order, demonstration_words, open_detector
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.text.terminal import echo, note

if TYPE_CHECKING:
    from acl_runtime.detection.verdict import Result
    from acl_runtime.outputs.text import Tally


def run(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    source: Annotated[
        list[str],
        typer.Argument(help="Images, folders, videos, cameras such as 0 or aravis:NAME.", show_default=False),
    ],
    *,
    json: Annotated[
        Path | None, typer.Option(help="Write one JSON object per frame to this new file; - for stdout.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the JSON file of an earlier run.")] = False,
    save_maps: Annotated[Path | None, typer.Option(help="Folder for anomaly maps, .npy float32.")] = None,
    save_overlays: Annotated[
        Path | None, typer.Option(help="Folder for heat maps on frames, .overlay.png.")
    ] = None,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    fast_resize: options.FastResize = False,
    bits: options.Bits = None,
    exif: options.Exif = False,
    max_megapixels: options.MaxMegapixels = options.MAX_MEGAPIXELS,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    threshold: options.Threshold = None,
    maps: options.MapsOf = options.Maps.all,
    batch: Annotated[
        int, typer.Option(min=1, help="Frames to look at together.", rich_help_panel=options.COMPUTING)
    ] = 1,
    max_latency_ms: Annotated[
        float,
        typer.Option(
            min=0,
            max=3_600_000,
            help="Maximum time in ms that a frame waits for its batch to fill.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = MAX_LATENCY_MS,
    drop: Annotated[
        options.Drop,
        typer.Option(
            help="Frames to drop where they come faster than they are judged: none, or the oldest that waits.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = options.Drop.none,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 when any frame is anomalous.")
    ] = False,
) -> None:
    """Look at every frame and say OK or NG.

    A line holds the verdict, the score, the peak of the map, the margin (distance
    from the other verdict, in log-odds), and the file. Folders are searched with
    all folders below them. What cannot be read, judged or saved is reported and
    does not stop the run; the exit code is then 1.

    SIGTERM ends it: what was read is judged and written. The exit code is 1 where
    files were not looked at.
    """
    import signal
    from contextlib import closing

    from acl_runtime.calibration.monitor import monitor_of
    from acl_runtime.inspection.run import Output, inspect
    from acl_runtime.inspection.watch import stop_signals
    from acl_runtime.outputs.json_lines import JsonLines, json_line
    from acl_runtime.outputs.pictures import check_outputs, open_pictures
    from acl_runtime.outputs.text import HEADER, Tally, text_line
    from acl_runtime.sources.files import list_sources

    file = None if json == Path("-") else json
    if append and file is None:
        raise typer.BadParameter("--append needs --json FILE, to which results are added")
    check_order(bundle, source)
    reading = options.parse_reading(bits, exif, max_megapixels)
    sources = list_sources(source, reading)
    check_outputs(source, sources, bundle, json=file, save_maps=save_maps, save_overlays=save_overlays)
    detector = open_detector(
        context,
        bundle,
        tile=tile,
        overlap=overlap,
        min_defect=min_defect,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        batch=batch,
        threshold=threshold,
        maps=maps.value,
        reading=reading,
    )
    detector.check_batch(batch)
    outputs: list[Output] = [*open_pictures(save_maps, save_overlays)]
    if file is not None:
        outputs.append(JsonLines(file, append=append))
    for output in outputs:
        context.with_resource(closing(output))
    total = None if any(item.is_video for item in sources) else len(sources)
    to_stdout = json is not None and file is None
    if not to_stdout:
        echo(HEADER)
    tally = Tally(warning=demonstration_words(detector.bundle.manifest.backbone))
    with stop_signals([signal.SIGTERM]) as stopped:
        results = inspect(
            sources,
            detector,
            outputs,
            drift=monitor_of(detector),
            batch=batch,
            max_latency_ms=max_latency_ms,
            drop_oldest=drop is options.Drop.oldest,
            stopped=stopped,
        )
        _show(results, tally, json_line if to_stdout else text_line, total=total, close_on_stderr=to_stdout)
        was_stopped = stopped()
    if was_stopped:
        note("stopped by SIGTERM: what was read by then was judged and written")
    code = tally.exit_code(fail_on_defect=fail_on_defect)
    is_whole = not was_stopped or all(item.is_camera for item in sources)
    raise typer.Exit(code if is_whole else code or 1)


def _show(
    results: Iterator[Result],
    tally: Tally,
    line: Callable[[Result], str],
    *,
    total: int | None,
    close_on_stderr: bool = False,
) -> None:
    """Print and count every result as it comes, then say what they add up to."""
    import time

    from acl_runtime.text.progress import progress

    started = time.perf_counter()
    with progress("inspecting", total=total) as advance:
        for result in results:
            tally(result)
            echo(line(result))
            advance()
    echo(tally.text(time.perf_counter() - started), err=close_on_stderr)

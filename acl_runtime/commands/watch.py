"""`acl watch`: judge every image that arrives in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import demonstration_words, open_detector
from acl_runtime.text.terminal import echo

if TYPE_CHECKING:
    from acl_runtime.detection.verdict import Result
    from acl_runtime.sources.files import Source


def watch(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="Folder to watch, with all folders below it.", show_default=False)
    ],
    *,
    json: Annotated[
        Path,
        typer.Option(
            help="File to which one JSON object per frame is appended; FILE.memory beside it says what was judged.",
            show_default=False,
        ),
    ],
    save_maps: Annotated[Path | None, typer.Option(help="Folder for anomaly maps, .npy float32.")] = None,
    save_overlays: Annotated[
        Path | None, typer.Option(help="Folder for heat maps on frames, .overlay.png.")
    ] = None,
    rotate_mb: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Size in megabytes at which the JSON file is moved to FILE.000001, FILE.000002 and so on, and begins "
            "anew.",
            show_default=False,
        ),
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
        int,
        typer.Option(
            min=1,
            help="Number of waiting files to judge together at most.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 1,
) -> None:
    """Judge every image that arrives in a folder, for ever.

    A file is judged a second after its last change, if it can be decoded; one
    that cannot is reported after 30 seconds. Nothing is dropped. A picture saved
    anew under an old name is judged again.

    Start the same command again after a stop, a crash or a power cut: no file is
    lost or judged twice. The JSON file may be moved away at any time, as logrotate
    does; a new one begins. To judge all files again, delete it and FILE.memory.

    Ctrl-C or SIGTERM ends it after the frame in hand; after SIGTERM the exit code
    is 0.
    """
    import time
    from functools import partial

    from acl_runtime.calibration.monitor import monitor_of
    from acl_runtime.inspection.run import inspect
    from acl_runtime.inspection.watch import check_places, watch_folder
    from acl_runtime.outputs.pictures import check_outputs, open_pictures
    from acl_runtime.outputs.text import HEADER, Tally, text_line
    from acl_runtime.sources.files import read_as
    from acl_runtime.text.progress import progress

    if json == Path("-"):
        raise typer.BadParameter("--json needs a file, which remembers what was judged")
    reading = options.parse_reading(bits, exif, max_megapixels)
    check_outputs([folder], [], bundle, json=json, save_maps=save_maps, save_overlays=save_overlays)
    check_places(folder, json, save_overlays)
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
    judge = partial(
        inspect,
        detector=detector,
        outputs=open_pictures(save_maps, save_overlays),
        drift=monitor_of(detector),
        batch=batch,
        max_latency_ms=None,
    )
    busy_s = 0.0  # a watch mostly waits

    def timed(sources: Sequence[Source]) -> Iterator[Result]:
        nonlocal busy_s
        started = time.perf_counter()
        yield from judge(read_as(sources, reading))
        busy_s += time.perf_counter() - started

    tally = Tally(warning=demonstration_words(detector.bundle.manifest.backbone))
    rotate_bytes = None if rotate_mb is None else rotate_mb * 1_000_000
    echo(HEADER)
    with progress("inspecting", total=None) as advance:
        for result in watch_folder(folder, json, timed, batch=batch, rotate_bytes=rotate_bytes):
            tally(result)
            echo(text_line(result))
            advance()
    echo(tally.text(max(busy_s, 1e-9)))

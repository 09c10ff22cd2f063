"""The commands of the box: look at frames, set thresholds, say what a bundle is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.text.terminal import echo, note, note_once, note_unless_fit, shows_blocks

if TYPE_CHECKING:
    from acl_runtime.outputs.text import Result, Tally


def run(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    source: Annotated[
        list[str] | None, typer.Argument(help="Images, folders, videos, camera numbers.", show_default=False)
    ] = None,
    *,
    watch: Annotated[
        Path | None,
        typer.Option(help="Judge every image that arrives in this folder, for ever; needs --json FILE."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write one JSON object per frame to this file; - for stdout.")
    ] = None,
    save_maps: Annotated[Path | None, typer.Option(help="Folder for anomaly maps, .npy float32.")] = None,
    save_overlays: Annotated[Path | None, typer.Option(help="Folder for heat maps on frames, .png.")] = None,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    fast_resize: options.FastResize = False,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    threshold: options.Threshold = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames to look at together.")] = 1,
    max_latency_ms: Annotated[
        float, typer.Option(min=0, help="Longest that a frame waits for others to be looked at with.")
    ] = MAX_LATENCY_MS,
    drop: Annotated[
        options.Drop,
        typer.Option(help="Frames that come faster than they are judged: none, or the oldest that waits."),
    ] = options.Drop.none,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 when any frame is anomalous.")
    ] = False,
) -> None:
    """Look at every frame and say OK or NG.

    A line holds the verdict, the score, the peak of the map, how far it is from
    the other verdict (in log-odds, of score or peak, whichever decides), and the
    file. Folders are
    searched with all folders below them. A file that cannot be read is reported
    and does not stop the run; the exit code is then 1. The JSON file is written
    anew by each run.

    With --watch it is appended to instead, and remembers what was judged: start
    the same command again after a stop, a crash or a power cut, and no file is
    lost or judged twice. SIGTERM ends it with exit code 0.
    """
    from functools import partial

    from acl_runtime.calibration.mismatch import find_doubts
    from acl_runtime.calibration.monitor import monitor_of
    from acl_runtime.detection.detector import Detector
    from acl_runtime.inspection.run import check_outputs, inspect_sources
    from acl_runtime.inspection.watch import watch_folder
    from acl_runtime.outputs.text import json_line, record, text_line
    from acl_runtime.sources.files import list_sources

    if bool(source) == (watch is not None):
        raise typer.BadParameter("give images, folders, videos or cameras, or --watch FOLDER alone")
    file = None if json == Path("-") else json
    if watch is not None and (file is None or fail_on_defect):
        raise typer.BadParameter("--watch needs --json FILE, and excludes --fail-on-defect")
    sources = list_sources(source or [])
    check_outputs(
        source or [str(watch)], sources, bundle, json=file, save_maps=save_maps, save_overlays=save_overlays
    )
    tiling = options.parse_tiling(tile, overlap, min_defect)
    detector = context.with_resource(
        Detector(
            bundle,
            backend=backend.value,
            provider=provider,
            tell=note,
            threshold=threshold,
            tiling=tiling,
            fast_resize=fast_resize,
        )
    )
    note_unless_fit(detector.bundle.manifest.backbone)
    for doubt in find_doubts(detector):
        note(doubt)
    inspect = partial(
        inspect_sources,
        detector,
        batch=batch,
        max_latency_ms=max_latency_ms,
        drop_oldest=drop is options.Drop.oldest,
        save_maps=save_maps,
        save_overlays=save_overlays,
        drift=monitor_of(detector),
        say=note,
        say_once=note_once(),
    )
    if watch is not None and file is not None:
        _show(watch_folder(watch, file, inspect, batch=batch, note=note), text_line, total=None)
        return
    total = None if any(item.is_video for item in sources) else len(sources)
    to_stdout = json is not None and file is None
    show = json_line if to_stdout else text_line
    tally = _show(record(inspect(sources), file), show, total=total, close_on_stderr=to_stdout)
    raise typer.Exit(tally.exit_code(fail_on_defect=fail_on_defect))


def _show(
    results: Iterator[Result],
    line: Callable[[Result], str],
    *,
    total: int | None,
    close_on_stderr: bool = False,
) -> Tally:
    """Print every result as it comes, and what they add up to."""
    import time

    from acl_runtime.outputs.text import Tally
    from acl_runtime.text.progress import progress

    tally, started = Tally(), time.perf_counter()
    with progress("inspecting", total=total) as advance:
        for result in results:
            tally.add(result)
            echo(line(result))
            advance()
    echo(tally.text(time.perf_counter() - started), err=close_on_stderr)
    return tally


def calibrate(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle; it is changed.", show_default=False)],
    good: Annotated[
        list[str] | None,
        typer.Argument(help="Images of good parts, or folders of them.", show_default=False),
    ] = None,
    *,
    max_overkill: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            callback=options.check_share,
            help="Share of good parts that may be rejected at most.",
        ),
    ] = "1%",
    confidence: Annotated[
        str, typer.Option(metavar="SHARE", callback=options.check_share, help="How surely.")
    ] = "95%",
    hidden_defects: Annotated[
        int, typer.Option(min=0, help="How many of the good images may be defective, unnoticed.")
    ] = 0,
    memory: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many of the good images to remember, 8 or more: what is unlike all their patches counts as well "
            "as the text. Needs a bundle exported with --head embeddings.",
        ),
    ] = 0,
    defective: Annotated[
        list[str] | None,
        typer.Option(help="Images of defective parts, to count how many pass; repeat.", show_default=False),
    ] = None,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    fast_resize: options.FastResize = False,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    previous: Annotated[
        bool,
        typer.Option(
            "--previous",
            help="Put the thresholds before the present ones back instead, and the memory of then.",
        ),
    ] = False,
) -> None:
    """Set the thresholds from images of good parts, with a promise of how many good parts they reject.

    Give one image of each part, taken as on the line; defective parts are not
    needed. A part is then NG when its score or the peak of its map reaches a
    threshold. The evidence is kept in the bundle, and the thresholds before too.

    With --memory K, K of the good images are drawn at random and remembered, and
    set no threshold. Each calibration has a memory of its own, or none.
    """
    from acl_runtime.calibration.calibrate import calibrate_bundle, restore_previous
    from acl_runtime.calibration.images import check_only_defective, check_only_good
    from acl_runtime.calibration.report import histogram_lines, report_lines
    from acl_runtime.commands.describe import tiling_words
    from acl_runtime.detection.detector import Detector, bundle_rule
    from acl_runtime.scoring.rule import rule_words
    from acl_runtime.sources.files import list_sources
    from acl_runtime.text.names import shorten
    from acl_runtime.text.progress import progress_phases

    asked = (max_overkill, confidence, hidden_defects, memory, defective, tile, overlap, min_defect)
    is_plain = asked == ("1%", "95%", 0, 0, None, options.TILE, None, None) and not fast_resize
    if previous == bool(good) or (previous and not is_plain):
        raise typer.BadParameter("give images of good parts, or --previous alone")
    if previous:
        calibration = restore_previous(bundle)
        words = rule_words(bundle_rule(calibration))
        echo(f"{bundle}: anomalous from {words} again; these thresholds are from: {calibration.source}")
        return
    check_only_good(good or [])
    check_only_defective(defective or [])
    tiling = options.parse_tiling(tile, overlap, min_defect)
    sources, bad = list_sources(good or []), list_sources(defective or [])
    detector = context.with_resource(
        Detector(
            bundle,
            backend=backend.value,
            provider=provider,
            tell=note,
            tiling=tiling,
            fast_resize=fast_resize,
        )
    )
    note_unless_fit(detector.bundle.manifest.backbone)
    folders = list(dict.fromkeys(str(Path(each.path).parent) for each in sources))
    if len(folders) > 1:
        note(f"good parts are taken from {len(folders)} folders: {shorten(folders)}")
    if detector.tiling is not None:
        note(f"frames are {tiling_words(detector.tiling)}")
    with progress_phases() as progress:
        record = calibrate_bundle(
            detector,
            sources,
            defective=bad,
            max_overkill=options.parse_share(max_overkill),
            confidence=options.parse_share(confidence),
            hidden_defects=hidden_defects,
            memory=memory,
            progress=progress,
        )
    for line in (*histogram_lines(record, ascii_only=not shows_blocks()), "", *report_lines(record)):
        echo(line)


def info(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Check every file of a bundle and say what it is."""
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.bundle.manifest import manifest_to_json
    from acl_runtime.commands.describe import describe

    loaded = load_bundle(bundle)
    echo(manifest_to_json(loaded.manifest).rstrip() if json else describe(loaded))

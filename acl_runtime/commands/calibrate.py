"""`acl calibrate`: set thresholds from images of good parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import open_detector
from acl_runtime.text.terminal import echo, note, shows_blocks


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
    from acl_runtime.bundle.words import tiling_words
    from acl_runtime.calibration.calibrate import calibrate_bundle, restore_previous
    from acl_runtime.calibration.images import check_only_defective, check_only_good
    from acl_runtime.calibration.report import histogram_lines, report_lines
    from acl_runtime.scoring.rule import bundle_rule, rule_words
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
    sources, bad = list_sources(good or []), list_sources(defective or [])
    detector = open_detector(
        context,
        bundle,
        tile=tile,
        overlap=overlap,
        min_defect=min_defect,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        says_mismatches=False,
    )
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

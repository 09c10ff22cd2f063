"""`acl calibrate`: set thresholds from images of good parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import check_order, open_detector
from acl_runtime.commands.web import Background, EdgeMargin, FlatField, IgnoreLane, MmPerLine
from acl_runtime.text.terminal import echo, note, shows_blocks

if TYPE_CHECKING:
    from acl_runtime.calibration.record import CalibrationRecord

PROMISE = "The promise"
MEMORY = "A memory of good parts"
METHOD = "Method and machine"
WEB = "A web instead of images"
MOST_UNLABELLED = 256  # frames to remember


def calibrate(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle; it is changed.", show_default=False)],
    good: Annotated[
        list[str] | None,
        typer.Argument(help="Images of good parts, or folders of them.", show_default=False),
    ] = None,
    *,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Good web in the place of images: a line camera, or what stands in for one, as for acl web.",
            rich_help_panel=WEB,
            show_default=False,
        ),
    ] = None,
    segment: Annotated[
        float,
        typer.Option(
            metavar="M", min=0.001, help="Length of web that a promise is about.", rich_help_panel=WEB
        ),
    ] = 1.0,
    length: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            min=0.001,
            help="Metres of good web to judge; as many as the promise needs.",
            rich_help_panel=WEB,
            show_default=False,
        ),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            metavar="MM", help="Size of a pixel across the web.", rich_help_panel=WEB, show_default=False
        ),
    ] = None,
    mm_per_line: MmPerLine = None,
    background: Background = None,
    edge_margin: EdgeMargin = 0.0,
    ignore_lane: IgnoreLane = None,
    flat_field: FlatField = None,
    setting: options.CameraSettings = None,
    defective: Annotated[
        list[str] | None,
        typer.Option(
            help="Images of defective parts, or a folder of them, to count how many would pass; may be repeated.",
            show_default=False,
        ),
    ] = None,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the record of the calibration to this file.", show_default=False
        ),
    ] = None,
    max_overkill: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            callback=options.check_share,
            help="Largest share of good parts that may be rejected.",
            rich_help_panel=PROMISE,
        ),
    ] = "1%",
    confidence: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            callback=options.check_share,
            help="Confidence level of the promise.",
            rich_help_panel=PROMISE,
        ),
    ] = "95%",
    hidden_defects: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of good images that may be defective, unnoticed, without breaking the promise.",
            rich_help_panel=PROMISE,
        ),
    ] = 0,
    memory: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of good images to remember, 8 or more: what is unlike all of them then counts as much as the "
            "text. Needs a bundle exported with --head embeddings.",
            rich_help_panel=MEMORY,
        ),
    ] = 0,
    memory_kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Kind of memory: subspace (mean and leading directions), patches (the nearest of 1,024), place (mean "
            "at each place, for parts in a fixed position), several with + between, or auto: what tells the defective "
            "images, or without them drawn defects, best from the remembered ones.",
            rich_help_panel=MEMORY,
        ),
    ] = "auto",
    merge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECORD",
            help="Memory to add, of the same network: a record (calibrations/0001.json in its bundle) or a bundle; may "
            "be repeated. Its images need not be here.",
            rich_help_panel=MEMORY,
            show_default=False,
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            callback=options.check_share,
            help="The images are frames that nobody looked at, of which at most this share is defective: the promise "
            "then rests on that. Half of them, at most 256, are remembered unless --memory says how many.",
            rich_help_panel=MEMORY,
            show_default=False,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MASK.png|POLYGON",
            help="Parts of a frame that do not count: a picture of the frames' size, white there, or corners in "
            "pixels, '0,0 200,0 200,80'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    fast_resize: options.FastResize = False,
    bits: options.Bits = None,
    exif: options.Exif = False,
    max_megapixels: options.MaxMegapixels = options.MAX_MEGAPIXELS,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    triton: options.Triton = None,
) -> None:
    """Set the thresholds from images of good parts, with a promise of how many good parts they reject.

    Give one image of each part, taken as on the line; defective parts are not
    needed. A part is then NG when its score or the peak of its map reaches a
    threshold. The good images most like a defect are named: look at them. The
    evidence is kept in the bundle; acl restore takes a calibration back.

    With --web, a stretch of good web takes the place of the images, and a segment
    of it that of a part: the promise is per segment and per 100 m.

    With --memory K, K of the good images are drawn at random for the memory,
    and set no threshold. Each calibration has a memory of its own, or none;
    --merge adds others, such as the one before. What a frame shows within
    --ignore changes nothing; each calibration has its own.
    """
    from acl_runtime.bundle.words import tiling_words
    from acl_runtime.calibration.calibrate import calibrate_bundle
    from acl_runtime.calibration.conformal import Demand
    from acl_runtime.calibration.images import check_only_defective, check_only_good
    from acl_runtime.outputs.pictures import check_outputs
    from acl_runtime.sources.files import list_sources
    from acl_runtime.text.names import shorten
    from acl_runtime.text.progress import progress_phases

    demand = Demand(options.parse_share(max_overkill), options.parse_share(confidence), hidden_defects)
    if (web is None) == (not good):
        raise typer.BadParameter("give images of good parts, or --web with a source of good web")
    good = good or []
    if web is not None and (defective or memory or merge or ignore or unlabelled):
        raise typer.BadParameter(
            "--defective, --memory, --merge, --unlabelled and --ignore are for images; leave them out with --web"
        )
    check_order(bundle, good if web is None else [web])
    share = None if unlabelled is None else options.parse_share(unlabelled)
    if share is None:
        check_only_good(good)
    check_only_defective(defective or [])
    reading = options.parse_reading(bits, exif, max_megapixels)
    sources = [] if web is not None else list_sources(good, reading)
    bad = list_sources(defective or [], reading)
    check_outputs(good, [*sources, *bad], bundle, json=json)
    detector = open_detector(
        context,
        bundle,
        tile=tile,
        overlap=overlap,
        min_defect=min_defect,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        triton=triton,
        says_mismatches=False,
    )
    if web is not None:
        from acl_runtime.commands.calibrate_web import calibrate_web

        record = calibrate_web(
            detector,
            web,
            demand,
            mm_per_pixel=mm_per_pixel,
            mm_per_line=mm_per_line,
            segment=segment,
            length=length,
            background=background,
            edge_margin=edge_margin,
            ignored=ignore_lane or [],
            flat_field=flat_field,
            settings=options.parse_camera_settings(setting),
        )
        _show(record, json)
        return
    folders = list(dict.fromkeys(str(Path(each.path).parent) for each in sources))
    if len(folders) > 1:
        note(f"good parts are taken from {len(folders)} folders: {shorten(folders)}")
    if detector.tiling is not None:
        note(f"frames are {tiling_words(detector.tiling)}")
    given = [name for name, is_given in ((f"--bits {bits}", bits), ("--exif", exif)) if is_given]
    if given:
        note(
            f"the thresholds hold for frames that are read with {' '.join(given)}: give it to run, watch and eval too"
        )
    with progress_phases() as progress:
        record = calibrate_bundle(
            detector,
            sources,
            defective=bad,
            max_overkill=demand.max_overkill,
            confidence=demand.confidence,
            hidden_defects=demand.hidden_defects,
            memory=memory or (0 if share is None else min(len(sources) // 2, MOST_UNLABELLED)),
            memory_kind=None if memory_kind == "auto" else memory_kind,
            merged=merge or [],
            ignored=ignore or [],
            unlabelled=share,
            progress=progress,
        )
    _show(record, json)


def _show(record: CalibrationRecord, json: Path | None) -> None:
    from acl_runtime.calibration.record import record_to_json
    from acl_runtime.calibration.report import histogram_lines, report_lines
    from acl_runtime.files.atomic import atomic_file

    for line in (*histogram_lines(record, ascii_only=not shows_blocks()), "", *report_lines(record)):
        echo(line)
    if json is not None:
        with atomic_file(json) as temporary:
            temporary.write_text(record_to_json(record), encoding="utf-8")

"""`acl web`: inspect an endless web that a line camera looks at."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import check_order, open_detector
from acl_runtime.text.terminal import echo, note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from acl_runtime.sources.block import LineSource
    from acl_runtime.web.records import Event, Lane
    from acl_runtime.web.rules import Alarm, Rules
    from acl_runtime.web.settings import WebSettings

WEB = "The web"
CAMERA = "The camera"
RULES = "Rules on defects"
RING_LINES = 16_384  # 0.7 s at 24 kHz; 67 MB of 4096 grey pixels

MmPerPixel = Annotated[
    float,
    typer.Option(
        metavar="MM", help="Size of a pixel across the web.", rich_help_panel=WEB, show_default=False
    ),
]
MmPerLine = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="From a line to the next, as the encoder triggers them; as --mm-per-pixel.",
        rich_help_panel=WEB,
        show_default=False,
    ),
]
FlatField = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Dark and bright reference of acl camera reference, to light all pixels alike.",
        rich_help_panel=CAMERA,
        show_default=False,
    ),
]
EncoderCounts = Annotated[
    float | None,
    typer.Option(
        metavar="COUNTS",
        help="Encoder counts from a line to the next, where the camera sends them: then lines that it could not expose "
        "are known.",
        rich_help_panel=CAMERA,
        show_default=False,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="LOW-HIGH",
        help="Grey levels of what is seen beside the web, such as 0-30: then its edges are tracked, and a web that is "
        "away is told.",
        rich_help_panel=WEB,
        show_default=False,
    ),
]
EdgeMargin = Annotated[
    float,
    typer.Option(
        metavar="MM", min=0, help="Along the web's edges nothing is told so far inside.", rich_help_panel=WEB
    ),
]
IgnoreLane = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FROM-TO",
        help="Part of the width in mm from the web's left edge that does not count, such as 0-12; may be repeated.",
        rich_help_panel=WEB,
        show_default=False,
    ),
]
Rows = Annotated[
    int,
    typer.Option(
        min=1, max=64, help="Rows of tiles that share calls of the network; each costs a step of latency."
    ),
]


def web(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    source: Annotated[
        str,
        typer.Argument(
            help="Line camera such as aravis:LINE01, a folder of strips, or drawn:SEED.", show_default=False
        ),
    ],
    *,
    mm_per_pixel: MmPerPixel,
    mm_per_line: MmPerLine = None,
    json: Annotated[Path | None, typer.Option(help="Write one JSON object per event to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per defect to this file.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for a page with the roll map, and for pictures of the defects."
        ),
    ] = None,
    roll: Annotated[
        str | None, typer.Option(help="Name of the roll; the time of the start.", show_default=False)
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(
            metavar="M", min=0.001, help="Metres after which it ends; without end.", show_default=False
        ),
    ] = None,
    lane: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FROM-TO",
            help="Lane in mm from the web's left edge; may be repeated.",
            rich_help_panel=WEB,
            show_default=False,
        ),
    ] = None,
    background: Background = None,
    edge_margin: EdgeMargin = 0.0,
    ignore_lane: IgnoreLane = None,
    longest: Annotated[
        float,
        typer.Option(
            metavar="MM", min=1, help="Length after which a defect is told in part.", rich_help_panel=WEB
        ),
    ] = 2000.0,
    max_per_m2: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N[@LANE]",
            help="Tell when more defects lie on a square metre; may be repeated.",
            rich_help_panel=RULES,
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MM[@LANE]",
            help="Tell each defect that is longer or wider; may be repeated.",
            rich_help_panel=RULES,
            show_default=False,
        ),
    ] = None,
    roller: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MM",
            help="Tell when defects repeat at this circumference of a roller; may be repeated.",
            rich_help_panel=RULES,
            show_default=False,
        ),
    ] = None,
    flat_field: FlatField = None,
    setting: options.CameraSettings = None,
    encoder_counts: EncoderCounts = None,
    flush_after: Annotated[
        float,
        typer.Option(
            metavar="S",
            min=0.01,
            help="Seconds without lines after which the web stands, and what waits is judged.",
            rich_help_panel=CAMERA,
        ),
    ] = 2.0,
    ring: Annotated[
        int,
        typer.Option(
            min=64, help="Lines that wait for the judging before any are lost.", rich_help_panel=CAMERA
        ),
    ] = RING_LINES,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    rows: Rows = 1,
    fast_resize: options.FastResize = False,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    triton: options.Triton = None,
    threshold: options.Threshold = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the roll in the file of --json after a crash; what passed meanwhile is not judged.",
        ),
    ] = False,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 when there is any defect.")
    ] = False,
) -> None:
    """Inspect a web line by line, for hours, and tell each defect once with its place.

    Every line is judged, or lost with a reason and never OK. Places are mm along
    from the roll's start and across from the web's left edge. A source that
    breaks is opened again as soon as it is back.

    Ctrl-C or SIGTERM ends the roll: what waits is judged for two seconds, the
    rest is told as not judged, and everything is written. The exit code is 1
    where lines were not judged.
    """
    from contextlib import closing
    from datetime import datetime, timezone
    from itertools import chain

    from acl_runtime.inspection.watch import stop_signals
    from acl_runtime.inspection.web import inspect_web
    from acl_runtime.inspection.web_files import HEADER, text_line
    from acl_runtime.inspection.web_outputs import WebOutputs
    from acl_runtime.inspection.web_pace import ShortFlush
    from acl_runtime.inspection.web_plan import describe_roll, load_correction, plan_settings
    from acl_runtime.inspection.web_resume import resume_roll
    from acl_runtime.report.roll import write_roll_report
    from acl_runtime.report.roll_log import RollLog
    from acl_runtime.web.engine import WebEngine
    from acl_runtime.web.judge import TileJudge
    from acl_runtime.web.ring import LineRing, Reader
    from acl_runtime.web.summary import summarise

    check_order(bundle, [source])
    _check_files(json, report, resume=resume)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
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
        threshold=threshold,
    )
    given = options.parse_camera_settings(setting)
    camera = open_source(source, given)
    plan, settings = plan_settings(
        detector,
        camera.width,
        mm_per_pixel=mm_per_pixel,
        mm_per_line=mm_per_line,
        lanes=parse_lanes(lane),
        ignored=parse_ignored(ignore_lane),
        background=parse_background(background),
        edge_margin=edge_margin,
        longest=longest,
        flush_after=flush_after if camera.is_live else math.inf,  # a recording never stands
        rows=rows,
        keeps_pictures=report is not None,
    )
    rules = _parse_rules(settings, camera.width, max_per_m2, max_size, roller)
    record = describe_roll(roll or started, source, started, detector, plan, settings)
    log = None if report is None else RollLog(report, map_threshold=settings.region_threshold)
    before = resume_roll(json, record, rules, log, is_live=camera.is_live) if resume and json else None
    record = record if before is None else before.roll
    outputs = context.with_resource(
        closing(
            WebOutputs(
                record,
                json=json,
                csv=csv,
                log=log,
                resume=resume,
                say=lambda message: note(message, again=True),
            )
        )
    )
    queue = LineRing(max(ring, 2 * camera.height), waits=not camera.is_live)
    engine = WebEngine(
        plan, TileJudge(detector.stages), settings, begin=None if before is None else before.state
    )
    pace = ShortFlush(camera.height, flush_after, note)
    echo(HEADER)
    with stop_signals() as stopped:
        reader = Reader(
            camera,
            queue,
            lambda: open_source(source, given),
            counts_per_line=encoder_counts,
            line=0 if before is None else before.hole.stop,
            say=lambda message: note(message, again=True),
        )
        events = inspect_web(
            engine,
            queue,
            reader,
            correct=load_correction(flat_field),
            stopped=stopped,
            most_lines=None if length is None else round(1000 * length / settings.scale.mm_per_line),
        )
        for told in _with_alarms(chain(() if before is None else engine.add(before.hole), events), rules):
            outputs(told)
            pace(told)
            if (text := text_line(told, mm_per_line=settings.scale.mm_per_line)) is not None:
                echo(text)
        summary = summarise(
            engine.tally,
            settings.scale,
            pending=engine.pending,
            kept_up=queue.kept_up,
            seconds=queue.seconds,
        )
        echo(summary.text())  # before what a full disk may refuse
        outputs.end(summary)
        if log is not None:
            echo(f"report: {write_roll_report(log, record, summary, lanes=settings.lanes)}")
    outputs.check()
    if fail_on_defect and summary.defects:
        raise typer.Exit(3)
    raise typer.Exit(1 if summary.not_judged else 0)


def _with_alarms(events: Iterable[Event], rules: Rules) -> Iterator[Event | Alarm]:
    """Events, and the rules that a defect meets behind it."""
    from acl_runtime.web.records import Defect

    for event in events:
        yield event
        if isinstance(event, Defect):
            yield from rules.add(event)


def _check_files(json: Path | None, report: Path | None, *, resume: bool) -> None:
    """Refuse a roll that goes on without its records, and a report over another."""
    from acl_runtime.files.errors import InputError

    if resume and json is None:
        raise typer.BadParameter("--resume needs --json, the records of the roll that goes on")
    if resume or report is None or not report.exists():
        return
    if not report.is_dir() or any(report.iterdir()):
        raise InputError(f"{report}: holds something already; name a new or an empty folder for the report")


def open_source(text: str, settings: Sequence[tuple[str, str]]) -> LineSource:
    """Open a line source."""
    from acl_runtime.sources.lines import open_line_source

    return open_line_source(text, settings)


def parse_ignored(texts: Sequence[str] | None) -> tuple[Lane, ...]:
    """Parts of the width that do not count, each `FROM-TO` in mm."""
    from acl_runtime.web.records import Lane

    ignored = []
    for text in texts or ():
        match = re.fullmatch(r"([\d.]+)-([\d.]+)", text)
        if match is None:
            raise typer.BadParameter(f"--ignore-lane must be FROM-TO in mm, such as 0-12, got {text}")
        ignored.append(Lane(text, *(_number(match[part], "--ignore-lane") for part in (1, 2))))
    return tuple(ignored)


def parse_lanes(texts: Sequence[str] | None) -> tuple[Lane, ...]:
    """Lanes that are `NAME=FROM-TO` in mm."""
    from acl_runtime.web.records import Lane

    lanes: list[Lane] = []
    for text in texts or ():
        match = re.fullmatch(r"([^=\s]+)=([\d.]+)-([\d.]+)", text)
        if match is None or any(lane.name == match[1] for lane in lanes):
            raise typer.BadParameter(
                f"--lane must be NAME=FROM-TO in mm, such as A=0-150, each name once, got {text}"
            )
        lanes.append(Lane(match[1], _number(match[2], "--lane"), _number(match[3], "--lane")))
    return tuple(lanes)


def parse_background(text: str | None) -> tuple[int, int] | None:
    """Grey levels that are `LOW-HIGH`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,3})-(\d{1,3})", text)
    if match is None:
        raise typer.BadParameter(f"--background must be two grey levels such as 0-30, got {text}")
    return int(match[1]), int(match[2])


def _parse_rules(
    settings: WebSettings,
    width: int,
    max_per_m2: Sequence[str] | None,
    max_size: Sequence[str] | None,
    rollers: Sequence[str] | None,
) -> Rules:
    from acl_runtime.web.rules import Density, Roller, Rule, Rules, Size

    rules: list[Rule] = []
    for text in max_per_m2 or ():
        number, _, lane = text.partition("@")
        if not number.isdecimal():
            raise typer.BadParameter(f"--max-per-m2 must be a whole number, or N@LANE, got {text}")
        rules.append(Density(int(number), lane or None))
    for text in max_size or ():
        number, _, lane = text.partition("@")
        rules.append(Size(_number(number, "--max-size"), lane or None))
    for text in rollers or ():
        name, _, circumference = text.rpartition("=")
        if not name:
            raise typer.BadParameter(f"--roller must be NAME=MM, such as R7=471.2, got {text}")
        rules.append(Roller(name, _number(circumference, "--roller")))
    return Rules(rules, width_mm=width * settings.scale.mm_per_pixel, lanes=settings.lanes)


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} must have a number of mm, got {text}") from error

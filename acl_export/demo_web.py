"""The part of the demonstration that inspects a web: a drawn one, so that it is known where its defects lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from acl_runtime.bundle.manifest import Tiling
from acl_runtime.calibration.conformal import needed_images
from acl_runtime.calibration.new_record import SegmentUnit
from acl_runtime.calibration.record import JudgedImages
from acl_runtime.calibration.segments import calibrate_segments
from acl_runtime.detection.detector import Detector
from acl_runtime.inspection.web import inspect_web
from acl_runtime.inspection.web_outputs import WebOutputs
from acl_runtime.inspection.web_plan import describe_roll
from acl_runtime.report.page import facts_list, notes_list, section
from acl_runtime.report.roll import write_roll_report
from acl_runtime.report.roll_log import RollLog
from acl_runtime.report.roll_map import MAP_STYLE, roll_map
from acl_runtime.sources.drawn import DrawnSource
from acl_runtime.sources.lines import parse_source
from acl_runtime.web.drawn_truth import Box, Comparison, compare, drawn_boxes, told_boxes
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.plan import plan_web
from acl_runtime.web.records import Event, Scale
from acl_runtime.web.ring import LineRing, Reader
from acl_runtime.web.segments import Segment, Segments
from acl_runtime.web.settings import WebSettings
from acl_runtime.web.strip import SeeLines
from acl_runtime.web.summary import Summary, summarise

Progress = Callable[[str, int, int], None]
RING_LINES = 4096
CALIBRATION, INSPECTION = "drawing and judging good web", "drawing and judging web"


@dataclass(frozen=True, kw_only=True)
class WebDemo:
    """What the demonstration draws and how it inspects it.

    Attributes:
        metres: Of web that is inspected.
        width: Pixels of a line.
        pitch: Size of a pixel and of a line in mm.
        defects_per_m: On average.
        neps_per_m: Small knots of the yarn, which are no defects; on good web too.
        tile: Lines and pixels of a tile, which the network sees shrunk.
        overlap: Lines that two rows of tiles share.
        segment_m: Of a segment of good web, which takes the place of a good part.
        max_overkill: Share of good segments that the thresholds may reject.
        confidence: Of that promise.
    """

    metres: float = 20.0
    width: int = 640
    pitch: float = 0.5
    defects_per_m: float = 1.5
    neps_per_m: float = 6.0
    tile: int = 336
    overlap: int = 32
    segment_m: float = 0.25
    max_overkill: float = 0.05
    confidence: float = 0.95

    @property
    def scale(self) -> Scale:
        """Pixels are square."""
        return Scale(mm_per_line=self.pitch, mm_per_pixel=self.pitch)

    def lines(self, metres: float) -> int:
        """Number of lines of so many metres."""
        return round(1000 * metres / self.pitch)


@dataclass(frozen=True)
class WebResult:
    """What was found on the web.

    Attributes:
        comparison: With what was drawn.
        summary: Of the roll.
        section: For the demonstration's page, as HTML.
    """

    comparison: Comparison
    summary: Summary
    section: str

    style = MAP_STYLE

    def as_dict(self) -> dict[str, float | None]:
        """For `summary.json`."""
        found = self.comparison
        worst = found.worst_mm
        return {
            "defects": len(found.truth),
            "found": found.found,
            "false": len(found.false),
            "worst_error_mm": None if worst is None else round(worst, 3),
        }

    def text(self) -> str:
        """A line for the terminal."""
        found = self.comparison
        placed = (
            ""
            if found.worst_mm is None
            else f", placed within {found.worst_mm:.1f} mm (median {found.median_mm:.1f})"
        )
        return (
            f"on {self.summary.metres:.0f} m of drawn web: {found.found} of {len(found.truth)} defects found{placed}, "
            f"{len(found.false)} false; every line accounted for"
        )


def inspect_drawn_web(
    bundle: Path, copy: Path, report: Path, config: WebDemo, *, seed: int, progress: Progress
) -> WebResult:
    """Set thresholds on good drawn web, inspect another that has defects, and compare with what was drawn.

    Args:
        bundle: Stays as it is.
        copy: Of the bundle, which gets the thresholds; made here.
        report: Folder of the roll's records and page; made here.
        config: How much, and of what.
        seed: Of the good web; that which is inspected has the next.
        progress: Called after each row of tiles.
    """
    shutil.copytree(bundle, copy)
    tiling = Tiling(config.tile, config.overlap, None)
    with Detector(copy, provider="CPUExecutionProvider", tiling=tiling) as detector:
        statement = _calibrate(detector, config, seed, progress)
    with Detector(copy, provider="CPUExecutionProvider") as detector:
        return _inspect(detector, report, config, seed + 1, statement, progress)


def _calibrate(detector: Detector, config: WebDemo, seed: int, progress: Progress) -> str:
    """Set the thresholds of the detector's bundle; what they promise."""
    count = needed_images(config.max_overkill, confidence=config.confidence)
    metres = count * config.segment_m
    meter, found = Segments(config.lines(config.segment_m)), list[Segment]()
    source, ring = _open(config, seed, metres, defects_per_m=0.0), LineRing(RING_LINES, waits=True)
    engine = _engine(detector, config, meter.see_lines)
    for event in _events(engine, ring, source, partial(progress, CALIBRATION), metres):
        found += meter.add(event)
    values = JudgedImages(
        source=tuple(f"{source.name} line {each.first} to {each.stop - 1}" for each in found),
        score=tuple(each.score for each in found),
        peak=tuple(each.peak for each in found),
        brightness=tuple(each.brightness for each in found),
        sharpness=tuple(each.sharpness for each in found),
    )
    unit = SegmentUnit(1000 * config.segment_m, meter.left_out)
    record = calibrate_segments(
        detector, values, unit, max_overkill=config.max_overkill, confidence=config.confidence
    )
    return record.statement


def _inspect(
    detector: Detector, report: Path, config: WebDemo, seed: int, statement: str, progress: Progress
) -> WebResult:
    source = _open(config, seed, config.metres, defects_per_m=config.defects_per_m)
    engine, ring = _engine(detector, config, None), LineRing(RING_LINES, waits=True)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    roll = describe_roll("demo", source.name, started, detector, engine.plan, engine.settings)
    log = RollLog(report, map_threshold=engine.settings.region_threshold)
    with closing(WebOutputs(roll, json=report / "roll.jsonl", csv=report / "roll.csv", log=log)) as outputs:
        for event in _events(engine, ring, source, partial(progress, INSPECTION), config.metres):
            outputs(event)
        summary = summarise(
            engine.tally, config.scale, pending=engine.pending, kept_up=ring.kept_up, seconds=ring.seconds
        )
        outputs.end(summary)
    outputs.check()
    write_roll_report(log, roll, summary)
    told = told_boxes(log.defects)
    patch_mm = config.tile / detector.bundle.manifest.grid * config.pitch
    comparison = compare(drawn_boxes(source.web, engine.exposed), told, reach_mm=patch_mm)
    drawn = roll_map(log, scale=config.scale, width=config.width, lanes=(), missed=comparison.missed)
    return WebResult(comparison, summary, _section(comparison, summary, config, statement, patch_mm, drawn))


def _open(config: WebDemo, seed: int, metres: float, *, defects_per_m: float) -> DrawnSource:
    options = {
        "width": config.width,
        "pitch": config.pitch,
        "defects_per_m": defects_per_m,
        "neps_per_m": config.neps_per_m,
        "lines": config.lines(metres),
    }
    text = f"drawn:{seed}?" + "&".join(f"{name}={value}" for name, value in options.items())
    return DrawnSource(parse_source(text))


def _engine(detector: Detector, config: WebDemo, see_lines: SeeLines | None) -> WebEngine:
    assert detector.tiling is not None
    manifest = detector.bundle.manifest
    settings = WebSettings(
        rule=detector.rule,
        region_threshold=manifest.calibration.regions_from,
        scale=config.scale,
        max_batch=manifest.max_batch,
    )
    plan = plan_web(config.width, detector.tiling, manifest)
    return WebEngine(plan, TileJudge(detector.stages), settings, see_lines=see_lines)


def _events(
    engine: WebEngine,
    ring: LineRing,
    source: DrawnSource,
    progress: Callable[[int, int], None],
    metres: float,
) -> Iterator[Event]:
    """All that is told of a web, with the metres that are done."""
    lines, told = 1000 / engine.settings.scale.mm_per_line, 0
    for event in inspect_web(engine, ring, Reader(source, ring, lambda: source)):
        yield event
        if (done := int(engine.tally.accounted / lines)) > told:
            told = done
            progress(min(done, round(metres)), round(metres))


def _section(
    found: Comparison, summary: Summary, config: WebDemo, statement: str, patch_mm: float, drawn: str
) -> str:
    """For the demonstration's page."""
    lead = (
        f"{summary.metres:.0f} m of cloth, {config.width * config.pitch:.0f} mm wide, were drawn line by line, as a "
        "line camera sees a moving web, and inspected without a break. Each line was judged once, and each defect is "
        "told once, with its place. Where the defects are is known, because they were drawn."
    )
    worst, median = (
        "none" if value is None else f"{value:.1f} mm" for value in (found.worst_mm, found.median_mm)
    )
    facts = [
        ("defects found", f"{found.found} of {len(found.truth)}"),
        ("false alarms", str(len(found.false))),
        ("place, worst error", worst),
        ("place, median error", median),
        ("lines judged", f"{summary.judged:,} of {summary.exposed:,}"),
    ]
    notes = [
        f"A defect counts as found where something is told within {patch_mm:g} mm of it, the size of a patch, which is "
        "the smallest thing that the network tells apart here. An error is the distance, along or across, between the "
        "middle of what was told and the middle of what was drawn there; of a long defect, the part that was told.",
        f"Thresholds from good web of another seed, in a copy of the bundle: {statement}",
        *([f"Missed: {_places(found.missed)}."] if found.missed else []),
        *([f"False: {_places(found.false)}."] if found.false else []),
        "The roll's own page, report/web/index.html, shows each defect as the camera saw it, beside its records.",
    ]
    return section(
        "A web, line by line", f"<p>{lead}</p>", facts_list(facts), drawn, notes_list(notes), name="web"
    )


def _places(boxes: tuple[Box, ...]) -> str:
    sizes = (
        f"{box.stop - box.start:.0f} × {box.right - box.left:.0f} mm at {box.start / 1000:.2f} m"
        for box in boxes
    )
    return "; ".join(sizes)

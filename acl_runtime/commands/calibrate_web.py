"""`acl calibrate --web`: set thresholds from a stretch of good web."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from acl_runtime.text.terminal import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acl_runtime.calibration.conformal import Demand
    from acl_runtime.calibration.record import CalibrationRecord
    from acl_runtime.detection.detector import Detector


def calibrate_web(
    detector: Detector,
    source: str,
    demand: Demand,
    *,
    mm_per_pixel: float | None,
    mm_per_line: float | None,
    segment: float,
    length: float | None,
    background: str | None,
    edge_margin: float,
    ignored: Sequence[str],
    flat_field: Path | None,
    settings: Sequence[tuple[str, str]],
) -> CalibrationRecord:
    """Judge good web as `acl web` will, until there is enough of it, and set the thresholds of the detector's bundle.

    Args:
        detector: Judges.
        source: Line camera, or what stands in for one.
        demand: Of segments.
        mm_per_pixel: Size of a pixel.
        mm_per_line: From a line to the next; None for as much as a pixel.
        segment: Length of a segment in m.
        length: Metres to judge; None for as many as the demand needs.
        background: See `acl web`.
        edge_margin: See `acl web`; in mm.
        ignored: See `acl web`; in mm.
        flat_field: See `acl web`.
        settings: GenICam settings of the camera.
    """
    from acl_runtime.bundle.manifest import Tiling
    from acl_runtime.calibration.conformal import needed_images
    from acl_runtime.calibration.new_record import SegmentUnit
    from acl_runtime.calibration.record import JudgedImages
    from acl_runtime.calibration.segments import calibrate_segments
    from acl_runtime.commands.web import RING_LINES, open_source, parse_background, parse_ignored
    from acl_runtime.inspection.watch import stop_signals
    from acl_runtime.inspection.web import inspect_web
    from acl_runtime.inspection.web_plan import load_correction, plan_settings
    from acl_runtime.text.progress import progress
    from acl_runtime.web.engine import WebEngine
    from acl_runtime.web.judge import TileJudge
    from acl_runtime.web.ring import LineRing, Reader
    from acl_runtime.web.segments import Segment, Segments

    if mm_per_pixel is None:
        raise typer.BadParameter("--web needs --mm-per-pixel, the size of a pixel across the web")
    detector = detector.with_memory(None).with_ignore(None)
    if detector.tiling is None:
        detector = detector.with_tiling(Tiling("auto", None, None))
    camera = open_source(source, settings)
    plan, chosen = plan_settings(
        detector,
        camera.width,
        mm_per_pixel=mm_per_pixel,
        mm_per_line=mm_per_line,
        background=parse_background(background),
        edge_margin=edge_margin,
        ignored=parse_ignored(ignored),
    )
    lines = round(1000 * segment / chosen.scale.mm_per_line)
    wanted = needed_images(
        demand.max_overkill, confidence=demand.confidence, hidden_defects=demand.hidden_defects
    )
    metres = wanted * segment if length is None else length
    note(f"{metres:g} m of good web are judged, in segments of {segment:g} m")
    meter, found = Segments(lines), list[Segment]()
    engine = WebEngine(plan, TileJudge(detector.stages), chosen, see_lines=meter.see_lines)
    ring = LineRing(max(RING_LINES, 2 * camera.height), waits=not camera.is_live)
    with stop_signals() as stopped, progress("judging good web", total=round(metres / segment)) as advance:
        reader = Reader(
            camera, ring, lambda: open_source(source, settings), say=lambda message: note(message, again=True)
        )
        events = inspect_web(
            engine,
            ring,
            reader,
            correct=load_correction(flat_field),
            stopped=lambda: stopped() or (length is None and len(found) >= wanted),
            most_lines=None if length is None else round(1000 * length / chosen.scale.mm_per_line),
            finish_s=0,
        )
        for event in events:
            for each in meter.add(event):
                found.append(each)
                advance()
    pitch = chosen.scale.mm_per_line / 1000
    values = JudgedImages(
        source=tuple(f"{source} {each.first * pitch:.3f} to {each.stop * pitch:.3f} m" for each in found),
        score=tuple(each.score for each in found),
        peak=tuple(each.peak for each in found),
        brightness=tuple(each.brightness for each in found),
        sharpness=tuple(each.sharpness for each in found),
    )
    return calibrate_segments(
        detector,
        values,
        SegmentUnit(1000 * segment, meter.left_out),
        max_overkill=demand.max_overkill,
        confidence=demand.confidence,
        hidden_defects=demand.hidden_defects,
    )

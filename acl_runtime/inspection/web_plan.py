"""How a web is cut and inspected, from what a user says of it."""

from __future__ import annotations

import logging
from pathlib import Path

from acl_runtime.bundle.bundle import MANIFEST
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.detector import Detector
from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import InputError
from acl_runtime.inspection.web import Correct
from acl_runtime.inspection.web_files import Roll
from acl_runtime.web.flat_field import load_flat_field
from acl_runtime.web.light import Light
from acl_runtime.web.plan import WebPlan, plan_web
from acl_runtime.web.records import Lane, Scale
from acl_runtime.web.settings import WebSettings

LOG = logging.getLogger("acl")


def load_correction(folder: Path | None) -> Correct | None:
    """The flat field of a folder; None without a folder."""
    if folder is None:
        return None

    return load_flat_field(folder)


def plan_settings(
    detector: Detector,
    width: int,
    *,
    mm_per_pixel: float,
    mm_per_line: float | None,
    lanes: tuple[Lane, ...] = (),
    ignored: tuple[Lane, ...] = (),
    background: tuple[int, int] | None = None,
    edge_margin: float = 0.0,
    longest: float = 2000.0,
    flush_after: float = 2.0,
    rows: int = 1,
    keeps_pictures: bool = False,
) -> tuple[WebPlan, WebSettings]:
    """How a web is cut and inspected, as a command's options ask for; lengths in mm.

    Raises:
        InputError: The thresholds were measured on frames of which a part does not count, which a web cannot leave out.
    """
    if detector.stages.ignore is not None:
        raise InputError(
            f"{detector.bundle.path}: its thresholds were measured with --ignore on frames, and a web has none; "
            "calibrate for this web with acl calibrate --web, and name parts of its width with --ignore-lane"
        )
    scale = Scale(mm_per_line=mm_per_pixel if mm_per_line is None else mm_per_line, mm_per_pixel=mm_per_pixel)
    manifest = detector.bundle.manifest
    plan = plan_web(width, web_tiling(detector), manifest)
    settings = WebSettings(
        rule=detector.rule,
        region_threshold=manifest.calibration.regions_from,
        scale=scale,
        light=Light(background=background),
        lanes=lanes,
        ignored=ignored,
        edge_margin=round(edge_margin / mm_per_pixel),
        max_batch=manifest.max_batch,
        rows=rows,
        longest=max(plan.tile, round(longest / scale.mm_per_line)),
        flush_after_s=flush_after,
        keeps_pictures=keeps_pictures,
    )
    count = len(plan.columns.spans)
    LOG.info("tiles of %d lines, %d across, a row every %d lines", plan.tile, count, plan.step)
    return plan, settings


def web_tiling(detector: Detector) -> Tiling:
    """How a web is cut: a web has no whole frame that could be squashed."""

    if detector.tiling is not None:
        return detector.tiling
    LOG.info("the bundle's thresholds are not for tiles; calibrate for this web: acl calibrate --web")
    return Tiling("auto", None, None)


def describe_roll(
    name: str, source: str, started: str, detector: Detector, plan: WebPlan, settings: WebSettings
) -> Roll:
    """What the records of a roll rest on."""

    bundle = detector.bundle
    return Roll(
        name=name,
        source=source,
        bundle=str(bundle.path),
        checksum=sha256(bundle.path / MANIFEST),
        started=started,
        width=plan.width,
        mm_per_pixel=settings.scale.mm_per_pixel,
        mm_per_line=settings.scale.mm_per_line,
        tile=plan.tile,
        step=plan.step,
        score_threshold=settings.rule.score_threshold,
        peak_threshold=settings.rule.peak_threshold,
        region_threshold=settings.region_threshold,
        promise=bundle.manifest.calibration.source,
    )

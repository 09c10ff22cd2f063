"""From regions of the map to records of defects, in lines, pixels and mm."""

from __future__ import annotations

from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import DecidedBy, Defect, DefectBegun, Scale, lanes_of
from acl_runtime.web.regions import Region
from acl_runtime.web.settings import WebSettings


def to_begun(region: Region, plan: WebPlan, scale: Scale, *, edge: int) -> DefectBegun:
    """What is told of a defect that begins; `edge` is the pixel of the web's left edge."""
    first, _ = plan.lines_of(region.first, region.stop)
    left, right = plan.pixels_of(region.left, region.right)
    return DefectBegun(
        number=region.number,
        first=first,
        left=left,
        right=right,
        x_mm=(left - edge) * scale.mm_per_pixel,
        y_mm=first * scale.mm_per_line,
        peak=region.peak,
    )


def to_defect(
    region: Region, plan: WebPlan, settings: WebSettings, *, edge: int, strip: tuple[int, int]
) -> Defect:
    """The record of a defect, without pictures.

    Args:
        region: On the map.
        plan: Where map lines lie.
        settings: Scale, lanes and rule.
        edge: Pixel of the web's left edge.
        strip: First line of the strip that it lies in, and the line behind the last that is final: a map line may show
            a part of a line beyond.
    """
    scale = settings.scale
    first, stop = plan.lines_of(region.first, region.stop)
    first, stop = max(first, strip[0]), min(stop, strip[1])
    left, right = plan.pixels_of(region.left, region.right)
    peak_line, _ = plan.lines_of(region.peak_at[0], region.peak_at[0] + 1)
    peak_px, _ = plan.pixels_of(region.peak_at[1], region.peak_at[1] + 1)
    across, width = (left - edge) * scale.mm_per_pixel, (right - left) * scale.mm_per_pixel
    map_pixel_mm = plan.width / plan.map_width * scale.mm_per_pixel
    map_line_mm = plan.tile / plan.map_tile * scale.mm_per_line
    return Defect(
        number=region.number,
        first=first,
        stop=stop,
        left=left,
        right=right,
        x_mm=across,
        y_mm=first * scale.mm_per_line,
        width_mm=width,
        length_mm=(stop - first) * scale.mm_per_line,
        area_mm2=region.area * map_pixel_mm * map_line_mm,
        peak=region.peak,
        lanes=lanes_of(settings.lanes, across, across + width),
        continues=region.continues,
        part=region.part,
        joined=region.joined,
        peak_line=max(peak_line, strip[0]),
        peak_px=peak_px,
        score=region.score,
        decided_by=_decided_by(region, settings.rule.peak_threshold),
        is_flood=region.is_flood,
        pictures=None,
    )


def _decided_by(region: Region, peak: float | None) -> DecidedBy:
    by_peak = peak is not None and region.peak >= peak
    return "both" if by_peak and region.is_marked else "peak" if by_peak else "score"

"""Where the defects are: connected regions of the anomaly map, in the frame's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HOTTEST = 0.9  # share of a map's peak down to which its hottest place reaches


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected part of the map at or above the threshold; its box and area are in frame pixels."""

    x: int  # left edge of the box
    y: int  # top edge
    width: int
    height: int
    area: int  # pixels of the region itself, not of its box
    peak: float  # largest map value inside, in [0, 1]


def find_regions(
    anomaly_map: np.ndarray, *, threshold: float, frame_width: int, frame_height: int
) -> tuple[Region, ...]:
    """8-connected regions where the map is at least `threshold`, the highest peak first.

    Args:
        anomaly_map: (h, w) float32 in [0, 1], over the whole frame.
        threshold: Smallest map value that belongs to a region.
        frame_width: Width of the frame in pixels; where the frame was squashed to S×S, x and y scale apart.
        frame_height: Height of the frame in pixels.
    """
    defective = anomaly_map >= threshold  # (h, w)
    if not defective.any():
        return ()  # labels of a large map take several times its memory
    _, labels, stats, _ = cv2.connectedComponentsWithStats(defective.view(np.uint8), connectivity=8)
    peaks = np.zeros(len(stats))
    np.maximum.at(peaks, np.asarray(labels[defective], np.intp), anomaly_map[defective])
    order = 1 + np.argsort(-peaks[1:], kind="stable")  # row 0 is the background
    boxes = _to_frame(np.asarray(stats, np.int64)[order], anomaly_map.shape, (frame_height, frame_width))
    return tuple(
        Region(x=x, y=y, width=width, height=height, area=area, peak=peak)
        for (x, y, width, height, area), peak in zip(boxes, peaks[order].tolist(), strict=True)
    )


def hottest_region(anomaly_map: np.ndarray, *, frame_width: int, frame_height: int) -> Region:
    """The place of the map's peak, whatever its height: for a frame that is anomalous without any region."""
    regions = find_regions(
        anomaly_map,
        threshold=HOTTEST * float(anomaly_map.max()),
        frame_width=frame_width,
        frame_height=frame_height,
    )
    return regions[0]


def _to_frame(stats: np.ndarray, map_shape: tuple[int, ...], frame_shape: tuple[int, int]) -> list[list[int]]:
    """x, y, width, height, area of (N, 5) int64 regions of the map, in frame pixels; boxes round outwards."""
    to_size, from_size = np.array(frame_shape[::-1]), np.array(map_shape[::-1])  # each (width, height)
    starts = stats[:, :2] * to_size // from_size
    ends = -(-(stats[:, :2] + stats[:, 2:4]) * to_size // from_size)
    areas = np.maximum(1, np.rint(stats[:, 4] * to_size.prod() / from_size.prod()))
    table: list[list[int]] = np.column_stack([starts, ends - starts, areas.astype(np.int64)]).tolist()
    return table

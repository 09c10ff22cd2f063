"""Where the defects are: connected regions of the anomaly map, in the frame's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
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
        anomaly_map: (S, S) float32 in [0, 1].
        threshold: Smallest map value that belongs to a region.
        frame_width: Width of the frame in pixels; the frame was squashed to S×S, so x and y scale apart.
        frame_height: Height of the frame in pixels.
    """
    defective = anomaly_map >= threshold  # (S, S)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(defective.view(np.uint8), connectivity=8)
    peaks = np.zeros(len(stats))
    np.maximum.at(peaks, labels[defective], anomaly_map[defective])
    scale = np.array([frame_width, frame_height]) / anomaly_map.shape[::-1]
    corners = np.floor(stats[:, [0, 1]] * scale).astype(int)
    ends = np.ceil((stats[:, [0, 1]] + stats[:, [2, 3]]) * scale).astype(int)
    areas = np.maximum(1, np.rint(stats[:, 4] * scale.prod())).astype(int)
    table = np.column_stack([corners, ends - corners, areas])
    order = 1 + np.argsort(-peaks[1:], kind="stable")  # row 0 is the background
    return tuple(
        Region(*row, peak) for row, peak in zip(table[order].tolist(), peaks[order].tolist(), strict=True)
    )

"""The place in a large frame that matters, at the frame's own resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from acl_runtime.images.overlay import colorize
from acl_runtime.images.preprocess import to_bgr
from acl_runtime.report.pictures import BLACK, WHITE, Card, Picture, outline

FROM = 2  # how many times a picture's longer edge a map must have, so that a detail is shown
AWAY = 4  # pixels from a defect to its outline, which must not hide a scratch
LEAST_BOX = 9  # pixels of a picture: a smaller box would not be seen


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A part of a card's frame, one pixel of it each of the pictures'."""

    rows: tuple[int, int]  # of the frame, start and stop
    columns: tuple[int, int]
    is_defect: bool  # it lies around the largest outlined defect; else around the map's peak
    truth: Picture  # with the outline of its ground truth
    anomaly_map: Picture


def draw_detail(card: Card, *, side: int) -> Detail | None:
    """What lies around the map's peak, or around a missed defect, up to `side` pixels high and wide.

    None for a card whose map fits into a picture of that side, shrunk FROM times at most.
    """
    if max(card.anomaly_map.shape) <= FROM * side:
        return None
    height, width = card.frame.shape[:2]
    is_defect = card.mask is not None and bool(card.mask.any()) and not card.is_anomalous
    row, column = _defect(card) if is_defect else _peak(card)
    rows, columns = _span(row * height, height, side), _span(column * width, width, side)
    frame = np.array(to_bgr(card.frame)[slice(*rows), slice(*columns)])
    mask = None if card.mask is None else _grow(_part(card.mask, card, rows, columns))
    anomaly_map = colorize(_part(card.anomaly_map, card, rows, columns))
    return Detail(
        rows=rows, columns=columns, is_defect=is_defect, truth=outline(frame, mask), anomaly_map=anomaly_map
    )


def mark_place(picture: Picture, detail: Detail, card: Card) -> Picture:
    """A picture of the whole frame, a box where the detail lies."""
    marked = np.array(picture)
    corners = []
    for (start, stop), of_frame, of_picture in zip(
        (detail.columns, detail.rows), card.frame.shape[1::-1], picture.shape[1::-1], strict=True
    ):
        middle, length = (start + stop) / 2, max(stop - start, LEAST_BOX * of_frame / of_picture)
        ends = ((middle + half * length) * of_picture / of_frame for half in (-0.5, 0.5))
        corners.append([int(np.clip(round(end), 1, of_picture - 2)) for end in ends])
    (left, right), (top, bottom) = corners
    cv2.rectangle(marked, (left, top), (right, bottom), BLACK, 3)
    cv2.rectangle(marked, (left, top), (right, bottom), WHITE, 1)
    return marked


def _peak(card: Card) -> tuple[float, float]:
    """Row and column of the map's peak, 0 to 1 of the frame's height and width."""
    row, column = np.unravel_index(int(card.anomaly_map.argmax()), card.anomaly_map.shape)
    return (float(row) + 0.5) / card.anomaly_map.shape[0], (float(column) + 0.5) / card.anomaly_map.shape[1]


def _defect(card: Card) -> tuple[float, float]:
    """The same of the pixel in the largest region of the mask that is nearest to the region's centre."""
    assert card.mask is not None
    _, labels, stats, centres = cv2.connectedComponentsWithStats(card.mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    pixels = np.argwhere(labels == largest)  # (N, 2) row, column
    row, column = pixels[np.square(pixels - centres[largest][::-1]).sum(axis=1).argmin()].tolist()
    return (row + 0.5) / card.mask.shape[0], (column + 0.5) / card.mask.shape[1]


def _span(middle: float, length: int, side: int) -> tuple[int, int]:
    """`side` pixels around the middle, moved to lie inside."""
    start = int(np.clip(round(middle - side / 2), 0, max(0, length - side)))
    return start, min(start + side, length)


def _grow(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool, True also up to AWAY pixels from what is True in the mask."""
    side = 2 * AWAY + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def _part(whole: np.ndarray, card: Card, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Some rows and columns of the frame, of what covers it at any resolution: for each pixel the one there."""
    frame_height, frame_width = card.frame.shape[:2]
    y = np.arange(*rows) * whole.shape[0] // frame_height
    x = np.arange(*columns) * whole.shape[1] // frame_width
    return whole[np.ix_(y, x)]

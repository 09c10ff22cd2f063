"""Draw anomaly maps, alone or over the frame, with one colour scale for all frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.preprocess import to_bgr
from acl_runtime.scoring.regions import Region

OPACITY = 0.55  # of the hottest colour: the product must stay visible below its defect
RED, GREEN, WHITE = (48, 48, 230), (80, 160, 60), (255, 255, 255)  # BGR


def colorize(anomaly_map: np.ndarray) -> npt.NDArray[np.uint8]:
    """(H, W) probabilities in [0, 1] as (H, W, 3) BGR; the scale is absolute: a good part stays dark."""
    levels = np.rint(np.clip(anomaly_map, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), np.uint8)


def overlay(
    frame: np.ndarray,
    anomaly_map: np.ndarray,
    regions: Sequence[Region] = (),
    *,
    map_threshold: float,
    score: float | None = None,
    peak: float | None = None,
    is_anomalous: bool = False,
) -> npt.NDArray[np.uint8]:
    """The frame under its map, which is invisible up to half the threshold: a good part looks like itself.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16.
        anomaly_map: (S, S) float32 in [0, 1].
        regions: Boxes to draw, in frame pixels.
        map_threshold: Probability from which the map has its full opacity.
        score: Written in the corner with OK or NG; None for no text.
        peak: Written too, where it decides.
        is_anomalous: Whether to write NG.

    Returns:
        (H, W, 3) uint8 BGR, at the frame's size.
    """
    picture = to_bgr(frame)
    height, width = picture.shape[:2]
    pixels = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)  # (H, W)
    half = max(map_threshold, 1e-6) / 2
    opacity = OPACITY * np.clip(pixels / half - 1, 0, 1)[:, :, None]  # (H, W, 1)
    blended = picture + opacity * (colorize(pixels).astype(np.float32) - picture)
    picture = np.asarray(np.rint(blended), np.uint8)
    _draw_boxes(picture, regions)
    if score is not None:
        text = f"{'NG' if is_anomalous else 'OK'} {score:.3f}" + ("" if peak is None else f" peak {peak:.3f}")
        _draw_label(picture, text, RED if is_anomalous else GREEN)
    return picture


def _draw_boxes(picture: npt.NDArray[np.uint8], regions: Sequence[Region]) -> None:
    thickness = max(1, min(picture.shape[:2]) // 250)
    for region in regions:
        end = (region.x + region.width - 1, region.y + region.height - 1)
        cv2.rectangle(picture, (region.x, region.y), end, RED, thickness)


def _draw_label(picture: npt.NDArray[np.uint8], text: str, color: tuple[int, int, int]) -> None:
    """White on a filled box in the upper left corner, sized to the picture."""
    scale = max(0.4, picture.shape[1] / 900)
    thickness = max(1, round(2 * scale))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = base // 2 + 1
    cv2.rectangle(picture, (0, 0), (width + 2 * margin, height + base + margin), color, cv2.FILLED)
    origin = (margin, height + margin)
    cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, thickness, cv2.LINE_AA)

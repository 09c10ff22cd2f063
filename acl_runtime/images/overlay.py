"""Draw anomaly maps, alone or over the frame, with one colour scale for all frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.images.preprocess import to_bgr
from acl_runtime.scoring.regions import Region

OPACITY = 0.55  # of the hottest colour: the product must stay visible below its defect
LONG_STRIP = 8192  # pixels: to widen a picture that is longer would take too much memory
RED, GREEN, GREY, WHITE = (48, 48, 230), (80, 160, 60), (150, 150, 150), (255, 255, 255)  # BGR


def colorize(anomaly_map: np.ndarray) -> npt.NDArray[np.uint8]:
    """(H, W) probabilities in [0, 1] as (H, W, 3) BGR; the scale is absolute: a good part stays dark."""
    levels = np.rint(np.clip(anomaly_map, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), np.uint8)


def scale_map(anomaly_map: np.ndarray, frame: np.ndarray) -> npt.NDArray[np.float32]:
    """Scale a map to its frame, so that a value lies on the pixel that it is about.

    Args:
        anomaly_map: (h, w) float32 in [0, 1], of the whole frame: `Verdict.anomaly_map`.
        frame: (H, W), (H, W, 3) or (H, W, 4); only its size is used.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = frame.shape[:2]
    return np.asarray(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def overlay(
    frame: np.ndarray,
    anomaly_map: np.ndarray,
    regions: Sequence[Region] = (),
    *,
    map_threshold: float,
    is_anomalous: bool = False,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """The frame under its map; colours mean the same on every frame.

    On a good part the map is invisible up to half the threshold, so that it looks like itself. On an anomalous one it
    shows from 0 on, and in full where it is hottest, however little that is: the score may have decided.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16.
        anomaly_map: (h, w) float32 in [0, 1].
        regions: Boxes to draw, in frame pixels.
        map_threshold: Probability from which the map has its full opacity.
        is_anomalous: Whether the part is.
        ignored: (h, w) what does not count, which is hatched; None where all does.

    Returns:
        (H, W, 3) uint8 BGR, at the frame's size.
    """
    picture = to_bgr(frame)
    pixels = scale_map(anomaly_map, picture)
    full = max(map_threshold, 1e-6)
    hottest = max(min(full, float(pixels.max())), 1e-6)
    strength = pixels / hottest if is_anomalous else pixels / (full / 2) - 1
    opacity = OPACITY * np.clip(strength, 0, 1)[:, :, None]  # (H, W, 1)
    blended = picture + opacity * (colorize(pixels).astype(np.float32) - picture)
    picture = np.asarray(np.rint(blended), np.uint8)
    if ignored is not None:
        _hatch(picture, ignored)
    _draw_boxes(picture, regions)
    return picture


def label(picture: npt.NDArray[np.uint8], text: str, *, is_anomalous: bool) -> npt.NDArray[np.uint8]:
    """A picture below a strip with a text, so that nothing of it is covered.

    Args:
        picture: (H, W, 3) uint8 BGR.
        text: Verdict in a few words.
        is_anomalous: Whether the strip is red; else it is green.

    Returns:
        (strip + H, W, 3) uint8 BGR; of a picture narrower than the text (strip + H, text, 3), black beside it, except
        that a long strip keeps its width, and the text is cut.
    """
    height, width = picture.shape[:2]
    scale = max(0.4, min(width, 8 * height) / 900)
    thickness = max(1, round(2 * scale))
    (text_width, text_height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = base // 2 + 1
    strip = text_height + base + margin
    full = width if height > LONG_STRIP else max(width, text_width + 2 * margin)
    labelled = np.zeros((strip + height, full, 3), np.uint8)
    labelled[:strip] = RED if is_anomalous else GREEN
    labelled[strip:, :width] = picture
    origin = (margin, text_height + margin)
    cv2.putText(labelled, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, thickness, cv2.LINE_AA)
    return labelled


def _hatch(picture: npt.NDArray[np.uint8], ignored: npt.NDArray[np.bool_]) -> None:
    """Draw grey stripes where nothing counts."""
    height, width = picture.shape[:2]
    inside = cv2.resize(ignored.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    step = max(8, min(height, width) // 40)
    rows, columns = np.ogrid[:height, :width]
    stripes = (rows + columns) % step < max(1, step // 4)
    picture[inside & stripes] = GREY


def _draw_boxes(picture: npt.NDArray[np.uint8], regions: Sequence[Region]) -> None:
    thickness = max(1, min(picture.shape[:2]) // 250)
    for region in regions:
        end = (region.x + region.width - 1, region.y + region.height - 1)
        cv2.rectangle(picture, (region.x, region.y), end, RED, thickness)

"""JPEGs of what was judged, no larger than a screen, whatever the camera gives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from acl_runtime.images.overlay import overlay
from acl_runtime.images.preprocess import to_bgr
from acl_runtime.outputs.evidence.files import Which
from acl_runtime.outputs.page.feed import Picture
from acl_runtime.scoring.regions import Region

LONGEST = 1280  # side of a picture, in pixels
_QUALITY = 85


class JpegCache:
    """The pictures that were drawn last, so that twenty browsers cost one drawing; used by one thread."""

    def __init__(self, most: int = 32) -> None:
        """Remember so many."""
        self._most, self._drawn = most, OrderedDict[tuple[int, Which], tuple[Picture, bytes]]()

    def __call__(self, picture: Picture, which: Which) -> bytes:
        """A picture as JPEG."""
        key = id(picture), which  # which is its own as long as the picture is kept beside it
        if key not in self._drawn:
            self._drawn[key] = picture, draw_jpeg(picture, which)
            if len(self._drawn) > self._most:
                self._drawn.popitem(last=False)
        return self._drawn[key][1]


def draw_jpeg(picture: Picture, which: Which) -> bytes:
    """A picture as JPEG: under its map on the absolute scale with boxes around regions, or as the camera gave it."""
    factor = min(1.0, LONGEST / max(picture.pixels.shape[:2]))
    small = to_bgr(_shrink(picture.pixels, factor))
    if picture.anomaly_map is not None and which == "overlay":
        small = overlay(
            small,
            picture.anomaly_map,
            _scaled(picture.regions, factor),
            map_threshold=picture.region_threshold,
            is_anomalous=picture.is_anomalous,
            ignored=picture.ignored,
        )
    _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return data.tobytes()


def encode_strip(rows: np.ndarray) -> bytes:
    """Rows of a web's strip as JPEG, the newest at its right edge.

    Args:
        rows: (n, w) uint8, grey, n at least 1.
    """
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rows.T), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return data.tobytes()


def _shrink(pixels: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1.0:
        return pixels
    height, width = pixels.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _scaled(regions: Sequence[Region], factor: float) -> list[Region]:
    return [
        replace(
            region,
            x=int(region.x * factor),
            y=int(region.y * factor),
            width=max(1, round(region.width * factor)),
            height=max(1, round(region.height * factor)),
        )
        for region in regions
    ]

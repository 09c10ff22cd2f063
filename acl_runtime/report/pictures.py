"""The pictures that show what was found on a frame: itself, its ground truth, its map, and an overlay."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.data.datasets import load_mask
from acl_runtime.data.samples import Sample
from acl_runtime.detection.verdict import Verdict
from acl_runtime.images.decode import ReadSettings
from acl_runtime.images.overlay import colorize, overlay
from acl_runtime.images.preprocess import to_bgr
from acl_runtime.scoring.rule import Rule

WHITE, BLACK = (255, 255, 255), (0, 0, 0)  # a white line with a black edge shows on any product

Picture = npt.NDArray[np.uint8]  # (h, w, 3) BGR


@dataclass(frozen=True, kw_only=True)
class Card:
    """One inspected frame."""

    title: str
    frame: np.ndarray  # (H, W, 3) uint8 BGR, or any other frame that the detector takes
    mask: np.ndarray | None  # (h, w) bool, truth over the whole frame at any resolution; None if unknown
    anomaly_map: np.ndarray  # (S, S) float32 in [0, 1], or of any other size, over the whole frame
    score: float  # probability of a defect, 0 to 1
    threshold: float  # smallest score that is a defect
    label: int | None  # 1 defective, 0 good, None if unknown
    map_threshold: float = 0.5  # map value from which the overlay has its full strength
    peak_threshold: float | None = None  # smallest peak that is a defect; None: the peak does not decide
    ignored: np.ndarray | None = (
        None  # (h, w) bool, what does not count, in the map's shape; None: all counts
    )

    def __post_init__(self) -> None:
        """Refuse what could not be drawn to scale."""
        for name in ("score", "threshold", "peak_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value} for {self.title}")
        for name, array in (("anomaly_map", self.anomaly_map), ("mask", self.mask)):
            if array is not None and (array.ndim != 2 or array.size == 0):
                raise ValueError(f"{name} must be (height, width), got {array.shape} for {self.title}")

    @property
    def peak(self) -> float:
        """Largest value of the map."""
        return float(self.anomaly_map.max())

    @property
    def is_anomalous(self) -> bool:
        """The detector's verdict, as in `Verdict`."""
        return self._rule.is_anomalous(self.score, self.peak)

    @property
    def margin(self) -> float:
        """How far the other verdict is, in log-odds, as in `Verdict`."""
        return self._rule.margin(self.score, self.peak)

    @property
    def is_right(self) -> bool | None:
        """Whether the verdict agrees with the label; None without a label."""
        return None if self.label is None else self.is_anomalous == bool(self.label)

    @property
    def _rule(self) -> Rule:
        return Rule(self.threshold, self.peak_threshold)


def make_card(
    sample: Sample,
    frame: np.ndarray,
    verdict: Verdict,
    *,
    title: str,
    mask_above: int = 0,
    map_threshold: float = 0.5,
    settings: ReadSettings | None = None,
) -> Card:
    """The card of a labelled picture, its ground truth at the frame's own size.

    Args:
        sample: The picture.
        frame: Its pixels, as `load_sample` gives them.
        verdict: The detector's.
        title: Of the card.
        mask_above: Grey level above which a mask's pixel is a defect.
        map_threshold: See `Card`.
        settings: How pictures are read.
    """
    height, width = frame.shape[:2]
    is_outlined = sample.label == 1 and sample.mask is not None
    return Card(
        title=title,
        frame=frame,
        mask=load_mask(sample, height=height, width=width, above=mask_above, settings=settings)
        if is_outlined
        else None,
        anomaly_map=verdict.anomaly_map,
        score=verdict.score,
        threshold=verdict.threshold,
        label=sample.label,
        map_threshold=map_threshold,
        peak_threshold=verdict.peak_threshold,
        ignored=verdict.ignored,
    )


@dataclass(frozen=True)
class Panels:
    """A card's pictures, all of one size."""

    frame: Picture
    truth: Picture  # the frame with the outline of its ground truth
    anomaly_map: Picture
    overlay: Picture


def draw_panels(card: Card, *, side: int) -> Panels:
    """Draw a card's pictures, the longer edge of each `side` pixels long."""
    frame = fit(to_bgr(card.frame), side)
    height, width = frame.shape[:2]
    pixels = cv2.resize(card.anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    marked = overlay(
        frame,
        card.anomaly_map,
        map_threshold=card.map_threshold,
        is_anomalous=card.is_anomalous,
        ignored=card.ignored,
    )
    return Panels(frame, outline(frame, card.mask), colorize(pixels), marked)


def outline(frame: Picture, mask: np.ndarray | None) -> Picture:
    """The frame with a line around what is True in the mask, (h, w) bool over all of it; None for nothing."""
    picture = np.array(frame)
    if mask is None:
        return picture
    height, width = frame.shape[:2]
    # Averaging keeps a scratch thinner than a pixel of the picture; enlarging, it repeats pixels.
    cover = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = (cover > 0).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    line = max(1, max(height, width) // 200)
    cv2.drawContours(picture, contours, -1, BLACK, line + 2, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, WHITE, line, cv2.LINE_AA)
    return picture


def jpeg_uri(picture: Picture, *, quality: int) -> str:
    """A picture as text that a page can hold; quality is JPEG's, 0 to 100."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def color_bar(width: int, height: int) -> Picture:
    """The maps' colours from 0 on the left to 1 on the right."""
    return colorize(np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)))


def fit(picture: Picture, side: int) -> Picture:
    """The picture with its longer edge `side` pixels long."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)

"""What the detector says about one frame, and what comes out of a stream of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.scoring.regions import Region
from acl_runtime.scoring.rule import DecidedBy, Rule


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the detector says about one frame; printed without its map."""

    score: float  # probability of a defect, 0 to 1
    peak: float  # largest value of the map, 0 to 1
    is_anomalous: bool  # as the detector's rule says
    margin: float  # log-odds from the other verdict, not negative if anomalous; see `Rule.margin`
    threshold: float  # smallest score that is anomalous
    peak_threshold: float | None  # smallest peak that is anomalous; None: the peak does not decide
    regions: tuple[Region, ...]  # in frame pixels, highest peak first; one at least if anomalous
    region_threshold: float = 0.5  # smallest value of the map that belongs to a region
    tiles: int = 1  # that the frame was cut into
    # (S, S) in [0, 1]; (h, w) of a tiled frame; (0, 0) where it was left on the GPU, see `Detector`
    anomaly_map: npt.NDArray[np.float32] = field(repr=False)
    ignored: npt.NDArray[np.bool_] | None = field(
        default=None, repr=False
    )  # which pixels of the map do not count, in its shape; None: all count
    latency_ms: Mapping[str, float] = field(
        repr=False
    )  # preprocess, inference, postprocess: its share of a batch

    @property
    def decided_by(self) -> DecidedBy | None:
        """What made the frame anomalous: "score", "peak" or "both"; None if it is good."""
        return Rule(self.threshold, self.peak_threshold).decided_by(self.score, self.peak)


@dataclass(frozen=True)
class Inspected:
    """A frame with its verdict."""

    frame: Frame
    verdict: Verdict
    unusual: tuple[str, ...] = ()  # quantities in which the last frames are unlike the calibration's


Result = Inspected | BadFrame

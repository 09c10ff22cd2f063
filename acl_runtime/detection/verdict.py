"""What the detector says about one frame, and what comes out of a stream of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.scoring.regions import Region


@dataclass(frozen=True)
class Verdict:
    """What the detector says about one frame."""

    score: float  # probability of a defect, 0 to 1
    peak: float  # largest value of the map, 0 to 1
    is_anomalous: bool  # as the detector's rule says
    margin: float  # log-odds from the other verdict, not negative if anomalous; see `Rule.margin`
    threshold: float  # smallest score that is anomalous
    peak_threshold: float | None  # smallest peak that is anomalous; None: the peak does not decide
    anomaly_map: npt.NDArray[np.float32]  # (S, S) in [0, 1], at network resolution; (h, w) of a tiled frame
    regions: tuple[Region, ...]  # in frame pixels, highest peak first
    latency_ms: Mapping[str, float]  # preprocess, inference, postprocess: a batch's time over its frames


@dataclass(frozen=True)
class Inspected:
    """A frame with its verdict."""

    frame: Frame
    verdict: Verdict
    unusual: tuple[str, ...] = ()  # quantities in which the last frames are unlike the calibration's


Result = Inspected | BadFrame

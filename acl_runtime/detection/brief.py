"""What the network says of an image, with its map or where that was left on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import FrameError

Answer = tuple[float, npt.NDArray[np.float32]] | FrameError
"""Log-odds and map of an image, or why there are none."""


@dataclass(frozen=True)
class BriefAnswer:
    """Log-odds and peak of an image whose map was left on the GPU."""

    logit: float
    peak: float


def brief_answer(
    logit: np.float32, peak: np.float32, total: np.float32, anomaly_map: npt.NDArray[np.float32] | None
) -> Answer | BriefAnswer:
    """The answer of a row of `Brief`: a map where it was fetched, and a FrameError where a number is not finite."""
    if not np.isfinite((logit, peak, total)).all():
        return FrameError(
            "image_logits and anomaly_maps must be finite, got nan or infinity; export with higher precision"
        )
    if anomaly_map is not None:
        return float(logit), np.clip(anomaly_map, 0, 1)
    return BriefAnswer(float(logit), float(np.clip(peak, 0, 1)))

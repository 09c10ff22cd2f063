"""Look at frames and say which show a defect, and where."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.backend import open_session
from acl_runtime.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.decision import Rule
from acl_runtime.heads import Answers, defect_direction, read_embeddings_head, read_map_head
from acl_runtime.manifest import Calibration, Tiling
from acl_runtime.maps import sigmoid
from acl_runtime.preprocess import check_frame, preprocess
from acl_runtime.regions import Region, find_regions

if TYPE_CHECKING:
    from acl_runtime.backend import Session


@dataclass(frozen=True)
class Verdict:
    """What the detector says about one frame."""

    score: float  # probability of a defect, 0 to 1
    peak: float  # largest value of the map, 0 to 1
    is_anomalous: bool  # as the detector's rule says
    margin: float  # log-odds from the other verdict, not negative if anomalous; see `Rule.margin`
    threshold: float  # smallest score that is anomalous
    peak_threshold: float | None  # smallest peak that is anomalous; None: the peak does not decide
    anomaly_map: npt.NDArray[np.float32]  # (S, S) in [0, 1], at network resolution
    regions: tuple[Region, ...]  # in frame pixels, highest peak first
    latency_ms: Mapping[str, float]  # preprocess, inference, postprocess: a batch's time over its frames


def bundle_rule(calibration: Calibration) -> Rule:
    """What a bundle's thresholds say."""
    peak = calibration.map_threshold if calibration.rule == "score or peak" else None
    return Rule(calibration.score_threshold, peak)


class Detector:
    """A bundle with its graph loaded; call it with a frame to get a Verdict.

    Both heads give the same verdict. Frames are (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or
    uint16; sizes may differ from frame to frame.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        backend: str = "auto",
        provider: str = "auto",
        session: Session | None = None,
        threshold: float | None = None,
        tiling: Tiling | Literal["bundle"] | None = "bundle",
    ) -> None:
        """Load the graph.

        Args:
            bundle: A loaded bundle, or the path of one.
            backend: What runs the graph; see `Backend`.
            provider: Where ONNX Runtime computes; see `OnnxSession`.
            session: What to compute with instead, whatever the backend; it may give the outputs of either
                head.
            threshold: Smallest score that makes a frame anomalous, and then the only rule; None for the
                bundle's own rule.
            tiling: How large frames are cut; None to squash each whole, "bundle" for what the bundle's
                thresholds were measured with.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        manifest = self.bundle.manifest
        self.tiling = manifest.calibration.tiling if tiling == "bundle" else tiling
        self.rule = bundle_rule(manifest.calibration) if threshold is None else Rule(threshold, None)
        text_embeddings = load_text_embeddings(self.bundle)
        self._direction = defect_direction(text_embeddings, temperature=manifest.temperature)
        self._session = session or open_session(self.bundle, backend=backend, provider=provider)

    def __call__(self, frame: np.ndarray) -> Verdict:
        """The verdict on one frame."""
        return self.detect([frame])[0]

    def detect(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        """The verdicts on frames, in their order, computed in batches of the bundle's `max_batch` at most."""
        for frame in frames:
            check_frame(frame)
        size = self.bundle.manifest.max_batch
        batches = [frames[start : start + size] for start in range(0, len(frames), size)]
        return [verdict for batch in batches for verdict in self._detect_batch(batch)]

    def _detect_batch(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        started = time.perf_counter()
        images = preprocess(frames, image_size=self.bundle.manifest.image_size)
        preprocessed = time.perf_counter()
        outputs = self._session(images)
        inferred = time.perf_counter()
        image_logits, anomaly_maps = self._read(outputs)
        scores = sigmoid(image_logits.astype(np.float64)).tolist()
        regions = [self._find_regions(*pair) for pair in zip(anomaly_maps, frames, strict=True)]
        finished = time.perf_counter()
        per_frame = 1000 / len(frames)
        latency_ms = {
            "preprocess": (preprocessed - started) * per_frame,
            "inference": (inferred - preprocessed) * per_frame,
            "postprocess": (finished - inferred) * per_frame,
        }
        return [
            self._verdict(score, anomaly_map, found, latency_ms)
            for score, anomaly_map, found in zip(scores, anomaly_maps, regions, strict=True)
        ]

    def _verdict(
        self,
        score: float,
        anomaly_map: npt.NDArray[np.float32],
        regions: tuple[Region, ...],
        latency_ms: Mapping[str, float],
    ) -> Verdict:
        rule, peak = self.rule, float(anomaly_map.max())
        return Verdict(
            score,
            peak,
            rule.is_anomalous(score, peak),
            rule.margin(score, peak),
            rule.score_threshold,
            rule.peak_threshold,
            anomaly_map,
            regions,
            latency_ms,
        )

    def _read(self, outputs: Mapping[str, np.ndarray]) -> Answers:
        manifest = self.bundle.manifest
        if "anomaly_maps" in outputs or manifest.head == "map":
            return read_map_head(outputs, manifest)
        return read_embeddings_head(outputs, manifest, self._direction)

    def _find_regions(self, anomaly_map: np.ndarray, frame: np.ndarray) -> tuple[Region, ...]:
        threshold = self.bundle.manifest.calibration.map_threshold
        height, width = frame.shape[:2]
        return find_regions(anomaly_map, threshold=threshold, frame_width=width, frame_height=height)

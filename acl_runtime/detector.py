"""Look at frames and say which show a defect, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.backend import open_session, warn
from acl_runtime.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.decision import Rule
from acl_runtime.heads import Answers, Session, defect_direction, read_head
from acl_runtime.manifest import Calibration, Tiling
from acl_runtime.maps import sigmoid
from acl_runtime.preprocess import check_frame, preprocess
from acl_runtime.regions import Region, find_regions
from acl_runtime.tiled import judge_tiled
from acl_runtime.tiles import TilePlan, plan_tiles, tile_side


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


def bundle_rule(calibration: Calibration) -> Rule:
    """What a bundle's thresholds say."""
    peak = calibration.map_threshold if calibration.rule == "score or peak" else None
    return Rule(calibration.score_threshold, peak)


class Stopwatch:
    """Adds up the time between laps, in milliseconds, by the name of what was done."""

    def __init__(self) -> None:
        self.laps_ms = dict.fromkeys(("preprocess", "inference", "postprocess"), 0.0)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap to a stage."""
        now = time.perf_counter()
        self.laps_ms[stage] += 1000 * (now - self._last)
        self._last = now


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
        tell: Callable[[str], None] = warn,
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
            tell: Called with what the user should know about the backend, a sentence each.
            threshold: Smallest score that makes a frame anomalous, and then the only rule; None for the
                bundle's own rule.
            tiling: How large frames are cut; None to squash each whole, "bundle" for what the bundle's
                thresholds were measured with.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        manifest = self.bundle.manifest
        self.tiling = manifest.calibration.tiling if tiling == "bundle" else tiling
        if self.tiling is not None:
            tile_side(
                self.tiling, image_size=manifest.image_size, grid=manifest.grid
            )  # refuses what cannot be
        self.rule = bundle_rule(manifest.calibration) if threshold is None else Rule(threshold, None)
        text_embeddings = load_text_embeddings(self.bundle)
        self._direction = defect_direction(text_embeddings, temperature=manifest.temperature)
        self.session = session or open_session(self.bundle, backend=backend, provider=provider, tell=tell)

    def close(self) -> None:
        """Give back what the session holds, a GPU's memory above all; the detector cannot be used any more."""
        close = getattr(self.session, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def backend(self) -> str:
        """Name of the class that computes, such as OnnxSession."""
        return type(self.session).__name__

    @property
    def provider(self) -> str:
        """Where it computes, such as CPUExecutionProvider; empty where the backend knows only one place."""
        return str(getattr(self.session, "provider", ""))

    def __call__(self, frame: np.ndarray) -> Verdict:
        """The verdict on one frame."""
        return self.detect([frame])[0]

    def detect(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        """The verdicts on frames, in their order, computed in batches of the bundle's `max_batch` at most.

        A frame that is cut into tiles has batches of its own.
        """
        for frame in frames:
            check_frame(frame)
        if self.tiling is not None:
            return [self._detect_tiled(frame) for frame in frames]
        size = self.bundle.manifest.max_batch
        batches = [frames[start : start + size] for start in range(0, len(frames), size)]
        return [verdict for batch in batches for verdict in self._detect_batch(batch)]

    def _detect_batch(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        watch = Stopwatch()
        image_logits, anomaly_maps = self._judge(frames, watch)
        answers = zip(image_logits.tolist(), anomaly_maps, frames, strict=True)
        verdicts = [self._verdict(*answer) for answer in answers]
        watch.lap("postprocess")
        latency_ms = {stage: ms / len(frames) for stage, ms in watch.laps_ms.items()}
        return [replace(verdict, latency_ms=latency_ms) for verdict in verdicts]

    def plan_tiles(self, height: int, width: int) -> TilePlan | None:
        """How a frame of this size is cut; None if it is squashed whole."""
        if self.tiling is None:
            return None
        manifest = self.bundle.manifest
        plan = plan_tiles(height, width, self.tiling, image_size=manifest.image_size, grid=manifest.grid)
        return plan if len(plan) > 1 else None

    def _detect_tiled(self, frame: np.ndarray) -> Verdict:
        plan = self.plan_tiles(*frame.shape[:2])
        if plan is None:
            return self._detect_batch([frame])[0]
        watch = Stopwatch()
        image_logit, anomaly_map = judge_tiled(
            frame, plan, lambda tiles: self._judge(tiles, watch), max_batch=self.bundle.manifest.max_batch
        )
        verdict = self._verdict(image_logit, anomaly_map, frame)
        watch.lap("postprocess")
        return replace(verdict, latency_ms=watch.laps_ms)

    def _judge(self, frames: Sequence[np.ndarray], watch: Stopwatch) -> Answers:
        """Log-odds and maps of as many frames, or tiles, as the graph takes at once."""
        watch.lap("postprocess")  # of the tiles before
        images = preprocess(frames, image_size=self.bundle.manifest.image_size)
        watch.lap("preprocess")
        outputs = self.session(images)
        watch.lap("inference")
        return read_head(outputs, self.bundle.manifest, self._direction)

    def _verdict(
        self, image_logit: float, anomaly_map: npt.NDArray[np.float32], frame: np.ndarray
    ) -> Verdict:
        rule, peak = self.rule, float(anomaly_map.max())
        score = float(sigmoid(np.float64(image_logit)))
        return Verdict(
            score,
            peak,
            rule.is_anomalous(score, peak),
            rule.margin(score, peak),
            rule.score_threshold,
            rule.peak_threshold,
            anomaly_map,
            self._find_regions(anomaly_map, frame),
            latency_ms={},
        )

    def _find_regions(self, anomaly_map: np.ndarray, frame: np.ndarray) -> tuple[Region, ...]:
        threshold = self.bundle.manifest.calibration.map_threshold
        height, width = frame.shape[:2]
        return find_regions(anomaly_map, threshold=threshold, frame_width=width, frame_height=height)

"""Look at frames and say which show a defect, and where."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.choose import open_session
from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle, load_bundle, load_text_embeddings
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.detection.verdict import Verdict
from acl_runtime.files.errors import InputError
from acl_runtime.images.blend import judge_tiled
from acl_runtime.images.preprocess import check_frame, check_size, choose_resize, preprocess, to_input
from acl_runtime.images.tiles import TilePlan, plan_tiles, tile_side
from acl_runtime.scoring.heads import Answers, defect_directions, read_head
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.patch_memory import Memory, load_memory
from acl_runtime.scoring.regions import Region, find_regions
from acl_runtime.scoring.rule import Rule, bundle_rule

if TYPE_CHECKING:
    from acl_runtime.detection.stream import Stream


STAGES = ("preprocess", "inference", "postprocess")


class Stopwatch:
    """Adds up the time between laps, in milliseconds, by the name of what was done."""

    def __init__(self) -> None:
        self.laps_ms = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def start(self) -> None:
        """Forget the time since the last lap."""
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap to a stage."""
        now = time.perf_counter()
        self.laps_ms[stage] += 1000 * (now - self._last)
        self._last = now


@dataclass
class Work:
    """Frames on their way through the stages.

    Attributes:
        frames: As the camera gave them.
        images: The graph's input; None for a frame that is judged tile by tile.
        answers: Log-odds and maps, once they are known.
        watch: What each stage took.
    """

    frames: Sequence[np.ndarray]
    images: npt.NDArray[np.uint8] | None = None
    answers: Answers | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)


class Detector:
    """A bundle with its graph loaded; call it with a frame to get a Verdict.

    Both heads give the same verdict. Frames are (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or
    uint16; sizes may differ from frame to frame, unless the graph itself resizes (`Manifest.frame_size`).
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        backend: str = "auto",
        provider: str = "auto",
        session: Session | None = None,
        time_limit_s: float | None = None,
        threshold: float | None = None,
        tiling: Tiling | Literal["bundle"] | None = "bundle",
        fast_resize: bool = False,
    ) -> None:
        """Load the graph.

        Args:
            bundle: A loaded bundle, or the path of one.
            backend: What runs the graph; see `Backend`.
            provider: Where ONNX Runtime computes; see `OnnxSession`.
            session: What to compute with instead, whatever the backend; it may give the outputs of either
                head.
            time_limit_s: Longest that a call of the network may take, see `open_session`; for a service that must not
                hang.
            threshold: Smallest score that makes a frame anomalous, and then the only rule; None for the
                bundle's own rule.
            tiling: How large frames are cut; None to squash each whole, "bundle" for what the bundle's
                thresholds were measured with.
            fast_resize: Whether frames and tiles are resized nearly as by Pillow, but faster; see `fast_resize.py`.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        manifest = self.bundle.manifest
        self.tiling = manifest.calibration.tiling if tiling == "bundle" else tiling
        if self.tiling is not None:
            if manifest.frame_size is not None:
                raise InputError(
                    f"{self.bundle.path}: was exported with --frame-size and takes whole frames; export one without it "
                    "to cut them into tiles"
                )
            tile_side(
                self.tiling, image_size=manifest.image_size, grid=manifest.grid
            )  # refuses what cannot be
        self.fast_resize = fast_resize
        self._resize = choose_resize(manifest, fast=fast_resize)
        self.rule = bundle_rule(manifest.calibration) if threshold is None else Rule(threshold, None)
        self._directions = defect_directions(
            load_text_embeddings(self.bundle), temperature=manifest.temperature
        )
        self._memory = load_memory(self.bundle)
        self.session = session or open_session(
            self.bundle, backend=backend, provider=provider, time_limit_s=time_limit_s
        )

    def with_memory(self, memory: Memory | None) -> Detector:
        """The same detector, on the same session, with another memory of good parts, or by the text alone."""
        other = copy.copy(self)
        other._memory = memory
        return other

    def close(self) -> None:
        """Give back what the session holds, a GPU's memory above all; the detector cannot be used any more."""
        self.session.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def backend(self) -> str:
        """What computes, such as "onnxruntime"; see `Session`."""
        return self.session.backend

    @property
    def provider(self) -> str:
        """Where it computes, such as "CPUExecutionProvider"; see `Session`."""
        return self.session.provider

    def __call__(self, frame: np.ndarray) -> Verdict:
        """The verdict on one frame."""
        return self.detect([frame])[0]

    def detect(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        """The verdicts on frames, in their order, computed in batches of the bundle's `max_batch` at most.

        A frame that is cut into tiles has batches of its own.
        """
        for frame in frames:
            self.check_frame(frame)
        size = self.largest_group
        groups = [frames[start : start + size] for start in range(0, len(frames), size)]
        return [verdict for group in groups for verdict in self.conclude(self.infer(self.prepare(group)))]

    def stream(
        self,
        frames: Iterable[np.ndarray],
        *,
        batch: int = 1,
        max_latency_ms: float | None = MAX_LATENCY_MS,
        drop_oldest: bool = False,
    ) -> Stream[np.ndarray]:
        """Verdicts on frames as they come: reading, preprocessing and inference overlap, order kept.

        Args:
            frames: Read in a thread of its own, and no faster than they are judged. What it raises, or a frame that is
                none, is raised in its place, after the verdicts before it.
            batch: Frames to judge together, at most the bundle's `max_batch`.
            max_latency_ms: Longest that a frame waits for its batch to fill; None for as long as it takes.
            drop_oldest: Drop the oldest frame that waits where frames come faster than they are judged; counted in
                `Stream.dropped`.

        Returns:
            Pairs of frame and verdict, to be iterated once; `close` ends it early.
        """
        from acl_runtime.detection.stream import Stream

        return Stream(
            self,
            frames,
            lambda frame: frame,
            batch=batch,
            max_latency_ms=max_latency_ms,
            drop_oldest=drop_oldest,
        )

    def check_frame(self, frame: np.ndarray) -> None:
        """Raise ValueError unless it is a frame, and of the size that the bundle's graph takes."""
        check_frame(frame)
        check_size(frame, self.bundle.manifest)

    def check_batch(self, batch: int) -> None:
        """Raise ValueError unless the bundle takes so many frames at once."""
        largest = self.bundle.manifest.max_batch
        if not 1 <= batch <= largest:
            raise InputError(f"batch must lie in 1..{largest} (the bundle's max_batch), got {batch}")

    @property
    def largest_group(self) -> int:
        """Most frames to prepare together: the bundle's `max_batch`; one where frames are cut into tiles."""
        return self.bundle.manifest.max_batch if self.tiling is None else 1

    def prepare(self, frames: Sequence[np.ndarray]) -> Work:
        """First stage: the graph's input, of at most `largest_group` frames."""
        work = Work(frames)
        if self.plan_tiles(*frames[0].shape[:2]) is None:
            work.images = to_input(frames, self.bundle.manifest, self._resize)
            work.watch.lap("preprocess")
        return work

    def infer(self, work: Work) -> Work:
        """Second stage: the network; of a tiled frame all but the verdict."""
        work.watch.start()
        if work.images is not None:
            outputs = self.session(work.images)
            work.watch.lap("inference")
            work.images = None
            work.answers = self._read(outputs)
        else:
            work.answers = self._judge_tiled(work.frames[0], work.watch)
        work.watch.lap("postprocess")
        return work

    def conclude(self, work: Work) -> list[Verdict]:
        """Last stage: the verdicts."""
        assert work.answers is not None
        work.watch.start()
        image_logits, anomaly_maps = work.answers
        answers = zip(image_logits.tolist(), anomaly_maps, work.frames, strict=True)
        verdicts = [self._verdict(*answer) for answer in answers]
        work.watch.lap("postprocess")
        latency_ms = {stage: ms / len(work.frames) for stage, ms in work.watch.laps_ms.items()}
        return [replace(verdict, latency_ms=latency_ms) for verdict in verdicts]

    def plan_tiles(self, height: int, width: int) -> TilePlan | None:
        """How a frame of this size is cut; None if it is squashed whole."""
        if self.tiling is None:
            return None
        manifest = self.bundle.manifest
        plan = plan_tiles(height, width, self.tiling, image_size=manifest.image_size, grid=manifest.grid)
        return plan if len(plan) > 1 else None

    def _read(self, outputs: Mapping[str, np.ndarray]) -> Answers:
        return read_head(outputs, self.bundle.manifest, self._directions, self._memory)

    def _judge_tiled(self, frame: np.ndarray, watch: Stopwatch) -> Answers:
        plan = self.plan_tiles(*frame.shape[:2])
        assert plan is not None

        def judge(tiles: Sequence[np.ndarray]) -> Answers:
            watch.lap("postprocess")  # of the tiles before
            images = preprocess(tiles, image_size=self.bundle.manifest.image_size, resize=self._resize)
            watch.lap("preprocess")
            outputs = self.session(images)
            watch.lap("inference")
            return self._read(outputs)

        image_logit, anomaly_map = judge_tiled(frame, plan, judge, max_batch=self.bundle.manifest.max_batch)
        return np.array([image_logit], np.float32), anomaly_map[None]

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

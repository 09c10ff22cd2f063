"""The three stages of a verdict: cut and resize, run the network, read its answers.

Whole frames and tiles are images like any other: what goes through the stages is a batch of images, each owned by a
frame. Frames share a batch, and a large frame has several, so that no more than a batch is held at a time. The images
of a batch are prepared on several cores.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.gpu_pixels import GpuPixels
from acl_runtime.backends.session import Brief, BriefSession, GpuSession, Session
from acl_runtime.bundle.manifest import Manifest, Tiling
from acl_runtime.detection.brief import Answer, BriefAnswer, brief_answer
from acl_runtime.detection.gpu_frame import GpuFrame
from acl_runtime.detection.verdict import Inspected, Result, Verdict
from acl_runtime.files.errors import BackendError, FrameError
from acl_runtime.images.blend import Blend, Place, cut
from acl_runtime.images.frame import FRAME_FAULTS, BadFrame, Frame, bad_frame, check_size
from acl_runtime.images.ignore import Ignore, on_patches
from acl_runtime.images.preprocess import Resize, stack, to_image
from acl_runtime.images.tiles import TilePlan, plan_tiles
from acl_runtime.scoring.heads import Answers, NotFiniteError, read_head
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.regions import Region, find_regions, hottest_region
from acl_runtime.scoring.rule import Rule

STAGES = ("preprocess", "inference", "postprocess")
LOG = logging.getLogger("acl")
MOST_NOTES = 3  # on how frames are cut: a folder may hold pictures of many sizes
LONG_S = 10.0  # a frame that takes longer is announced
MOST_WORKERS = 16  # that prepare images: a GPU's batch is not prepared any faster by more

Made = TypeVar("Made")
MapsOf = Literal["all", "defects"]
"""Of which frames a verdict has the map."""


@dataclass(kw_only=True, eq=False)
class Job:
    """A frame on its way to a verdict.

    Attributes:
        frame: As it came.
        painted: The frame, painted over where it does not count; None where all of it does.
        blend: Where its tiles lie, and what their maps add up to; None for a frame that is squashed whole.
        tiles: How many.
        logit: Log-odds of a defect so far, the largest of any tile.
        whole_map: Of a frame that is squashed whole, (S, S) float32, once it is known; (0, 0) where it was left on the
            GPU.
        peak: Of a map that was left there; None where the map says it.
        fault: Why the frame cannot be judged.
        latency_ms: What each stage took for it; of a call of the network, and of images that were prepared together,
            its share.
    """

    frame: Frame
    painted: np.ndarray | None = None
    blend: Blend | None = None
    tiles: int = 1
    logit: float = -np.inf
    whole_map: npt.NDArray[np.float32] | None = None
    peak: float | None = None
    fault: BaseException | None = None
    latency_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def timed(self, stage: str, call: Callable[..., Made], *arguments: object) -> Made | None:
        """Call something for the frame, and count its time to a stage; None once the frame is known to be bad."""
        if self.fault is not None:
            return None
        started = time.perf_counter()
        try:
            return call(*arguments)
        except FRAME_FAULTS as fault:
            self.fault = fault
            return None
        finally:
            self.latency_ms[stage] += 1000 * (time.perf_counter() - started)


@dataclass(kw_only=True, eq=False)
class Work:
    """A batch of images on its way through the stages.

    Attributes:
        images: Each as the graph takes it, without the leading axis, or on the GPU; empty once the network has seen
            them.
        owners: Of each image, the frame, and its place there; None for the whole of it.
        ended: Frames whose last image is in this batch, and bad ones after it, in their order.
        returned: What the network returned, of how many images each.
        share_ms: What it took, for each image.
    """

    images: list[npt.NDArray[np.uint8] | GpuPixels] = field(default_factory=list)
    owners: list[tuple[Job, Place | None]] = field(default_factory=list)
    ended: list[Job | BadFrame] = field(default_factory=list)
    returned: list[tuple[Mapping[str, np.ndarray] | Brief, int]] = field(default_factory=list)
    share_ms: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """What a detector does with frames, stage by stage; a frame that fails becomes a BadFrame in its place.

    Attributes:
        manifest: Of the bundle.
        session: Runs its graph.
        resize: Resizes frames and tiles, see `choose_resize`.
        tiling: How large frames are cut; None to squash each whole.
        directions: See `defect_directions`.
        memory: Of good parts; None where the text judges alone.
        rule: When a frame is anomalous.
        ignore: What of a frame does not count; None where all does.
        maps: "all", or "defects" to leave on the GPU the maps of frames that are good and have no region, where the
            session can, all of a frame counts, and frames are not cut.
        workers: Images that are prepared at once, each on a core.
    """

    manifest: Manifest
    session: Session
    resize: Resize
    tiling: Tiling | None
    directions: npt.NDArray[np.float32]
    memory: Memory | None
    rule: Rule
    ignore: Ignore | None = None
    maps: MapsOf = "all"
    workers: int = min(os.cpu_count() or 1, MOST_WORKERS)
    _noted: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def calls(self) -> int:
        """Calls of the session that are worth making at once."""
        return getattr(self.session, "slots", 1)

    def judge(self, frames: Iterable[Frame | BadFrame]) -> Iterator[Result]:
        """The results on frames, in their order, one stage after the other."""
        for work in self.preprocess(frames):
            yield from self.postprocess(self.infer(work))

    def preprocess(self, frames: Iterable[Frame | BadFrame]) -> Iterator[Work]:
        """First stage: plan each frame, and make batches of images, of the bundle's `max_batch` at most."""
        work = Work()
        for frame in frames:
            if isinstance(frame, BadFrame):
                work.ended.append(frame)
                continue
            job = Job(frame=frame)
            for place in job.timed("preprocess", self._places, job) or ():
                if len(work.owners) == self.manifest.max_batch:
                    yield self._prepare(work)
                    work = Work()
                if job.fault is not None:
                    break
                work.owners.append((job, place))
            work.ended.append(job)
        if work.ended:
            yield self._prepare(work)

    def infer(self, work: Work) -> Work:
        """Second stage: the network; several threads may be in it, see `calls`."""
        if work.images:
            images, work.images = work.images, []
            is_whole = all(place is None for _, place in work.owners)
            started = time.perf_counter()
            for on_gpu, run in groupby(images, key=lambda image: isinstance(image, GpuPixels)):
                batch = list(run)
                given = batch if on_gpu else stack(batch)  # type: ignore[arg-type]
                returned = self._briefly(given) if is_whole else None
                work.returned.append((self.session(given) if returned is None else returned, len(batch)))  # type: ignore[arg-type]
            work.share_ms = 1000 * (time.perf_counter() - started) / len(images)
            self._announce(work, work.share_ms)
        return work

    def postprocess(self, work: Work) -> list[Result]:
        """Last stage: the results on the frames that end in this batch."""
        started = time.perf_counter()
        answers, ignored, first = list[Answer | BriefAnswer](), self._ignored(work), 0
        for returned, count in work.returned:
            masks = None if ignored is None else ignored[first : first + count]
            answers += self._answers(returned, count, masks)
            first += count
        share_ms = 1000 * (time.perf_counter() - started) / max(len(answers), 1)
        for (job, place), answer in zip(work.owners, answers, strict=True):
            job.latency_ms["inference"] += work.share_ms
            job.latency_ms["postprocess"] += share_ms
            job.timed("postprocess", self._take, job, place, answer)
        return [job if isinstance(job, BadFrame) else self._conclude(job) for job in work.ended]

    def _briefly(self, images: Any) -> Brief | None:
        """What the network says of whole frames, without the maps that nobody needs; None where it cannot leave any."""
        session = self.session
        is_asked = self.maps == "defects" and self.memory is None and self.manifest.head == "map"
        if (
            not is_asked
            or self.ignore is not None
            or not isinstance(session, BriefSession)
            or not session.can_be_brief
        ):
            return None
        return session.brief(images, self._want_maps)

    def _want_maps(self, logits: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        """Of which images the map is wanted: those that the rule or the regions' threshold speaks against.

        What is not finite is read as a fault, with or without a map.
        """
        peaks = np.clip(peaks, 0, 1)
        wanted = peaks >= self.manifest.calibration.regions_from  # in float32, as a region is compared
        for row in np.flatnonzero(np.isfinite(logits) & np.isfinite(peaks) & ~wanted).tolist():
            score = float(sigmoid(np.float64(logits[row])))
            wanted[row] = self.rule.is_anomalous(score, float(peaks[row]))
        return np.asarray(wanted, bool)

    def _answers(
        self, returned: Mapping[str, np.ndarray] | Brief, count: int, ignored: npt.NDArray[np.bool_] | None
    ) -> list[Answer | BriefAnswer]:
        if isinstance(returned, Brief):
            return [*map(brief_answer, returned.image_logits, returned.peaks, returned.sums, returned.maps)]
        return [*self.read(returned, count, ignored)]

    def _places(self, job: Job) -> Iterable[Place | None]:
        """Where the images of a frame lie in it; one None for a frame that is squashed whole."""
        check_size(job.frame, self.manifest)
        if self.ignore is not None:
            self.ignore.check_size(*job.frame.size)
            job.painted = self.ignore.paint(job.frame.frame)
        if self.tiling is None:
            return (None,)
        height, width = job.frame.size
        plan = plan_tiles(
            height, width, self.tiling, image_size=self.manifest.image_size, grid=self.manifest.grid
        )
        if len(plan) == 1:
            return (None,)
        self._note_plan(plan)
        job.blend, job.tiles = Blend(plan), len(plan)
        return job.blend.places

    def _prepare(self, work: Work) -> Work:
        """Make the images of a batch, several at once; those of a frame that turns out to be bad are left out."""
        started = time.perf_counter()
        made: list[npt.NDArray[np.uint8] | GpuPixels | BaseException]
        if self.workers > 1 and len(work.owners) > 1:
            made = list(_threads(os.getpid(), self.workers).map(self._image, work.owners))
        else:
            made = [self._image(owner) for owner in work.owners]
        share_ms = 1000 * (time.perf_counter() - started) / max(len(made), 1)
        for (job, _), image in zip(work.owners, made, strict=True):
            job.latency_ms["preprocess"] += share_ms
            if isinstance(image, BaseException) and job.fault is None:
                job.fault = image
        kept = [(owner, image) for owner, image in zip(work.owners, made, strict=True) if not owner[0].fault]
        work.owners = [owner for owner, _ in kept]
        work.images = [image for _, image in kept if not isinstance(image, BaseException)]
        return work

    def _image(self, owner: tuple[Job, Place | None]) -> npt.NDArray[np.uint8] | GpuPixels | BaseException:
        """An image as the graph takes it, or why there is none."""
        job, place = owner
        try:
            if (
                self.ignore is None
                and isinstance(job.frame, GpuFrame)
                and isinstance(self.session, GpuSession)
            ):
                self.session.check_on_gpu(job.frame.pixels)
                return job.frame.pixels
            whole = job.frame.frame if job.painted is None else job.painted
            pixels = whole if place is None else cut(whole, place)
            return to_image(pixels, self.manifest, self.resize)
        except FRAME_FAULTS as fault:
            return fault

    def ignored_patches(self, place: Place | None) -> npt.NDArray[np.bool_] | None:
        """Which patches of the image at a place of a frame do not count, (G, G); None where all do."""
        if self.ignore is None:
            return None
        mask = self.ignore.mask if place is None else cut(self.ignore.mask, place)
        return on_patches(mask, self.manifest.grid)

    def _ignored(self, work: Work) -> npt.NDArray[np.bool_] | None:
        """Which patches of a batch do not count for a memory, (B, G, G); None where all do, or of no images."""
        if self.ignore is None or self.memory is None or not work.owners:
            return None
        masks = (self.ignored_patches(place) for _, place in work.owners)
        return np.stack([mask for mask in masks if mask is not None])

    def read(
        self,
        outputs: Mapping[str, np.ndarray],
        count: int,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> list[Answer]:
        """What outputs of the session say of each of so many images; if one is not finite the others have theirs.

        Args:
            outputs: Of the session.
            count: Of images.
            ignored: (count, G, G) patches that do not count for a memory; None where all do.
        """
        for name, array in outputs.items():
            if array.shape[:1] != (count,):
                raise BackendError(
                    f"{name} must be of {count} images, got {array.shape}; export the bundle again"
                )
        try:
            return _rows(read_head(outputs, self.manifest, self.directions, self.memory, ignored))
        except NotFiniteError as error:
            if count == 1:
                return [FrameError(str(error))]
        answers: list[Answer] = []
        for row in range(count):
            one = {name: array[row : row + 1] for name, array in outputs.items()}
            answers += self.read(one, 1, None if ignored is None else ignored[row : row + 1])
        return answers

    def _take(self, job: Job, place: Place | None, answer: Answer | BriefAnswer) -> None:
        """Add what an image says to its frame; of one that is ignored altogether, no score."""
        if isinstance(answer, FrameError):
            raise answer
        if isinstance(answer, BriefAnswer):
            job.logit, job.peak, job.whole_map = answer.logit, answer.peak, np.empty((0, 0), np.float32)
            return
        logit, anomaly_map = answer
        ignored = None if place is None else self.ignored_patches(place)
        if ignored is None or not ignored.all():
            job.logit = max(job.logit, logit)
        if job.blend is None or place is None:
            job.whole_map = anomaly_map
        else:
            job.blend.add(anomaly_map, place)

    def _conclude(self, job: Job) -> Result:
        verdict = job.timed("postprocess", self._verdict, job)
        if verdict is None:
            assert job.fault is not None
            return bad_frame(job.frame, job.fault)
        return Inspected(job.frame, verdict)

    def _verdict(self, job: Job) -> Verdict:
        anomaly_map = job.whole_map if job.blend is None else job.blend.finish()
        assert anomaly_map is not None
        ignored = None if self.ignore is None else self.ignore.on_map(*anomaly_map.shape)
        if ignored is not None:
            anomaly_map = np.where(ignored, np.float32(0), anomaly_map)
        if job.logit == -np.inf:
            raise FrameError(
                "every tile lies in what is ignored; calibrate with a smaller mask, or without tiles"
            )
        rule, peak = self.rule, float(anomaly_map.max()) if job.peak is None else job.peak
        score = float(sigmoid(np.float64(job.logit)))
        is_anomalous = rule.is_anomalous(score, peak)
        return Verdict(
            score=score,
            peak=peak,
            is_anomalous=is_anomalous,
            margin=rule.margin(score, peak),
            threshold=rule.score_threshold,
            peak_threshold=rule.peak_threshold,
            regions=self._find_regions(anomaly_map, job.frame, is_anomalous=is_anomalous),
            region_threshold=self.manifest.calibration.regions_from,
            tiles=job.tiles,
            anomaly_map=anomaly_map,
            ignored=ignored,
            latency_ms=job.latency_ms,
        )

    def _find_regions(
        self, anomaly_map: np.ndarray, frame: Frame, *, is_anomalous: bool
    ) -> tuple[Region, ...]:
        if not anomaly_map.size:
            return ()  # it was left on the GPU, since no value of it reaches a region
        height, width = frame.size
        regions = find_regions(
            anomaly_map,
            threshold=self.manifest.calibration.regions_from,
            frame_width=width,
            frame_height=height,
        )
        if is_anomalous and not regions:
            return (hottest_region(anomaly_map, frame_width=width, frame_height=height),)
        return regions

    def _note_plan(self, plan: TilePlan) -> None:
        height, width = plan.rows.length, plan.columns.length
        if self._is_new("plan", height, width):
            side = plan.rows.spans[0].pixels
            LOG.info(
                "frames of %d×%d are cut into %d tiles of %d pixels",
                width,
                height,
                len(plan),
                side.stop - side.start,
            )

    def _announce(self, work: Work, tile_ms: float) -> None:
        """Say how long a frame of many tiles takes, once its first batch is done."""
        job = work.owners[-1][0]
        seconds = job.tiles * tile_ms / 1000
        if seconds > LONG_S and self._is_new("time", *job.frame.size):
            LOG.info("a frame of %d tiles takes about %.0f s here", job.tiles, seconds)

    def _is_new(self, what: str, height: int, width: int) -> bool:
        key = (what, height, width)
        if key in self._noted or sum(each[0] == what for each in tuple(self._noted)) == MOST_NOTES:
            return False
        self._noted.add(key)
        return True


@cache
def _threads(process: int, workers: int) -> ThreadPoolExecutor:
    """The threads of this process: after a fork those of the parent are not there."""
    return ThreadPoolExecutor(workers, thread_name_prefix="prepare")


def _rows(answers: Answers) -> list[Answer]:
    return list(zip(answers[0].tolist(), answers[1], strict=True))

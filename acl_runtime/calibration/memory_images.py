"""Fit a memory to some of the good images, before anything is judged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.session import Session
from acl_runtime.bundle.bundle import Bundle, load_text_embeddings
from acl_runtime.calibration.drawn_defects import draw_defects
from acl_runtime.calibration.images import Progress, pixel_digest
from acl_runtime.calibration.memory_choice import (
    CANDIDATES,
    LEAST_PLACES,
    MERGED,
    KindEvidence,
    Trial,
    choose_kinds,
    measure_labelled,
    measure_trials,
    possible,
)
from acl_runtime.calibration.memory_fit import PATCHES, Fitted, Shown, fit_memory, make_memory
from acl_runtime.calibration.memory_statistics import Statistics, network_digest
from acl_runtime.calibration.memory_trim import peaks_beside_others, trim
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import Frame
from acl_runtime.scoring.heads import defect_directions, read_embeddings
from acl_runtime.scoring.memory import Memory
from acl_runtime.scoring.memory_kinds import Floats, Kind
from acl_runtime.sources.files import Source, iter_frames, spread

MOST_PATCHES = 8192  # of one image that are looked at, whole tiles drawn at random: a large frame has many
HELD = 32  # images that are held at a time: a ViT-L's patches of so many are half a gigabyte
MOST_TRIED = 16  # images on which defects are drawn
MOST_DEFECTIVE = 32  # images that are known to be defective and choose the kind

LEAST_COMPARED = 2  # images; of one nothing is chosen
DEFAULT: tuple[Kind, ...] = ("subspace",)
OF_ONE: tuple[Kind, ...] = ("patches",)  # the subspace of a single image is too small, see docs/memory.md

ChosenBy = Literal["user", "drawn defects", "defective images", "default"]


@dataclass(frozen=True)
class FittedMemory:
    """A memory, what it is fitted to, and what chose its kind."""

    memory: Memory
    statistics: Statistics
    digests: dict[str, str]  # of the pixels of the images that were remembered now -> source
    chosen_by: ChosenBy
    evidence: tuple[KindEvidence, ...]
    peaks: Mapping[str, float]  # source -> log-odds of its map's peak by a memory of the others; may be empty


@dataclass(frozen=True)
class Request:
    """Which memory is wanted."""

    count: int  # distinct images to remember now
    kinds: tuple[Kind, ...] | None = None  # None: the ones that evidence chooses
    merged: tuple[tuple[str, Statistics], ...] = ()  # names and statistics of memories to add
    trimmed: float | None = None  # share of the images that may be defective: what is far is left out


@dataclass
class Recorder:
    """A session that keeps what it was shown and what it says about patches until it is taken.

    Attributes:
        session: What computes.
        bundle: Of the session; its head is "embeddings".
        images: Of each call (B, ...) uint8.
        embeddings: Of each call (B, G·G, L, D) float32.
        logits: Of each call (B, G·G, L) float32, log-odds by the text.
    """

    session: Session
    bundle: Bundle
    images: list[np.ndarray] = field(default_factory=list)
    embeddings: list[Floats] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the directions of the text once, not for every batch."""
        self.backend, self.provider = self.session.backend, self.session.provider
        manifest = self.bundle.manifest
        self._directions = defect_directions(
            load_text_embeddings(self.bundle), temperature=manifest.temperature
        )

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run the session."""
        outputs = self.session(images)
        _, logits, embeddings = read_embeddings(outputs, self.bundle.manifest, self._directions)
        self.images.append(images.copy())
        self.embeddings.append(embeddings.swapaxes(1, 2).copy())
        self.logits.append(logits.swapaxes(1, 2).copy())
        return outputs

    def close(self) -> None:
        """Close the session."""
        self.session.close()

    def take(self) -> tuple[np.ndarray, Floats, Floats]:
        """Return all images since the last call, (N, ...), with their embeddings and log-odds."""
        taken = np.concatenate(self.images), np.concatenate(self.embeddings), np.concatenate(self.logits)
        for each in (self.images, self.embeddings, self.logits):
            each.clear()
        return taken


@dataclass
class Looker:
    """Looks at frames as a detector does, and keeps what the network says about their patches."""

    detector: Detector
    rng: np.random.Generator

    def __post_init__(self) -> None:
        """Put a recorder between the detector and its session."""
        stages = self.detector.stages
        self.recorder = Recorder(self.detector.session, self.detector.bundle)
        self._stages = replace(stages, session=self.recorder, memory=None)

    def look(self, frame: Frame) -> tuple[Shown, npt.NDArray[np.uint8], Shown]:
        """Return what is said about a frame, and one of its network inputs with what is said about that.

        Raises:
            FrameError: It cannot be judged.
        """
        masks = []
        for work in self._stages.preprocess([frame]):
            masks += [self._stages.ignored_patches(place) for _, place in work.owners]
            for job, _ in work.owners:
                if job.fault is not None:
                    raise job.fault
            self._stages.infer(work)
        images, embeddings, logits = self.recorder.take()
        places = embeddings.shape[1]
        counted = np.stack([np.ones(places, np.bool_) if mask is None else ~mask.ravel() for mask in masks])
        rows = np.sort(self.rng.permutation(len(images))[: max(1, MOST_PATCHES // places)])
        one = int(self.rng.choice(rows))
        return (
            Shown(_flat(embeddings[rows]), _flat(logits[rows]), counted[rows].ravel()),
            images[one],
            Shown(embeddings[one], logits[one], counted[one]),
        )

    def draw_trials(self, image: int, shown: npt.NDArray[np.uint8], good: Shown) -> list[Trial]:
        """Draw defects on a network input of a remembered image, and look at them."""
        grid = self.detector.bundle.manifest.grid
        trials = []
        for damaged, cover in draw_defects(shown, grid, self.rng):
            self.recorder(damaged[None])
            _, embeddings, logits = self.recorder.take()
            trials.append(Trial(image, good, Shown(embeddings[0], logits[0], good.counted), cover))
        return trials


def check_memory(bundle: Bundle, request: Request) -> None:
    """Raise InputError unless such a memory can be fitted for a bundle."""
    if bundle.manifest.head != "embeddings":
        raise InputError(
            f'{bundle.path}: has head "{bundle.manifest.head}", which gives no patches to remember; export it with '
            "--head embeddings"
        )
    if bundle.manifest.windows:
        raise InputError(f"{bundle.path}: judges windows, which cannot be remembered; leave --memory out")
    if request.kinds is not None and "place" in request.kinds:
        images = request.count + sum(statistics.images for _, statistics in request.merged)
        if images < LEAST_PLACES:
            raise InputError(
                f"a mean at each place must be of at least {LEAST_PLACES} images, got {images}; remember more, or take "
                "another --memory-kind"
            )
        are_compared = request.count > 1 or any(statistics.place.count for _, statistics in request.merged)
        if not are_compared:  # each image came alone: nothing says how far good parts differ at a place
            raise InputError(
                "a mean at each place must be of images that were compared with each other, got single ones; remember "
                "2 or more now, or take another --memory-kind"
            )
    if request.merged and request.kinds is not None and "patches" in request.kinds:
        raise InputError("patches cannot be merged, only the kinds subspace and place; leave --merge out")


def fit_memory_to_images(
    detector: Detector,
    sources: Sequence[Source],
    request: Request,
    *,
    defective: Sequence[Source] = (),
    seed: int,
    progress: Progress,
) -> FittedMemory:
    """Fit a memory to some images, drawn at random whatever they show, and choose its kind.

    Images are looked at `HELD` at a time, and the sums of each batch added up, so that the machine's memory does not
    grow with their number; kind, peaks and what is unusual among them are found on the first batch.

    Args:
        detector: Computes their patches, with its tiling, its resize and what it ignores.
        sources: Images of good parts; those that cannot be read are passed over here.
        request: How many distinct images, which kinds and what to add.
        defective: Images that are known to be defective; they choose the kind in the place of drawn defects.
        seed: Seed of the draws.
        progress: Called after each image.

    Raises:
        InputError: The bundle gives no patches, or there are too few distinct images.
    """
    check_memory(detector.bundle, request)
    manifest = detector.bundle.manifest
    looker = Looker(detector, np.random.default_rng([seed, 3]))
    first: list[Shown] = []
    names: list[str] = []
    trials: list[Trial] = []
    digests: dict[str, str] = {}
    fitted: Fitted | None = None
    draws = request.kinds is None and not defective and request.trimmed is None
    draws = draws and request.count >= LEAST_COMPARED
    for batch in _batches(_distinct(sources, request, seed), request.count):
        images: list[Shown] = []
        for frame, digest in batch:
            shown, pixels, one = looker.look(frame)
            if draws and fitted is None and len(images) < MOST_TRIED:
                trials += looker.draw_trials(len(images), pixels, one)
            digests[digest] = frame.source
            images.append(shown)
            progress("fitting the memory", len(digests), request.count)
        if request.trimmed is not None:
            images = trim(images, request.trimmed, manifest.grid**2, seed=seed)
        part = fit_memory(
            images,
            places=manifest.grid**2,
            subject=network_digest(manifest),
            patches=-(-PATCHES * len(batch) // request.count),
            seed=seed,
        )
        if fitted is None:
            first, names = images, [frame.source for frame, _ in batch][: len(images)]
        fitted = part if fitted is None else fitted + part
    if len(digests) < request.count:
        raise InputError(
            f"good images must be more than the {request.count} to remember, all different, got {len(digests)}"
        )
    statistics = _add(fitted, digests, request.merged)
    evidence, chosen_by = _gather(looker, fitted, first, trials, defective, request, progress)
    kinds = request.kinds
    if kinds is None:
        kinds = choose_kinds(evidence) if evidence else _default(request)
    kept = () if fitted is None else (fitted.kept, fitted.distance)
    return FittedMemory(
        memory=make_memory(kinds, statistics, *kept),
        statistics=statistics,
        digests=digests,
        chosen_by=chosen_by,
        evidence=tuple(evidence),
        peaks={}
        if fitted is None or request.trimmed is not None or (len(first) == 1 and "place" in kinds)
        else dict(zip(names, peaks_beside_others(fitted, kinds, first, manifest), strict=True)),
    )


def _default(request: Request) -> tuple[Kind, ...]:
    return OF_ONE if request.count < LEAST_COMPARED and not request.merged else DEFAULT


def _distinct(sources: Sequence[Source], request: Request, seed: int) -> Iterator[tuple[Frame, str]]:
    """Frames in a random order with the digests of their pixels; none twice, and none that is remembered already."""
    rng = np.random.default_rng([seed, 2])  # not the draw of the images that set the scales
    known = {digest for _, statistics in request.merged for digest in statistics.digests}
    for item in iter_frames([sources[row] for row in rng.permutation(len(sources))]):
        if isinstance(item, Frame) and (digest := pixel_digest(item.frame)) not in known:
            known.add(digest)
            yield item, digest


def _batches(frames: Iterator[tuple[Frame, str]], count: int) -> Iterator[list[tuple[Frame, str]]]:
    """So many frames in batches of `HELD`; no batch is of one image unless there is only one."""
    left = count
    while left:
        size = left if left <= HELD + 1 else HELD
        if not (batch := list(itertools.islice(frames, size))):
            return
        yield batch
        left -= size


def _gather(
    looker: Looker,
    fitted: Fitted | None,
    images: Sequence[Shown],
    trials: Sequence[Trial],
    defective: Sequence[Source],
    request: Request,
    progress: Progress,
) -> tuple[list[KindEvidence], ChosenBy]:
    """Measure the kinds, where there is anything to choose."""
    if request.kinds is not None:
        return [], "user"
    if fitted is None or len(images) < LEAST_COMPARED:
        return [], "default"
    candidates = possible(MERGED if request.merged else CANDIDATES, images=len(images))
    if defective:
        if not (bad := _look_at_defective(looker, defective, progress)):
            return [], "default"  # none can be read, which whoever judges them tells
        return measure_labelled(fitted, images, bad, candidates), "defective images"
    found = measure_trials(fitted, trials, candidates)
    return found, "drawn defects" if found else "default"


def _look_at_defective(looker: Looker, sources: Sequence[Source], progress: Progress) -> list[Shown]:
    some = spread(sources, MOST_DEFECTIVE)
    shown: list[Shown] = []
    for item in iter_frames(some):
        if isinstance(item, Frame):  # others are told by whoever judges them
            shown.append(looker.look(item)[0])
        progress("choosing the kind of memory", len(shown), len(some))
    return shown


def _add(
    fitted: Fitted | None, digests: Mapping[str, str], merged: Sequence[tuple[str, Statistics]]
) -> Statistics:
    parts = [statistics for _, statistics in merged]
    if fitted is not None:
        parts.append(replace(fitted.statistics, digests=frozenset(digests)))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _flat(values: Floats) -> Floats:
    """(N, P, ...) as (N·P, ...)."""
    return values.reshape(-1, *values.shape[2:])

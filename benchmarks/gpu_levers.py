"""What each way to spare GPU or CPU work gains, on engines that were built and proven here; for `benchmarks.gpu`.

Engines of one batch size beside the range; one slot and two; maps that stay on the GPU; frames that are there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from acl_runtime.backends.parity import GoldenImages
from acl_runtime.backends.tensorrt.cuda import Cuda
from acl_runtime.backends.tensorrt.engine_file import Engine
from acl_runtime.backends.tensorrt.ladder import EngineOptions, make_engine
from acl_runtime.backends.tensorrt.library import Library
from acl_runtime.backends.tensorrt.session import SLOTS, TrtSession
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.detection.detector import Detector
from benchmarks.on_gpu import FrameOnGpu
from benchmarks.timing import time_block

STREAMED = 8  # batches of a stream, for each that is timed


@dataclass(frozen=True)
class Timed:
    """One way.

    Attributes:
        what: Which.
        batch: Frames at once.
        latency_ms: Median time of a batch, from frames to verdicts; of a stream its share.
        image_logits: Worst difference from torch in float32 on the golden images, log-odds.
        anomaly_map: Worst difference, probability.
    """

    what: str
    batch: int
    latency_ms: float
    image_logits: float
    anomaly_map: float


@dataclass(frozen=True)
class Place:
    """A GPU and a TensorRT, and how often to measure."""

    cuda: Cuda
    library: Library
    batches: Sequence[int]
    turns: int

    def build(self, bundle: Bundle, smallest: int, largest: int) -> Engine:
        """An engine that was proven; RuntimeError if none holds."""
        options = EngineOptions(min_batch=smallest, max_batch=largest)
        engine = make_engine(bundle, self.library, self.cuda, options, progress=lambda *_: None)[-1].engine
        assert engine is not None
        return engine

    def open(self, bundle: Bundle, engine: Engine, *, slots: int = SLOTS) -> TrtSession:
        """A session on this GPU."""
        return TrtSession(bundle, engine, library=self.library, cuda=self.cuda, slots=slots)

    def time(self, what: str, detector: Detector, batch: int, call: Callable[[int], None]) -> Timed:
        """Parity, and the median time of `call`."""
        found = GoldenImages(detector.bundle).compare(detector.session, batch=batch)
        seconds = [clock.wall_s for clock in time_block(call, range(self.turns))]
        return Timed(what, batch, 1000 * float(np.median(seconds)), found.image_logits, found.anomaly_map)


def measure(place: Place, bundle: Bundle, framed: Bundle | None, frame: np.ndarray) -> Iterator[Timed]:
    """Every way.

    Args:
        place: Where.
        bundle: For frames of any size.
        framed: The same with `--frame-size`; None to leave out frames that are on the GPU.
        frame: (H, W, 3) uint8, of that size.
    """
    most = max(place.batches)
    ranged = place.build(bundle, 1, most)
    yield from one_size_each(place, bundle, frame)
    yield from slots(place, bundle, ranged, frame)
    yield from maps(place, bundle, ranged, frame)
    if framed is not None:
        yield from frames_on_gpu(place, framed, frame)


def one_size_each(place: Place, bundle: Bundle, frame: np.ndarray) -> Iterator[Timed]:
    """Engines of a batch size each, to be compared with the range's."""
    for batch in place.batches:
        with Detector(bundle, session=place.open(bundle, place.build(bundle, batch, batch))) as detector:
            frames = [frame] * batch
            yield place.time("engine of this batch size alone", detector, batch, _detect(detector, frames))


def slots(place: Place, bundle: Bundle, engine: Engine, frame: np.ndarray) -> Iterator[Timed]:
    """A stream of frames by one slot, and by two."""
    for count in (1, 2):
        with Detector(bundle, session=place.open(bundle, engine, slots=count)) as detector:
            for batch in place.batches:
                frames = [frame] * batch * STREAMED

                def stream(
                    turn: int, detector: Detector = detector, frames: list[np.ndarray] = frames
                ) -> None:
                    batch = len(frames) // STREAMED
                    results = detector.stream(frames, batch=batch, max_latency_ms=None, copy=False)
                    assert len(list(islice(results, len(frames)))) == len(frames)

                timed = place.time(f"stream, slots: {count}", detector, batch, stream)
                yield Timed(**{**vars(timed), "latency_ms": timed.latency_ms / STREAMED})


def maps(place: Place, bundle: Bundle, engine: Engine, frame: np.ndarray) -> Iterator[Timed]:
    """Verdicts with all maps, and with those of defects, of which there are none."""
    session = place.open(bundle, engine)
    frames = [frame] * session.max_batch
    with Detector(bundle, session=session, threshold=1.0) as full:
        brief = Detector(bundle, session=session, threshold=1.0, maps="defects")
        for name, detector in (("all", full), ("defects", brief)):
            what = f"maps: {name}"
            left = sum(not verdict.anomaly_map.size for verdict in detector.detect(frames))
            told = f"{what}, {left} of {len(frames)} left" if name == "defects" else what
            yield place.time(told, detector, len(frames), _detect(detector, frames))


def frames_on_gpu(place: Place, framed: Bundle, frame: np.ndarray) -> Iterator[Timed]:
    """Frames from the computer's memory, and frames that are on the GPU, both resized there."""
    engine = place.build(framed, 1, min(max(place.batches), framed.manifest.max_batch))
    there = FrameOnGpu(place.cuda, frame)
    with Detector(framed, session=place.open(framed, engine)) as detector:
        for batch in (batch for batch in place.batches if batch <= engine.record.max_batch):
            for what, one in (("frames from the computer", frame), ("frames on the GPU", there)):
                yield place.time(f"{what}, --frame-size", detector, batch, _detect(detector, [one] * batch))
    there.free()


def _detect(detector: Detector, frames: Sequence[object]) -> Callable[[int], None]:
    def run(turn: int) -> None:
        detector.detect(frames)

    return run

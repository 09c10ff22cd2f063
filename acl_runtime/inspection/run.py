"""Look at every frame of the sources, and hand the results to the outputs: the one loop of run, watch and service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from acl_runtime.calibration.monitor import DriftMonitor
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.detection.stream import Stream
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.images.frame import FRAME_FAULTS, bad_frame
from acl_runtime.sources.files import Source, iter_frames

LOG = logging.getLogger("acl")


class Output(Protocol):
    """Where results go: called with each, in order, and closed by whoever opened it."""

    def __call__(self, result: Result, /) -> None:
        """Take a result.

        Raises:
            FrameError: It cannot take this one. The frame is then a bad one for the outputs after it.
        """
        ...

    def close(self) -> None:
        """Finish."""
        ...


def inspect(
    sources: Iterable[Source],
    detector: Detector,
    outputs: Sequence[Output] = (),
    *,
    drift: DriftMonitor | None = None,
    batch: int = 1,
    max_latency_ms: float | None = MAX_LATENCY_MS,
    drop_oldest: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Look at every frame, in order; what cannot be read, judged or saved comes as a BadFrame and stops nothing.

    Args:
        sources: What to look at, from `list_sources`.
        detector: Gives the verdicts.
        outputs: Each is called with every result, in this order: files of a frame before the line that says so.
        drift: Compares the frames with those of the calibration.
        batch: Frames to look at together, at most the bundle's `max_batch`.
        max_latency_ms: Maximum time in ms that a frame waits for its batch to fill; None for as long as it takes.
        drop_oldest: Whether to drop frames that come faster than they are judged, the oldest that waits first; how
            many is said at the end.
        stopped: Asked between frames whether to end; what was read by then is judged.

    Returns:
        The results one by one, each once all outputs have it.
    """
    with Stream(
        detector.stages,
        iter_frames(sources, stopped),
        batch=batch,
        max_latency_ms=max_latency_ms,
        drop_oldest=drop_oldest,
    ) as stream:
        for judged in stream:
            result = judged if drift is None else _unless_bad(judged, drift.watch)
            for output in outputs:
                result = _unless_bad(result, partial(_hand_to, output))
            yield result
        if stream.dropped:
            message = "%d frames were dropped: they came faster than they could be judged"
            LOG.warning(message, stream.dropped, extra={"again": True})


def _hand_to(output: Output, result: Result) -> Result:
    output(result)
    return result


def _unless_bad(result: Result, step: Callable[[Result], Result]) -> Result:
    """What a step makes of a result; a frame that it fails on is a bad one."""
    try:
        return step(result)
    except FRAME_FAULTS as fault:
        if not isinstance(result, Inspected):
            raise
        return bad_frame(result.frame, fault)

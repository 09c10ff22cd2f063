"""Time candidates in turn, so that whatever disturbs one disturbs the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path, PurePath

import numpy as np

from acl_runtime.bench.candidates import Candidate
from acl_runtime.detection.stages import STAGES
from acl_runtime.detection.verdict import Inspected, Verdict
from acl_runtime.images.decode import load_frame
from acl_runtime.images.frame import Frame
from acl_runtime.outputs.json_lines import json_line

COUNTED, UNCOUNTED = (
    3,
    1,
)  # calls of a candidate before the next one's; the first still meets the other's threads
FEWEST_ROUNDS, MOST_ROUNDS = 4, 200
STREAM_TURNS, STREAM_S = 3, 1.0  # measurements of a stream, and how long one is at least
EDGE_TURNS = 5
NOISY = 1.5  # 90th over 10th percentile of the same call

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Laps:
    """What a candidate took.

    Attributes:
        candidate: Who.
        stages_ms: (N, 3) float64, milliseconds per frame of each stage, in the order of `STAGES`.
        overlapped_fps: Frames per second where the stages overlap; None for the reference, whose do not.
    """

    candidate: Candidate
    stages_ms: np.ndarray
    overlapped_fps: float | None

    @property
    def total_ms(self) -> np.ndarray:
        """(N,) per frame."""
        total: np.ndarray = self.stages_ms.sum(axis=1)
        return total

    @property
    def medians_ms(self) -> dict[str, float]:
        """Per frame, by stage."""
        return dict(zip(STAGES, np.median(self.stages_ms, axis=0).tolist(), strict=True))

    def ratio_to(self, reference: Laps) -> float:
        """How many times more frames this one judges in the same time."""
        return float(np.median(reference.total_ms) / np.median(self.total_ms))

    @property
    def is_noisy(self) -> bool:
        """Whether something else kept the machine so busy that the figures mean little."""
        low, high = np.percentile(self.total_ms, [10, 90])
        return bool(high > NOISY * low)


def measure(
    candidates: Sequence[Candidate], frames: Sequence[np.ndarray], *, seconds: float, progress: Progress
) -> list[Laps]:
    """Let all candidates judge the same frames in turn.

    Args:
        candidates: Who.
        frames: Used again and again.
        seconds: About how long in all; a few rounds are made in any case.
        progress: Called with what is done, how much of it and of how much.
    """
    calls_once = [partial(each.run, group_of(frames, 0, each.batch)) for each in candidates]
    passes = [sum(map(_milliseconds, calls_once)) for _ in range(2)]
    rounds = int(np.clip(1000 * seconds / (min(passes) * (COUNTED + UNCOUNTED)), FEWEST_ROUNDS, MOST_ROUNDS))
    taken: list[list[list[float]]] = [[] for _ in candidates]
    for turn in range(rounds):
        numbers = list(range(len(candidates)))
        for number in numbers if turn % 2 else numbers[::-1]:
            candidate = candidates[number]
            group = group_of(frames, turn * candidate.batch, candidate.batch)
            calls = [candidate.run(group) for _ in range(UNCOUNTED + COUNTED)][UNCOUNTED:]
            taken[number] += [[call[stage] / candidate.batch for stage in STAGES] for call in calls]
        progress("measuring in turn", turn + 1, rounds)
    streams = _measure_streams(candidates, frames, taken, progress)
    return [
        Laps(candidate, np.array(laps), fps)
        for candidate, laps, fps in zip(candidates, taken, streams, strict=True)
    ]


def measure_edges(files: Sequence[Path], frame: np.ndarray, verdict: Verdict) -> dict[str, float]:
    """Median milliseconds a frame of what is done before and after the detector, whichever backend it has.

    Args:
        files: Images, for `decode`; none to leave that out.
        frame: For `publish`, a line of JSON as `acl run --json` writes.
        verdict: On it.
    """
    result = Inspected(Frame("frame.png", 0, PurePath("frame"), frame), verdict)
    edges: dict[str, Sequence[Callable[[], object]]] = {
        "decode": [partial(load_frame, file) for file in files] * EDGE_TURNS,
        "publish": [partial(json_line, result)] * EDGE_TURNS**2,
    }
    return {
        name: float(np.median([_milliseconds(call) for call in calls]))
        for name, calls in edges.items()
        if calls
    }


def sustain(
    candidate: Candidate, frames: Sequence[np.ndarray], *, seconds: float, parts: int, progress: Progress
) -> list[float]:
    """Frames per second in each of so many parts of a long time: what heat leaves of the speed."""
    group, found = group_of(frames, 0, candidate.batch), []
    for part in range(parts):
        started, judged = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds / parts:
            candidate.run(group)
            judged += candidate.batch
        found.append(judged / elapsed)
        progress("under load", part + 1, parts)
    return found


def group_of(frames: Sequence[np.ndarray], start: int, batch: int) -> list[np.ndarray]:
    """So many frames from a number on, beginning anew at the end."""
    return [frames[number % len(frames)] for number in range(start, start + batch)]


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _measure_streams(
    candidates: Sequence[Candidate],
    frames: Sequence[np.ndarray],
    taken: Sequence[Sequence[Sequence[float]]],
    progress: Progress,
) -> list[float | None]:
    """Median frames per second of each candidate that has a detector."""
    found: list[list[float]] = [[] for _ in candidates]
    for turn in range(STREAM_TURNS):
        for candidate, laps, fps in zip(candidates, taken, found, strict=True):
            if candidate.detector is not None:
                frame_s = float(np.median(np.sum(laps, axis=1))) / 1000
                count = max(4 * candidate.batch, int(STREAM_S / STREAM_TURNS / frame_s))
                started = time.perf_counter()
                stream = candidate.detector.stream(
                    islice(cycle(frames), count), batch=candidate.batch, max_latency_ms=None
                )
                for _ in stream:
                    pass
                fps.append(count / (time.perf_counter() - started))
        progress("measuring streams", turn + 1, STREAM_TURNS)
    return [float(np.median(each)) if each else None for each in found]

"""Verdicts on frames as they come: reading, preprocessing, inference and postprocessing overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import Any

import numpy as np

from acl_runtime.backends.gpu_pixels import is_on_gpu
from acl_runtime.detection.pipeline import MAX_LATENCY_MS, Pipeline
from acl_runtime.detection.stages import Stages
from acl_runtime.detection.verdict import Result, Verdict
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.frame import BadFrame, Frame

LONGEST_LATENCY_MS = 3_600_000.0  # an hour


class Stream(Iterator[Result]):
    """The results on frames, in their order; what cannot be judged comes as a BadFrame in its place.

    What comes is read, prepared, judged and drawn up in threads of its own, a few batches ahead of the consumer. They
    end with the frames, with `close`, or once the stream is no longer used.
    """

    def __init__(
        self,
        stages: Stages,
        frames: Iterable[Frame | BadFrame],
        *,
        batch: int = 1,
        max_latency_ms: float | None = MAX_LATENCY_MS,
        drop_oldest: bool = False,
    ) -> None:
        """Begin at once.

        Args:
            stages: Of a detector, `Detector.stages`.
            frames: Read in a thread of its own, and no faster than they are judged. What it raises is raised in its
                place, after the results before it.
            batch: Frames to judge together, at most the bundle's `max_batch`.
            max_latency_ms: Maximum time in ms that a frame waits for its batch to fill, up to an hour; None for as
                long as it takes.
            drop_oldest: Drop the oldest frame that waits where frames come faster than they are judged; counted in
                `dropped`.

        Raises:
            InputError: The batch is not one that the bundle takes, or the time is none.
        """
        check_batch(batch, stages.manifest.max_batch)
        if max_latency_ms is not None and not 0 <= max_latency_ms <= LONGEST_LATENCY_MS:
            raise InputError(
                f"max_latency_ms must lie in 0..{LONGEST_LATENCY_MS:.0f} (an hour), or be None, got {max_latency_ms}"
            )
        self._ready: deque[Result] = deque()
        self._pipeline = Pipeline(
            frames,
            stages.preprocess,
            [stages.infer, stages.postprocess],
            threads=(stages.calls, 1),
            group=batch,
            max_wait_s=None if max_latency_ms is None else max_latency_ms / 1000,
            drop_oldest=drop_oldest,
        )

    @property
    def dropped(self) -> int:
        """Frames that were dropped so far."""
        return self._pipeline.dropped

    def __next__(self) -> Result:
        while not self._ready:
            self._ready += next(self._pipeline)
        return self._ready.popleft()

    def close(self) -> None:
        """End it; what is under way is dropped."""
        self._ready.clear()
        self._pipeline.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArrayStream(Iterator[tuple[np.ndarray, Verdict]]):
    """Arrays with the verdicts on them, in their order; see `Detector.stream`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def dropped(self) -> int:
        """Frames that were dropped so far."""
        return self._stream.dropped

    def __next__(self) -> tuple[np.ndarray, Verdict]:
        result = next(self._stream)
        if isinstance(result, BadFrame):
            self.close()
            raise FrameError(result.problem)
        return result.frame.given, result.verdict

    def close(self) -> None:
        """End it; what is under way is dropped."""
        self._stream.close()

    def __enter__(self) -> ArrayStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_batch(batch: int, max_batch: int) -> None:
    """Raise InputError unless a bundle takes so many frames at once."""
    if not 1 <= batch <= max_batch:
        raise InputError(f"batch must lie in 1..{max_batch} (the bundle's max_batch), got {batch}")


GpuDoor = Callable[[Any, int], Frame]
"""Makes a frame of an array on the GPU, and its number; FrameError if it is none that can be judged."""


def wrap_arrays(arrays: Iterable[Any], *, copy: bool, gpu: GpuDoor | None = None) -> Iterator[Frame]:
    """Arrays as frames, numbered, checked here.

    Args:
        arrays: See `Frame`; what is one already, and so was checked, is passed on.
        copy: Whether each is copied, so that its memory may be used again for the next; not those on the GPU.
        gpu: Takes arrays on the GPU; None where there are none.

    Raises:
        FrameError: One of them is no picture, or `arrays` is a single picture or a name.
    """
    if isinstance(arrays, (str, PurePath)):
        raise FrameError(
            f"frames must be arrays, got the name {str(arrays)!r}; see list_sources for files and folders"
        )
    if isinstance(arrays, np.ndarray) and arrays.ndim < 4:  # its rows would pass for pictures
        raise FrameError(
            f"frames must be several, got one array of {arrays.shape}; call the detector with it, or give a list"
        )
    if is_on_gpu(arrays):
        raise FrameError("frames must be several, got one array on the GPU; give a list of frames")
    return _wrap(arrays, copy=copy, gpu=gpu)


def _wrap(arrays: Iterable[Any], *, copy: bool, gpu: GpuDoor | None) -> Iterator[Frame]:
    try:
        for number, array in enumerate(arrays):
            if isinstance(array, Frame):
                yield array
            elif gpu is not None and is_on_gpu(array):
                if copy:
                    raise FrameError(
                        "frames on the GPU are not copied: give copy=False, and leave each as it is until its verdict "
                        "is there"
                    )
                yield gpu(array, number)
            else:
                pixels = np.array(array) if copy and isinstance(array, np.ndarray) else array
                yield Frame("", number, PurePath(str(number)), pixels)
    finally:  # a camera is let go as it would be without this wrapping
        close = getattr(arrays, "close", None)
        if close is not None:
            close()

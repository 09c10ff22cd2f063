"""Verdicts on frames as they come: reading, preprocessing and inference overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np

from acl_runtime.detection.detector import Detector, Work
from acl_runtime.detection.pipeline import Pipeline
from acl_runtime.detection.verdict import Verdict

Item = TypeVar("Item")


class Stream(Iterator[tuple[Item, Verdict | None]], Generic[Item]):
    """Items with the verdicts on their frames, in order; see `Detector.stream`.

    What comes is read, prepared and judged in three threads of its own, a few groups ahead of the consumer. The
    verdicts themselves are drawn up in the consumer's.
    """

    def __init__(
        self,
        detector: Detector,
        items: Iterable[Item],
        frame_of: Callable[[Item], np.ndarray | None],
        *,
        batch: int,
        max_latency_ms: float | None,
        drop_oldest: bool = False,
    ) -> None:
        """Begin at once.

        Args:
            detector: Gives the verdicts.
            items: What goes in, and comes out beside the verdicts.
            frame_of: An item's frame; None for one that has none, which comes out without a verdict.
            batch: See `Detector.stream`.
            max_latency_ms: As there.
            drop_oldest: As there.

        Raises:
            ValueError: The batch is not one that the bundle takes.
        """
        detector.check_batch(batch)
        self._detector, self._frame_of = detector, frame_of
        self._ready: deque[tuple[Item, Verdict | None]] = deque()
        self._pipeline = Pipeline(
            self._checked(items),
            [self._prepare, self._infer],
            group=min(batch, detector.largest_group),
            max_wait_s=None if max_latency_ms is None else max_latency_ms / 1000,
            drop_oldest=drop_oldest,
        )

    @property
    def dropped(self) -> int:
        """Items that were dropped so far."""
        return self._pipeline.dropped

    def __next__(self) -> tuple[Item, Verdict | None]:
        while not self._ready:
            items, work = next(self._pipeline)
            verdicts = iter([] if work is None else self._detector.conclude(work))
            for item in items:
                self._ready.append((item, None if self._frame_of(item) is None else next(verdicts)))
        return self._ready.popleft()

    def close(self) -> None:
        """End it; what is under way is dropped."""
        self._ready.clear()
        self._pipeline.close()

    def __enter__(self) -> Stream[Item]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _checked(self, items: Iterable[Item]) -> Iterator[Item]:
        """What is no frame is raised here, so that those before it are judged."""
        for item in items:
            if (frame := self._frame_of(item)) is not None:
                self._detector.check_frame(frame)
            yield item

    def _prepare(self, items: list[Item]) -> tuple[list[Item], Work | None]:
        frames = [frame for item in items if (frame := self._frame_of(item)) is not None]
        return items, self._detector.prepare(frames) if frames else None

    def _infer(self, prepared: tuple[list[Item], Work | None]) -> tuple[list[Item], Work | None]:
        items, work = prepared
        return items, None if work is None else self._detector.infer(work)

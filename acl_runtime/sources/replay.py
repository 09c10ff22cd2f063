"""Lines that are there already, delivered as a line camera would: in blocks, at a rate, and some of them lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acl_runtime.sources.address import check_range
from acl_runtime.sources.block import Block
from acl_runtime.sources.schedule import Schedule

_KIND_NEVER, _KIND_NO_LEADER = 0.5, 0.75  # of losses: half never come, a quarter comes without its number
_TICK_S = 1e-6  # a block that is due in less is there: clocks round
_PARTS = 4  # of a block that comes incomplete; one of them is what the buffer held before


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How lines are delivered.

    Attributes:
        height: Lines of a block; the last block of a source with an end may be shorter.
        rate: Lines per second, constant or as `2000@0,10000@50000`, see `Schedule`; 0 for as fast as they are read.
        stop: Standstills, `LINE:SECONDS,...`.
        loss: Share of the blocks that are lost: half of them never come, the others come incomplete, every second one
            of these without a number.
        buffers: Blocks that wait for a slow reader; those that come when all are full are lost. Without a rate none is.
        encoder: Pulses per line; blocks carry the count of their first line. 0: they carry none.
    """

    height: int = 64
    rate: str = "0"
    stop: str = ""
    loss: float = 0.0
    buffers: int = 16
    encoder: int = 0

    def check(self, text: str) -> None:
        """Raise InputError unless every number is in its range."""
        largest = float("inf")
        ranges = {"height": (1, 65535), "loss": (0, 0.9), "buffers": (1, 65535), "encoder": (0, largest)}
        check_range(text, self, ranges)


Lines = Callable[[int, np.ndarray], int]
"""Writes lines from an absolute number on into an (n, W) or (n, W, 3) array; returns how many there were before the
end. It is called with rising numbers only."""


def _none(first: int, out: np.ndarray) -> int:
    return 0


class Replay:
    """A line source over lines that a function gives; see `LineSource`."""

    numbers: range | None = range(1, 65536)  # as GigE Vision counts

    def __init__(
        self,
        name: str,
        read_lines: Lines,
        shape: tuple[int, ...],
        dtype: np.dtype,
        options: ReplayOptions,
        *,
        seed: int = 0,
        close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start delivering.

        Args:
            name: As the user wrote it.
            read_lines: Gives the lines.
            shape: Of a line, (W,) or (W, 3).
            dtype: uint8 or uint16.
            options: How they are delivered.
            seed: Chooses the blocks that are lost.
            close: Gives back what `read_lines` holds.
            clock: Seconds, as of `time.monotonic`.
            sleep: Lets the clock's time pass.
        """
        options.check(name)
        self.name, self.width, self.height = name, shape[0], options.height
        self._options, self._seed, self._read_lines, self._close = options, seed, read_lines, close
        self._schedule = Schedule(options.rate, options.stop, name)
        self.is_live = self._schedule.is_timed
        self._clock, self._sleep = clock, sleep
        self._lines = np.zeros((options.height, *shape), dtype)  # the driver's buffer, used again and again
        self._start: float | None = None
        self._waiting: deque[int] = deque()  # blocks that were exposed and not read, oldest first
        self._exposed = 0  # blocks so far, read or lost

    def read(self, timeout_s: float) -> Block | None:
        """The next block, or None if none arrived in time.

        Raises:
            EOFError: There are no more lines.
        """
        while self._wait(timeout_s):
            index = self._waiting.popleft()
            fate = self._fate(index)
            if fate >= _KIND_NEVER * self._options.loss:
                return self._deliver(index, is_complete=fate >= self._options.loss, fate=fate)
            self._skip(index)
        return None

    def close(self) -> None:
        """Give back what it holds; may be called twice."""
        self._close()
        self._read_lines = _none  # mostly of this object, whose memory would wait for the garbage collector

    def _deliver(self, index: int, *, is_complete: bool, fate: float) -> Block:
        first, height = index * self.height, self.height
        if is_complete:
            count = self._read_lines(first, self._lines)
        else:
            whole = self._lines.copy()
            count = self._read_lines(first, whole)
            kept = slice(
                height // _PARTS, height // _PARTS + -(-height // _PARTS)
            )  # stale: an earlier block's
            whole[kept] = self._lines[kept]
            self._lines[:] = whole
        if count == 0:
            raise EOFError(f"{self.name}: ends after line {first}")
        options, timed = self._options, self._schedule.is_timed
        has_number = is_complete or fate >= _KIND_NO_LEADER * options.loss
        has_encoder = is_complete and options.encoder
        return Block(
            lines=self._lines[:count],
            number=1 + index % 65535 if has_number else None,
            complete=is_complete,
            first_encoder=first * options.encoder if has_encoder else None,
            exposed_ns=round(self._schedule.time_of(first) * 1e9) if timed and is_complete else None,
            received_ns=round(self._clock() * 1e9),
        )

    def _skip(self, index: int) -> None:
        """Pass over a block that never comes; the end is the end all the same."""
        if self._read_lines(index * self.height, self._lines.copy()) == 0:
            raise EOFError(f"{self.name}: ends after line {index * self.height}")

    def _fate(self, index: int) -> float:
        """A number from 0 to 1 that belongs to the block."""
        if not self._options.loss:
            return 1.0
        return float(np.random.default_rng((self._seed, 1, index)).random())

    def _wait(self, timeout_s: float) -> bool:
        """Wait until a block is there; whether one came in time."""
        if not self._schedule.is_timed:
            self._waiting.append(self._exposed)
            self._exposed += 1
            return True
        if self._start is None:
            self._start = self._clock()
        self._take_exposed()
        if not self._waiting:
            due = self._schedule.time_of((self._exposed + 1) * self.height - 1)
            now = self._clock() - self._start
            self._sleep(min(max(0.0, due - now), timeout_s))
            self._take_exposed()
        return bool(self._waiting)

    def _take_exposed(self) -> None:
        """Queue what was exposed since; the oldest are kept, as a driver keeps them whose buffers are full."""
        assert self._start is not None
        count = self._schedule.lines_until(self._clock() - self._start + _TICK_S) // self.height
        room = self._options.buffers - len(self._waiting)
        self._waiting.extend(range(self._exposed, min(count, self._exposed + room)))
        self._exposed = max(self._exposed, count)

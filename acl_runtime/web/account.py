"""Every line that the camera exposed is accounted for once: seen, or lost, with its place and the reason.

A block's number tells how many blocks are missing before it, whatever became of them. An encoder, where the camera
sends its count, is the better witness: it also knows of lines that the camera did not expose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from acl_runtime.files.errors import InputError
from acl_runtime.sources.block import Block

Reason = Literal[
    "packets",  # a block came incomplete
    "blocks",  # blocks that never came
    "too slow",  # they were not judged in time, and the ring had no room
    "ignored triggers",  # the camera was told to expose them and could not
    "standstill",  # the first ones after it
    "restart",  # while the source was away, or the camera began anew
    "no light",
    "saturated",
    "no web",
    "short strip",  # fewer lines between two gaps than a tile is high
    "not finite",  # the network gave no number
]
"""Why lines were not judged."""
REASONS: tuple[Reason, ...] = get_args(Reason)
MOST_AHEAD = (
    64  # blocks: more than a camera's driver has buffers, and far less than the numbers before they wrap
)
RATE_WEIGHT = 0.1  # of the latest block in the measured line rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """Lines that were seen, in their place.

    Attributes:
        first: Number of the first one, from 0 at the roll's start.
        pixels: (n, W) grey or (n, W, 3) BGR, uint8 or uint16, n at least 1; a view that is valid until the next item.
        received_ns: `time.monotonic_ns()` when they were there.
    """

    first: int
    pixels: np.ndarray
    received_ns: int

    @property
    def stop(self) -> int:
        """Number of the line behind the last one."""
        return self.first + len(self.pixels)


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Lines that passed the camera and cannot be judged: never OK.

    Attributes:
        first: Number of the first one.
        stop: Number of the line behind the last one; equal to `first` where nobody knows of any, as after a restart.
        reason: What became of them.
        estimated: Whether their number follows from the line rate and the time, because nothing counted them.
    """

    first: int
    stop: int
    reason: Reason
    estimated: bool = False


class LineAccount:
    """From blocks to lines in their place; give it every block, complete or not, in the order of their coming."""

    def __init__(
        self, *, height: int, numbers: range | None, counts_per_line: float | None = None, line: int = 0
    ) -> None:
        """Begin a roll.

        Args:
            height: Lines of a block, see `LineSource`.
            numbers: Of blocks before they begin anew, see `LineSource`.
            counts_per_line: Encoder counts from a line to the next, negative for one that counts down; None not to ask
                the encoder.
            line: Number of the first line.
        """
        if counts_per_line == 0:
            raise InputError(
                "counts_per_line must not be 0; give the encoder's counts from a line to the next"
            )
        self.line = line  # that comes next
        self._height, self._numbers, self._counts = height, numbers, counts_per_line
        self._number: int | None = None  # of the last block that counts
        self._nameless = 0  # incomplete blocks since, whose number cannot be trusted
        self._encoder: float | None = None  # count that the next line should have
        self._ignored: int | None = None
        self._received_ns: int | None = None
        self._received_line = line  # that came next then
        self._lines_per_ns = 0.0  # measured, for what nothing counts
        self._began_anew = False

    def add(self, block: Block) -> list[Lines | Lost]:
        """What a block says: the lines that are lost before it, and its own."""
        return list(self._add(block))

    def reopen(self, *, height: int, numbers: range | None) -> None:
        """The source was opened again: whatever the next block's number is, the lines in between are lost."""
        self._height, self._numbers, self._began_anew = height, numbers, True

    def finish(self) -> list[Lines | Lost]:
        """What is known to be lost after the last complete block, at the end of the roll."""
        lost, self._nameless = self._nameless, 0
        return list(self._lose(lost * self._height, "packets"))

    def _add(self, block: Block) -> Iterator[Lines | Lost]:
        number = None if self._numbers is not None and block.number not in self._numbers else block.number
        missing = self._missing(number)
        if not block.complete:
            # With its leader lost, a block has the number of its buffer's last use, or 0.
            if number is None or self._number is None or missing is None or missing >= MOST_AHEAD:
                self._nameless += 1
                return
            yield from self._lose_blocks(missing)
            yield from self._lose(self._height, "packets")
            self._number = number
            return
        began_anew = missing is None or self._began_anew
        if missing is None or began_anew:
            yield self._begin_anew(block)
        else:
            yield from self._lose_blocks(missing)
            unexposed = self._unexposed(block, missing * self._height)
            yield from self._lose(unexposed, "ignored triggers")
        self._take(block, began_anew=began_anew)
        self._number = number
        yield Lines(first=self.line, pixels=block.lines, received_ns=block.received_ns)
        self.line += len(block.lines)

    def _missing(self, number: int | None) -> int | None:
        """Blocks between the last one that counts and this; None if the numbers began anew."""
        numbers = self._numbers
        if number is None or self._number is None:
            return self._nameless
        ahead = number - self._number - 1
        if numbers is not None:
            ahead %= len(numbers)
            return ahead if ahead < len(numbers) // 2 else None
        return ahead if ahead >= 0 else None

    def _lose_blocks(self, missing: int) -> Iterator[Lost]:
        came = min(self._nameless, missing)  # some of them came, incomplete and nameless
        self._nameless = 0
        yield from self._lose((missing - came) * self._height, "blocks")
        yield from self._lose(came * self._height, "packets")

    def _unexposed(self, block: Block, missing: int) -> int:
        """Lines beyond those of missing blocks that the camera did not expose."""
        ignored = 0
        if block.ignored_triggers is not None and self._ignored is not None:
            ignored = max(0, block.ignored_triggers - self._ignored)
        if self._counts is None or self._encoder is None or block.first_encoder is None:
            return ignored
        return max(0, round((block.first_encoder - self._encoder) / self._counts) - missing)

    def _begin_anew(self, block: Block) -> Lost:
        """The interval that nobody watched: as long as the encoder says, else as the line rate and the time say."""
        by_encoder, first = self._unexposed(replace(block, ignored_triggers=None), 0), self.line
        away_ns = 0 if self._received_ns is None else block.received_ns - self._received_ns
        by_time = max(0, round(away_ns * self._lines_per_ns) - len(block.lines))
        self._nameless, self._began_anew, self._number = 0, False, None
        self.line += by_encoder or by_time
        return Lost(first=first, stop=self.line, reason="restart", estimated=not by_encoder)

    def _take(self, block: Block, *, began_anew: bool) -> None:
        """Remember what the next block is compared with."""
        count = len(block.lines)
        if self._received_ns is not None and block.received_ns > self._received_ns and not began_anew:
            latest = (self.line + count - self._received_line) / (block.received_ns - self._received_ns)
            weight = RATE_WEIGHT if self._lines_per_ns else 1.0
            self._lines_per_ns += weight * (latest - self._lines_per_ns)
        self._received_ns, self._received_line = block.received_ns, self.line + count
        if block.ignored_triggers is not None:
            self._ignored = block.ignored_triggers
        if self._counts is not None and block.first_encoder is not None:
            self._encoder = block.first_encoder + count * self._counts
        elif self._counts is not None and self._encoder is not None:
            self._encoder += count * self._counts

    def _lose(self, count: int, reason: Reason) -> Iterator[Lost]:
        if count:
            yield Lost(first=self.line, stop=self.line + count, reason=reason)
            self.line += count

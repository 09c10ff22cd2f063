"""What a line camera gives: blocks of lines, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from acl_runtime.files.errors import SourceError

COLOR = 3  # BGR


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Lines that a camera delivered together; complete, or to be judged in no part.

    Attributes:
        lines: (n, W) grey or (n, W, 3) BGR, uint8 or uint16; a view that is valid until the next block is read. Of an
            incomplete block it may hold lines of an earlier one and must not be looked at.
        number: The camera's block number, which wraps as `LineSource.numbers` says; None where it did not arrive.
        complete: Whether every packet of it arrived.
        first_encoder: Encoder count of the first line, where the camera sends it.
        ignored_triggers: Lines that the camera was told to expose and could not, since the start; None where the camera
            does not say.
        exposed_ns: The camera's clock at the first line, in nanoseconds; None where it does not say.
        received_ns: `time.monotonic_ns()` when the block was complete on this machine.
    """

    lines: np.ndarray
    number: int | None
    complete: bool
    first_encoder: int | None = None
    ignored_triggers: int | None = None
    exposed_ns: int | None = None
    received_ns: int


class LineSource(Protocol):
    """A line camera, or what stands in for one; used by one thread."""

    name: str
    """As the user wrote it, such as `aravis:LINE01`."""
    width: int
    """Pixels of a line."""
    height: int
    """Lines of a block."""
    numbers: range | None
    """Block numbers before they begin anew, such as range(1, 65536); None if they never do."""
    is_live: bool
    """Whether lines come whether they are read or not; those of the others, such as a recording, wait to be read."""

    def read(self, timeout_s: float) -> Block | None:
        """The next block, or None if none arrived in time.

        Raises:
            SourceError: The source broke, and reading on cannot help before it is opened again.
            EOFError: A source with an end, such as a folder of strips, has no more.
        """

    def close(self) -> None:
        """Stop and give back what it holds; may be called twice and on a source that broke."""


def check_lines(lines: np.ndarray) -> None:
    """Raise SourceError unless the lines are (n, W) or (n, W, 3), uint8 or uint16, with n and W at least 1."""
    is_picture = lines.ndim == 2 or (lines.ndim == COLOR and lines.shape[2] == COLOR)
    if not is_picture or lines.dtype not in (np.uint8, np.uint16) or 0 in lines.shape:
        raise SourceError(
            f"lines must be (n, W) or (n, W, 3) of uint8 or uint16, got {lines.shape} {lines.dtype}; choose one of "
            "the camera's PixelFormat Mono8, Mono12, Mono16 or RGB8"
        )

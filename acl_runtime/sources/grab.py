"""Take lines of a camera: all blocks one by one, or pictures of so many lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import SourceError
from acl_runtime.sources.block import Block, LineSource

LOG = logging.getLogger("acl")
WAIT_S = 10.0
_POLL_S = 0.5


def iter_blocks(
    source: LineSource, *, wait_s: float = WAIT_S, clock: Callable[[], float] = time.monotonic
) -> Iterator[Block]:
    """Every block until the source ends.

    Args:
        source: Is not closed.
        wait_s: Seconds without a block after which it is an error.
        clock: Seconds, as of `time.monotonic`.

    Raises:
        SourceError: The source broke or fell silent.
    """
    last = clock()
    while True:
        try:
            block = source.read(_POLL_S)
        except EOFError:
            return
        if block is not None:
            yield block
            last = clock()
        elif clock() - last > wait_s:
            raise SourceError(
                f"{source.name}: sent nothing for {wait_s:g} s; see whether the web moves and the encoder or "
                "trigger gives pulses"
            )


def iter_pictures(
    blocks: Iterator[Block], numbers: range | None, *, lines: int | None = None
) -> Iterator[np.ndarray]:
    """Pictures of a source's complete blocks; no line is missing inside one.

    Args:
        blocks: Of the source, in order.
        numbers: Of the source.
        lines: Of a picture: lines of consecutive blocks are joined and cut. None for a picture per block.

    Returns:
        (lines, W) or (lines, W, 3) arrays of their own. What is left before a loss or the end is dropped, and said.
    """
    waiting: list[np.ndarray] = []
    last: int | None = None
    for block in blocks:
        follows = last is None or (block.number is not None and _next(last, numbers) == block.number)
        if not block.complete or not follows:
            LOG.info("lines were lost on the way; pictures begin anew behind the gap")
            waiting = []
        last = block.number if block.number is not None else last
        if not block.complete:
            continue
        waiting.append(block.lines.copy())
        if lines is None:
            yield waiting.pop()
            continue
        while sum(map(len, waiting)) >= lines:
            joined = np.concatenate(waiting)
            yield joined[:lines]
            waiting = [joined[lines:]]


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture as PNG; its folder is made if needed."""
    _, data = cv2.imencode(".png", picture)  # imwrite would not say why a disk refused it
    with atomic_file(path, durable=False) as temporary:
        temporary.write_bytes(data.data)


def _next(number: int, numbers: range | None) -> int:
    return numbers[0] if numbers is not None and number == numbers[-1] else number + 1

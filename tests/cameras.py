"""What tests of line sources share: a clock that sleeping moves, and every block until the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from acl_runtime.sources.block import Block, LineSource


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def blocks_of(source: LineSource) -> Iterator[Block]:
    """Every block until the source ends, with lines of its own."""
    while True:
        try:
            block = source.read(10.0)
        except EOFError:
            source.close()
            return
        assert block is not None
        yield replace(block, lines=block.lines.copy())

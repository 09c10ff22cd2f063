"""The newest state to every browser that watches, made once for all of them, and only while somebody watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EACH_S = 0.1  # faster than that nobody reads


class Broadcast:
    """Used in the page's thread alone; a browser that is slow is sent the newest when it has read the last."""

    def __init__(
        self, make: Callable[[], dict[str, Any]], version: Callable[[], object], *, most: int
    ) -> None:
        """`make` makes the state of a moment, `version` says whether it changed; `most` may watch."""
        self._make, self._version, self._most = make, version, most
        self._watching = 0
        self.text = b""
        self._made: object = None
        self._changed: asyncio.Event | None = None
        self.is_over = False  # set from any thread; whoever watches is let go

    @property
    def is_full(self) -> bool:
        """Whether as many watch as may."""
        return self._watching >= self._most

    async def run(self) -> None:
        """Look for changes, until it is over."""
        while not self.is_over:
            await asyncio.sleep(EACH_S)
            if self._watching and (self.is_over or self._version() != self._made):
                self._renew()

    def _renew(self) -> None:
        self._made = self._version()
        self.text = json.dumps(self._make(), separators=(",", ":")).encode()
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait for the next state."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    @contextmanager
    def watch(self) -> Iterator[Listener]:
        """Be one who watches, as long as the `with` lasts."""
        self._watching += 1
        try:
            self._renew()
            yield Listener(self)
        finally:
            self._watching -= 1


class Listener:
    """One who watches."""

    def __init__(self, broadcast: Broadcast) -> None:
        """Begin with what there is."""
        self._broadcast, self._seen = broadcast, b""

    async def next(self) -> bytes | None:
        """The newest state that he has not seen; None when it is over."""
        while self._broadcast.text is self._seen and not self._broadcast.is_over:
            await self._broadcast.changed()
        if self._broadcast.is_over:
            return None
        self._seen = self._broadcast.text
        return self._seen

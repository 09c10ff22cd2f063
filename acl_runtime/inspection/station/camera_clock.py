"""When a frame was exposed, in this machine's time, from a camera that has a clock of its own."""

from __future__ import annotations

from acl_runtime.sources.block import Block

_WINDOW = 256  # frames after which an old difference is forgotten, because clocks drift apart


class CameraClock:
    """Learns how far the camera's clock is from `time.monotonic_ns`.

    The smallest difference between reception and exposure is that of a frame that came at once; a frame that was held
    up on the way is so known to be older than its reception says. What every frame takes at least stays unknown.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._now: int | None = None  # smallest difference of this window, in ns
        self._before: int | None = None  # of the one before
        self._count = 0

    def exposed_ns(self, block: Block) -> int:
        """When a frame was exposed, as `time.monotonic_ns`; when it was received if the camera does not say."""
        if block.exposed_ns is None:
            return block.received_ns
        if self._count == _WINDOW:
            self._before, self._now, self._count = self._now, None, 0
        self._count += 1
        ahead = block.received_ns - block.exposed_ns
        self._now = ahead if self._now is None else min(self._now, ahead)
        least = self._now if self._before is None else min(self._now, self._before)
        return block.exposed_ns + least

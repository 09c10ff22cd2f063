"""`drawn:SEED`: an endless web that needs no camera, with defects that are known."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acl_runtime.files.errors import InputError
from acl_runtime.sources.address import Address, check_range, read_options
from acl_runtime.sources.drawn_web import DrawnWeb, WebOptions
from acl_runtime.sources.replay import Replay, ReplayOptions


@dataclass(frozen=True, kw_only=True)
class DrawnOptions(WebOptions, ReplayOptions):
    """Options of `drawn:SEED?...`: those of the web and of its delivery.

    Attributes:
        lines: Of the whole web; 0 for one without end.
    """

    lines: int = 0

    def check(self, text: str) -> None:
        """Raise InputError unless every value is in its range."""
        WebOptions.check(self, text)
        ReplayOptions.check(self, text)
        check_range(text, self, {"lines": (0, float("inf"))})


class DrawnSource(Replay):
    """A line camera over a drawn web; `web` tells its defects."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start the web.

        Args:
            address: Such as of `drawn:7?width=2048&rate=10000&lines=200000&loss=0.01`; see `DrawnOptions`.
            clock: Seconds, as of `time.monotonic`.
            sleep: Lets the clock's time pass.

        Raises:
            InputError: The seed or an option is not what it must be.
        """
        text = address.text
        if not (address.name.isascii() and address.name.isdecimal()):
            raise InputError(f"{text}: the seed must be a whole number such as drawn:7, got {address.name!r}")
        options = read_options(DrawnOptions, address.pairs, text)
        options.check(text)
        seed = int(address.name)
        self.web = DrawnWeb(seed, options)
        self._end = options.lines or sys.maxsize
        super().__init__(
            text, self._draw, self.web.shape, self.web.dtype, options, seed=seed, clock=clock, sleep=sleep
        )

    def _draw(self, first: int, out: np.ndarray) -> int:
        count = max(0, min(len(out), self._end - first))
        if count:
            self.web.lines(first, out[:count])
        return count

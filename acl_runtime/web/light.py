"""Which lines show no web that one could judge: no light, too much of it, or nothing but what lies behind the web."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import InputError

EVERY = 8  # pixel of a line is looked at: a lamp shows everywhere
WHITE = 255
Unlit = Literal["no light", "saturated", "no web"]
STATES: tuple[Unlit | None, ...] = (None, "no light", "saturated", "no web")
"""What the codes of `line_states` mean."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """What a line must look like to be judged.

    Attributes:
        dark: Mean grey level below which a line has no light, 0 to 255.
        saturated: Share of pixels at 255 from which on a line is saturated, in (0, 1].
        background: Lowest and highest grey level of what is seen beside the web and where there is none; None if the
            camera sees nothing but web.
        covered: Share of pixels that look like the background from which on there is no web, in (0, 1].
        run: Number of lines together that have such a state before it counts: fewer are judged like any others, because
            they may be a defect.
    """

    dark: float = 2.0
    saturated: float = 0.5
    background: tuple[int, int] | None = None
    covered: float = 0.98
    run: int = 8

    def __post_init__(self) -> None:
        """Refuse what no line could keep to."""
        if not 0 <= self.dark < WHITE:
            raise InputError(f"dark must be a grey level in 0..254, got {self.dark}")
        for name, share in (("saturated", self.saturated), ("covered", self.covered)):
            if not 0 < share <= 1:
                raise InputError(f"{name} must be a share above 0 and up to 1, got {share}")
        if self.background is not None and not 0 <= self.background[0] <= self.background[1] <= WHITE:
            raise InputError(f"background must be two grey levels in 0..255, got {self.background}")
        if self.run < 1:
            raise InputError(f"run must be at least 1 line, got {self.run}")


def line_states(pixels: npt.NDArray[np.uint8], light: Light) -> npt.NDArray[np.uint8]:
    """The state of each line, whatever those beside it are: (n,) uint8, an index into `STATES`.

    Args:
        pixels: (n, W) or (n, W, 3).
        light: What makes a state.
    """
    seen = np.ascontiguousarray(pixels[:, ::EVERY]).reshape(len(pixels), -1)  # (n, W / 8 [· 3])
    share = 1 / seen.shape[1]
    states = np.zeros(len(pixels), np.uint8)
    if light.background is not None:
        low, high = light.background
        behind = ((seen >= low) & (seen <= high)).sum(axis=1, dtype=np.int32)
        states[behind * share >= light.covered] = 3
    states[(seen == WHITE).sum(axis=1, dtype=np.int32) * share >= light.saturated] = 2
    states[seen.sum(axis=1, dtype=np.int32) * share < light.dark] = 1
    return states


def find_edges(lines: npt.NDArray[np.uint8], light: Light) -> tuple[int, int]:
    """Left and right edge of the web, in pixels: all between lies on it, by the mean of the lines.

    Args:
        lines: (n, W) or (n, W, 3).
        light: With the background's grey levels; without, the web is as wide as the picture.

    Returns:
        Pixel of the left edge, and the one behind the right edge; equal where there is no web.
    """
    width = lines.shape[1]
    if light.background is None:
        return 0, width
    low, high = light.background
    profile = lines.reshape(len(lines), width, -1).mean(axis=(0, 2), dtype=np.float32)  # (W,)
    web = np.flatnonzero((profile < low) | (profile > high))
    return (int(web[0]), int(web[-1]) + 1) if len(web) else (0, 0)

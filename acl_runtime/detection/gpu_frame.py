"""A frame whose pixels are on the GPU, and stay there unless somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from acl_runtime.backends.gpu_pixels import GpuPixels
from acl_runtime.images.frame import Frame


class GpuFrame(Frame):
    """A frame whose pixels are on the GPU; `frame` fetches them, once, if somebody looks at it.

    Attributes:
        pixels: Where they are.
    """

    def __init__(
        self,
        source: str,
        index: int,
        name: PurePath,
        pixels: GpuPixels,
        fetch: Callable[[GpuPixels], npt.NDArray[np.uint8]],
    ) -> None:
        """A frame of `pixels`, which `fetch` copies to the computer's memory."""
        for field, value in {"source": source, "index": index, "name": name}.items():
            object.__setattr__(self, field, value)
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "_fetch", fetch)

    pixels: GpuPixels
    _fetch: Callable[[GpuPixels], npt.NDArray[np.uint8]]

    @cached_property
    def frame(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR, the computer's copy."""
        return self._fetch(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.pixels.height, self.pixels.width

    @property
    def given(self) -> Any:
        """What the caller gave."""
        return self.pixels.owner

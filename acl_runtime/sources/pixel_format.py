"""From the bytes of a camera's block to lines, by the PixelFormat that GenICam names."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from acl_runtime.files.errors import SourceError


@dataclass(frozen=True)
class PixelFormat:
    """How a camera's pixels lie in memory, and what makes lines of them.

    Attributes:
        dtype: uint8 or uint16.
        channels: Samples of a pixel.
        bits: Significant ones of a sample; they are shifted to the top.
        code: OpenCV's conversion to BGR, or None.
    """

    dtype: np.dtype
    channels: int = 1
    bits: int = 8
    code: int | None = None

    def lines_of(self, raw: np.ndarray, width: int) -> np.ndarray:
        """Lines of a block.

        Args:
            raw: Its bytes, uint8.
            width: Pixels of a line, W.

        Returns:
            (n, W) grey or (n, W, 3) BGR; of Mono8, Mono16 and BGR8 a view.
        """
        shape = (-1, width) if self.channels == 1 else (-1, width, self.channels)
        lines = raw.view(self.dtype).reshape(shape)
        if self.code is not None:
            return cv2.cvtColor(lines, self.code)
        return lines << (16 - self.bits) if self.dtype == np.uint16 and self.bits < 16 else lines

    @property
    def bytes_per_pixel(self) -> int:
        """Of memory."""
        return self.dtype.itemsize * self.channels


_BYTE, _WORD = np.dtype(np.uint8), np.dtype("<u2")
_BAYER = {  # GenICam names the first pixels of the first line, OpenCV those of the second line from its second on
    "RG": cv2.COLOR_BayerBG2BGR,
    "GR": cv2.COLOR_BayerGB2BGR,
    "GB": cv2.COLOR_BayerGR2BGR,
    "BG": cv2.COLOR_BayerRG2BGR,
}
PIXEL_FORMATS = {
    "Mono8": PixelFormat(_BYTE),
    **{f"Mono{bits}": PixelFormat(_WORD, bits=bits) for bits in (10, 12, 14, 16)},
    **{name: PixelFormat(_BYTE, 3, code=cv2.COLOR_RGB2BGR) for name in ("RGB8", "RGB8Packed")},
    **{name: PixelFormat(_BYTE, 3) for name in ("BGR8", "BGR8Packed")},
    **{f"Bayer{name}8": PixelFormat(_BYTE, code=code) for name, code in _BAYER.items()},
}


def find_format(name: str) -> PixelFormat:
    """The format that a camera says it sends.

    Raises:
        SourceError: It cannot be read.
    """
    if name not in PIXEL_FORMATS:
        known = ", ".join(PIXEL_FORMATS)
        raise SourceError(f"PixelFormat {name} cannot be read; set PixelFormat to one of {known}")
    return PIXEL_FORMATS[name]

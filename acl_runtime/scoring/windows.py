"""From scores of windows to scores of the patches that they cover, as WinCLIP does (arXiv 2303.14814)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LEAST_LOGIT = -80.0  # 1 / sigmoid of it is still a float32


@lru_cache(maxsize=8)
def cover_operator(grid: int, side: int) -> npt.NDArray[np.float64]:
    """The matrix C that averages one axis of windows over those that cover a patch: `C @ windows @ C.T`.

    Args:
        grid: Patches per side of the image, G.
        side: Patches per side of a window, at most G.

    Returns:
        (G, G - side + 1) float64, read-only, every row with sum 1.
    """
    if not 1 <= side <= grid:
        raise ValueError(f"side of a window must lie in 1..{grid} (the grid), got {side}")
    patches, firsts = np.arange(grid)[:, None], np.arange(grid - side + 1)
    covers = ((firsts <= patches) & (patches < firsts + side)).astype(np.float64)
    operator: npt.NDArray[np.float64] = covers / covers.sum(axis=1, keepdims=True)
    operator.setflags(write=False)  # shared by all callers
    return operator


def windows_to_patches(
    window_logits: np.ndarray, image_logits: np.ndarray, *, grid: int, windows: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Harmonic means: over the windows that cover a patch, then over the sides of windows and the whole image.

    Args:
        window_logits: (B, M) float32, log-odds of a defect, all windows of one side before those of the next, row by
            row.
        image_logits: (B,) float32.
        grid: Patches per side, G.
        windows: Their sides, in patches.

    Returns:
        (B, G, G) float32, probabilities.
    """
    inverse = _inverse_probability(image_logits)[:, None, None]  # (B, 1, 1)
    start = 0
    for side in windows:
        places = grid - side + 1
        logits = window_logits[:, start : start + places**2].reshape(-1, places, places)
        operator = cover_operator(grid, side).astype(np.float32)
        inverse = inverse + operator @ _inverse_probability(logits) @ operator.T  # (B, G, G)
        start += places**2
    return np.asarray((1 + len(windows)) / inverse, np.float32)


def _inverse_probability(logits: np.ndarray) -> np.ndarray:
    """1 / sigmoid, any shape."""
    inverse: np.ndarray = 1 + np.exp(-np.maximum(logits, LEAST_LOGIT))
    return inverse

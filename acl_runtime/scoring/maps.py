"""From log-odds on the patch grid to an anomaly map in pixels, as two small matrix products."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

TRUNCATE = 4.0  # the Gaussian's reach in standard deviations; scipy's default, which the published code uses


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probability from log-odds, any shape, float; small probabilities keep their relative precision."""
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -logits))
    return probabilities


@lru_cache(maxsize=8)
def map_operator(grid: int, image_size: int, blur_sigma: float) -> npt.NDArray[np.float64]:
    """The matrix U that up-samples and smooths one axis: `U @ patches @ U.T` is the map.

    Equal to bilinear up-sampling (align_corners=False) followed by scipy's `gaussian_filter` (mode reflect,
    truncate 4): both are linear and separable, so applied to the identity they give the operator itself.

    Args:
        grid: Patches per side, G.
        image_size: Pixels per side, S.
        blur_sigma: Standard deviation of the Gaussian, in pixels; 0 for none.

    Returns:
        (S, G) float64, read-only, every row non-negative with sum 1.
    """
    if grid < 1 or image_size < 1:
        raise ValueError(f"grid and image_size must be positive, got {grid} and {image_size}")
    if not 0 <= blur_sigma < float("inf"):
        raise ValueError(f"blur_sigma must be finite and not negative, got {blur_sigma}")
    operator = _gaussian(image_size, blur_sigma) @ _bilinear(grid, image_size)
    operator.setflags(write=False)  # shared by all callers
    return operator


def patches_to_map(
    patch_logits: np.ndarray, *, image_size: int, blur_sigma: float
) -> npt.NDArray[np.float32]:
    """Average the layers' patch probabilities, up-sample and smooth them.

    Args:
        patch_logits: (L, G, G) or (B, L, G, G) float, log-odds of a defect per layer and patch.
        image_size: Side S of the network input, in pixels.
        blur_sigma: Standard deviation of the Gaussian, in pixels; 0 for none.

    Returns:
        (S, S) or (B, S, S) float32 in [0, 1].
    """
    shape = patch_logits.shape
    if len(shape) not in (3, 4) or shape[-1] != shape[-2] or 0 in shape:
        raise ValueError(f"patch_logits must be ([batch,] layers, grid, grid), got {shape}")
    patches = sigmoid(patch_logits).mean(axis=-3, dtype=np.float32)  # ([B,] G, G)
    return upsample(patches, image_size=image_size, blur_sigma=blur_sigma)


def upsample(patches: np.ndarray, *, image_size: int, blur_sigma: float) -> npt.NDArray[np.float32]:
    """Up-sample and smooth probabilities, ([B,] G, G) to ([B,] S, S) float32 in [0, 1]; see `patches_to_map`."""
    operator = map_operator(patches.shape[-1], image_size, blur_sigma).astype(np.float32)
    pixels: npt.NDArray[np.float32] = operator @ patches @ operator.T
    return np.clip(pixels, 0, 1, out=pixels)  # rounding only: the operator's rows sum to 1


def _bilinear(grid: int, image_size: int) -> npt.NDArray[np.float64]:
    """(S, G): row i holds the two weights of pixel i's centre between patch centres."""
    centres = np.clip((np.arange(image_size) + 0.5) * grid / image_size - 0.5, 0, None)
    left = np.minimum(centres.astype(int), grid - 1)
    right = np.minimum(left + 1, grid - 1)
    weight = centres - left
    rows = np.arange(image_size)
    matrix = np.zeros((image_size, grid))
    np.add.at(matrix, (rows, left), 1 - weight)
    np.add.at(matrix, (rows, right), weight)
    return matrix


def _gaussian(image_size: int, sigma: float) -> npt.NDArray[np.float64]:
    """(S, S): row i holds the Gaussian around pixel i, folded back at the borders (edge pixel repeated)."""
    if sigma == 0:
        return np.eye(image_size)
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    rows = np.arange(image_size)[:, None]
    columns = (rows + offsets) % (2 * image_size)  # the mirrored signal has period 2S
    columns = np.minimum(columns, 2 * image_size - 1 - columns)
    matrix = np.zeros((image_size, image_size))
    np.add.at(matrix, (rows, columns), kernel)
    return matrix

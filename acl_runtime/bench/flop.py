"""How much a frame has to be computed, and how much this machine can."""

from __future__ import annotations

import time

import numpy as np

from acl_runtime.bundle.manifest import Manifest

PEAK_SIDE, PEAK_TURNS = 1536, 7


def flop_per_image(manifest: Manifest, *, dimension: int, in_full: bool = False) -> float | None:
    """Multiplications and additions from pixels to map; None if the bundle does not know its width, or is not CLIP's.

    Linear layers and matrix products only; norms, softmax and activations are less than one per cent.

    Args:
        manifest: Of the bundle.
        dimension: D of CLIP's joint space.
        in_full: With all of the last block's ordinary path, as the published code computes it, instead of the class
            token's row.
    """
    width, blocks = manifest.backbone.width, manifest.backbone.blocks
    if width is None or blocks is None or manifest.backbone.name.startswith("timm:"):
        return None
    patches, layers, side = manifest.grid**2, len(manifest.layers), manifest.image_size
    tokens, pixels = patches + 1, (side // manifest.grid) ** 2 * 3
    second_path, mixed = max(0, blocks - manifest.vv_from + 1), len(manifest.attention.split("+"))
    windows = {side: (manifest.grid - side + 1) ** 2 for side in manifest.windows}

    def attention(rows: int, keys: int = tokens) -> float:
        return 4 * rows * keys * width + 2 * rows * width**2  # two products, and the projection after them

    def ordinary(rows: int, keys: int = tokens) -> float:
        return attention(rows, keys) + 16 * rows * width**2  # and the MLP

    def window(seen: int) -> float:
        return blocks * (6 * seen * width**2 + ordinary(seen, seen)) + 2 * width * dimension

    last_rows = tokens if in_full or not second_path else 1
    return float(
        2 * patches * pixels * width
        + blocks * 6 * tokens * width**2  # queries, keys and values
        + (blocks - 1) * ordinary(tokens)
        + ordinary(last_rows)
        + second_path * (attention(tokens) + (mixed - 1) * 4 * tokens**2 * width)
        + 2 * (layers * patches * (not windows) + 1) * width * dimension
        + sum(count * window(1 + side**2) for side, count in windows.items())
        + 2 * side * manifest.grid * (side + manifest.grid)
    )


def measure_cpu_peak() -> float:
    """FLOP/s of a large float32 matrix product on this CPU, the best of several."""
    a, b = (np.random.default_rng(seed).random((PEAK_SIDE, PEAK_SIDE), np.float32) for seed in (0, 1))
    product = a @ b
    laps = []
    for _ in range(PEAK_TURNS):
        started = time.perf_counter()
        np.matmul(a, b, out=product)
        laps.append(time.perf_counter() - started)
    return float(2 * PEAK_SIDE**3 / min(laps))

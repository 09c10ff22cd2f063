"""What light and camera do to a picture, the same to a good and a defective one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acl_train.tiny.fields import Image, Rng, blur, grid, turned


def photograph(image: Image, rng: Rng) -> NDArray[np.uint8]:
    """The drawn picture under uneven light, slightly blurred and noisy, as (S, S, 3) uint8 BGR."""
    size = len(image)
    slope, vignette, gain, blurred, noisy = rng.random(5)
    u, _ = turned(size, rng.uniform(0, 2 * np.pi))
    x, y = grid(size)
    light = 1 + (rng.uniform(0, 0.4) * u if slope < 0.5 else 0.0 * u)
    light = light * (1 - (rng.uniform(0, 0.9) * ((x - 0.5) ** 2 + (y - 0.5) ** 2) if vignette < 0.25 else 0))
    light = light * (rng.uniform(0.75, 1.2) if gain < 0.3 else 1)
    image = image * light[..., None]
    if rng.random() < 0.15:
        image = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    if blurred < 0.3:
        image = blur(image, rng.uniform(0.3 / size, 0.004 + 0.3 / size))
    if noisy < 0.6:
        image = image + rng.normal(0, rng.uniform(0.002, 0.02), image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

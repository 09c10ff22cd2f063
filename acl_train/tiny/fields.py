"""Scale-free fields that products and defects are drawn with: coordinates, noise, shapes, colour, light."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]  # float32; float64 only in passing
Field = Real  # (S, S), one number per pixel
Image = Real  # (S, S, 3) BGR in [0, 1]
Colour = Real  # (3,) BGR in [0, 1]
Rng = np.random.Generator


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Field, Field]:
    """x to the right and y downwards at the pixels' centres, both (S, S) in 0..1."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def turned(size: int, angle: float, centre: tuple[float, float] = (0.5, 0.5)) -> tuple[Field, Field]:
    """Coordinates about `centre`, turned by `angle` in radians."""
    x, y = grid(size)
    x, y = x - centre[0], y - centre[1]
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return c * x + s * y, c * y - s * x


def noise(rng: Rng, size: int, cells: float, cells_y: float | None = None) -> Field:
    """Smooth unit-variance noise with `cells` blobs across the picture (and `cells_y` down it)."""
    columns, rows = (min(size, max(2, round(n))) for n in (cells, cells_y or cells))
    values = rng.standard_normal((rows + 2, columns + 2), dtype=np.float32)
    big = cv2.resize(
        values, (size + 2 * size // columns, size + 2 * size // rows), interpolation=cv2.INTER_CUBIC
    )
    top, left = (big.shape[0] - size) // 2, (big.shape[1] - size) // 2
    return np.asarray(big[top : top + size, left : left + size] * np.float32(1.25))


def fractal(rng: Rng, size: int, cells: float, octaves: int = 4) -> Field:
    """Noise at `cells`, 2·`cells`, 4·`cells`... with falling strength, about unit variance."""
    weights = 0.6 ** np.arange(octaves)
    total = sum(float(w) * noise(rng, size, cells * 2**k) for k, w in enumerate(weights))
    return np.asarray(total / np.linalg.norm(weights), np.float32)


def streaks(rng: Rng, size: int, across: float, along: float, angle: float) -> Field:
    """Noise drawn out along `angle`: `across` streaks side by side, each `along` long pieces."""
    field = noise(rng, size, along, across)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), float(np.degrees(angle)), 1.0)
    return np.asarray(cv2.warpAffine(field, matrix, (size, size), borderMode=cv2.BORDER_REFLECT), np.float32)


def cellular(rng: Rng, u: Field, v: Field) -> tuple[Field, Field, NDArray[np.int64]]:
    """Worley noise at the coordinates `u`, `v`: nearest distance, second nearest, and number of the cell."""
    i, j = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    points = rng.uniform(0.1, 0.9, (32, 32, 2)).astype(np.float32)
    cells = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    offsets = [points[a % 32, b % 32] for a, b in cells]
    distances = np.stack(
        [np.hypot(a + p[..., 0] - u, b + p[..., 1] - v) for (a, b), p in zip(cells, offsets, strict=True)]
    )  # (9, S, S)
    near = distances.argmin(axis=0)
    first, second = np.partition(distances, 1, axis=0)[:2]
    cell = (i + near // 3 - 1) % 32 * 32 + (j + near % 3 - 1) % 32
    return first.astype(np.float32), second.astype(np.float32), cell


def disc(u: Field, v: Field, radius: float | Field) -> Field:
    """Signed distance to a circle, negative inside."""
    return np.asarray(np.hypot(u, v) - radius, np.float32)


def box(u: Field, v: Field, width: float, height: float, corner: float = 0.0) -> Field:
    """Signed distance to a rectangle of half sides `width`, `height` with round corners."""
    a, b = np.abs(u) - width + corner, np.abs(v) - height + corner
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
    return np.asarray(outside + np.minimum(np.maximum(a, b), 0) - corner, np.float32)


def polygon(u: Field, v: Field, sides: int, radius: float) -> Field:
    """Signed distance (exact at the sides) to a regular polygon with that inner radius."""
    sector = 2 * np.pi / sides
    angle = np.arctan2(v, u)
    folded = np.mod(angle + sector / 2, sector) - sector / 2
    return np.asarray(np.hypot(u, v) * np.cos(folded) - radius, np.float32)


def soft(distance: Field, softness: float) -> Field:
    """Coverage 1 inside and 0 outside of a signed distance, fading over `softness`."""
    return np.asarray(np.clip(0.5 - distance / softness, 0, 1), np.float32)


def wave(phase: Field) -> Field:
    """A cosine in 0..1 with period 1."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * phase), np.float32)


def between(low: float, high: float, field: Field) -> Field:
    """Smooth step of `field` from 0 at `low` to 1 at `high`."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def colour(rng: Rng, lightness: tuple[float, float] = (0.15, 0.9), saturation: float = 0.6) -> Colour:
    """A random colour; three in ten are grey."""
    strength = 0.0 if rng.random() < 0.3 else rng.uniform(0, saturation)
    hue = rng.uniform(0, 360)
    pixel = np.array([[[hue, strength, rng.uniform(*lightness)]]], np.float32)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float32)


def near(rng: Rng, base: Colour, amount: float) -> Colour:
    """A colour like `base`, lighter or darker by up to `amount`, with a slight cast."""
    return np.clip(base + rng.uniform(-amount, amount) + rng.normal(0, amount / 5, 3), 0.02, 0.98).astype(
        np.float32
    )


def away(
    rng: Rng, base: Colour, lightness: tuple[float, float] = (0.05, 0.95), saturation: float = 0.9
) -> Colour:
    """A colour that stands out from `base`."""
    choices = [colour(rng, lightness, saturation) for _ in range(4)]
    return max(choices[: rng.integers(2, 5)], key=lambda c: float(np.abs(c - base).max()))


def ramp(field: Field, low: Colour, high: Colour) -> Image:
    """`low` where `field` is 0, `high` where it is 1."""
    return np.asarray(low + field[..., None] * (high - low), np.float32)


def blend(image: Image, over: Image | Colour, alpha: Field) -> Image:
    """`over` on `image` with coverage `alpha`."""
    return np.asarray(image + alpha[..., None] * (over - image), np.float32)


def lit(image: Image, height: Field, strength: float, angle: float) -> Image:
    """`image` as a relief of `height` (in picture sides) lit from `angle`."""
    scale = strength * len(image) / 8  # 8: the Sobel kernel's gain
    height = np.asarray(height, np.float32)
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1)
    slope = np.clip(scale * (np.cos(angle) * dx + np.sin(angle) * dy), -0.8, 0.8, dtype=np.float32)
    return np.asarray(image * (1 + slope[..., None]), np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur of a (S, S) or (S, S, 3) array; `sigma` in picture sides."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), max(0.3, sigma * len(field))), np.float32)


def polyline(size: int, points: NDArray[np.float64], width: float) -> Field:
    """Coverage of a line through (N, 2) points in 0..1; `width` in picture sides."""
    scale = 2  # drawn large and reduced, so that hairlines fade rather than break
    canvas = np.zeros((size * scale, size * scale), np.uint8)
    corners = np.rint(points * size * scale * 16).astype(np.int32)
    thickness = max(1, round(width * size * scale))
    cv2.polylines(canvas, [corners], False, 255, thickness, cv2.LINE_AA, shift=4)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def scaled(rng: Rng, size: int, low: float, high: float, *, tilt: float = 0.15) -> tuple[Field, Field]:
    """Coordinates with `low` to `high` periods across, shifted, slightly turned or by a quarter as well."""
    angle = rng.uniform(-tilt, tilt) + rng.integers(0, 2) * np.pi / 2
    u, v = turned(size, angle, (rng.uniform(-2, -1), rng.uniform(-2, -1)))
    count = rng.uniform(low, high)
    return u * count, v * count


def light(rng: Rng) -> float:
    """A direction that light comes from."""
    return float(rng.uniform(0, 2 * np.pi))

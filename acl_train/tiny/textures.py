"""Surfaces that fill the picture: cloth, wood, stone, metal, boards."""

from __future__ import annotations

import numpy as np

from acl_train.tiny.fields import (
    Image,
    Rng,
    away,
    between,
    blend,
    cellular,
    colour,
    fractal,
    light,
    lit,
    near,
    noise,
    ramp,
    scaled,
    soft,
    streaks,
    turned,
    wave,
)


def weave(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 9, 24, tilt=0.8)
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    a, b = wave(u), wave(v)
    height = np.where(over, a * (0.5 + 0.5 * b), b * (0.5 + 0.5 * a))
    base = colour(rng)
    warp, weft = near(rng, base, 0.1), near(rng, base, 0.25)
    image = np.where(over[..., None], warp, weft) * (0.45 + 0.55 * height[..., None])
    return image * (1 + 0.06 * fractal(rng, size, 30, 2))[..., None]


def twill(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 14, 34, tilt=0.5)
    diagonal = wave((u + v * rng.choice([1.0, 2.0, -1.0])) / 2)
    threads = wave(u) * 0.3 + diagonal * 0.7
    base = colour(rng)
    image = ramp(threads, near(rng, base * 0.6, 0.05), base)
    return image * (1 + 0.07 * fractal(rng, size, 25, 3))[..., None]


def linen(rng: Rng, size: int) -> Image:
    angle = rng.uniform(0, np.pi)
    threads = streaks(rng, size, 70, 5, angle) + streaks(rng, size, 70, 5, angle + np.pi / 2)
    return colour(rng, (0.3, 0.95)) * (1 + rng.uniform(0.04, 0.1) * threads)[..., None]


def wood(rng: Rng, size: int) -> Image:
    angle = rng.normal(0, 0.1) + rng.integers(0, 2) * np.pi / 2
    u, v = turned(size, angle, (rng.uniform(-1, 1), rng.uniform(-3, 3)))
    rings = wave(
        v * rng.uniform(4, 12) + rng.uniform(0.2, 0.6) * noise(rng, size, 3) + u * rng.uniform(-1, 1)
    )
    grain = streaks(rng, size, 60, 4, -angle)
    light_wood = np.array([0.35, 0.55, 0.75], np.float32) * rng.uniform(0.5, 1.2) + rng.normal(0, 0.04, 3)
    dark_wood = light_wood * rng.uniform(0.5, 0.8)
    return ramp(np.clip(0.7 * rings + 0.15 * grain, 0, 1), light_wood, dark_wood).astype(np.float32)


def brushed(rng: Rng, size: int) -> Image:
    angle = light(rng)
    u, _ = turned(size, angle + np.pi / 2)
    sheen = 1 + rng.uniform(0.05, 0.25) * np.cos(rng.uniform(2, 5) * u + light(rng))
    metal = near(rng, np.full(3, rng.uniform(0.3, 0.8), np.float32), 0.05)
    lines = rng.uniform(0.03, 0.1) * streaks(rng, size, 80, 3, angle)
    return np.asarray(metal * (sheen * (1 + lines))[..., None], np.float32)


def granite(rng: Rng, size: int) -> Image:
    image = np.broadcast_to(colour(rng, (0.3, 0.8), 0.3), (size, size, 3))
    for _ in range(3):
        specks = between(0.3, 0.7, fractal(rng, size, rng.uniform(25, 60), 2))
        image = blend(image, colour(rng, (0.1, 0.9), 0.3), specks * rng.uniform(0.3, 0.8))
    return image


def leather(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 14, 28)
    first, second, _ = cellular(rng, u + 0.3 * noise(rng, size, 8), v + 0.3 * noise(rng, size, 8))
    height = between(0, 0.35, second - first)
    base = colour(rng, (0.15, 0.7), 0.7)
    image = ramp(height, base * 0.55, base) * (1 + 0.05 * fractal(rng, size, 6))[..., None]
    return lit(image, height * 0.015, 1.0, light(rng))


def stripes(rng: Rng, size: int) -> Image:
    u, _ = scaled(rng, size, 3, 10, tilt=1.0)
    bands = soft(np.abs(u % 1 - 0.5) - rng.uniform(0.12, 0.38), 0.06)
    cloth = linen(rng, size)
    return blend(cloth, away(rng, cloth.mean((0, 1))) * (cloth / cloth.mean()), bands)


def checker(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 3, 9, tilt=0.8)
    a, b = (soft(np.abs(w % 1 - 0.5) - 0.25, 0.06) for w in (u, v))
    cloth = linen(rng, size)
    return blend(cloth, away(rng, cloth.mean((0, 1))) * (cloth / cloth.mean()), 0.5 * (a + b))


def carpet(rng: Rng, size: int) -> Image:
    tufts = fractal(rng, size, rng.uniform(28, 60), 2)
    base = colour(rng, (0.25, 0.8))
    image = base * (1 + rng.uniform(0.1, 0.22) * tufts)[..., None]
    return lit(image, tufts * 0.004, 0.6, light(rng))


def paper(rng: Rng, size: int) -> Image:
    base = colour(rng, (0.55, 0.97), 0.3)
    return (
        base
        * (1 + rng.uniform(0.01, 0.03) * fractal(rng, size, 20, 3) + 0.03 * noise(rng, size, 2))[..., None]
    )


def concrete(rng: Rng, size: int) -> Image:
    base = colour(rng, (0.35, 0.75), 0.15)
    image = base * (1 + rng.uniform(0.05, 0.12) * fractal(rng, size, 4, 5))[..., None]
    pores = between(2.0, 2.6, noise(rng, size, rng.uniform(30, 60)))
    return blend(image, base * 0.5, pores)


def marble(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 1, 3, tilt=1.5)
    vein = np.abs(np.sin(np.pi * (u + 0.5 * v) + rng.uniform(0.7, 1.4) * fractal(rng, size, 3, 5)))
    base = colour(rng, (0.55, 0.95), 0.2)
    return ramp(between(0.0, rng.uniform(0.2, 0.6), vein), away(rng, base, (0.2, 0.7), 0.4), base)


def foam(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 9, 18)
    first, second, cell = cellular(rng, u, v)
    pore = between(0.1, 0.4, second - first) * rng.uniform(0.3, 1, 1024).astype(np.float32)[cell]
    base = colour(rng, (0.4, 0.95), 0.7)
    return lit(ramp(pore, base, base * rng.uniform(0.35, 0.7)), -pore * 0.01, 1.0, light(rng))


def knit(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 8, 16)
    lean = np.abs(u % 1 - 0.5) * 1.6
    stitch = wave(v * 1.2 + lean) * (0.35 + 0.65 * wave(2 * u))
    base = colour(rng, (0.3, 0.9), 0.8)
    image = ramp(stitch, base * 0.4, base)
    return image * (1 + 0.08 * fractal(rng, size, 40, 2))[..., None]

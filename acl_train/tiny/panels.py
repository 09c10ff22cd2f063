"""Surfaces made of parts: tiles, meshes, cells, boards."""

from __future__ import annotations

import numpy as np

from acl_train.tiny.fields import (
    Field,
    Image,
    Rng,
    away,
    between,
    blend,
    box,
    cellular,
    colour,
    disc,
    fractal,
    light,
    lit,
    near,
    noise,
    polyline,
    ramp,
    scaled,
    soft,
    turned,
    wave,
)
from acl_train.tiny.textures import brushed, linen


def tiles(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 3, 7)
    return laid(rng, size, u, v)


def brick(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 2, 5)
    v = v * 2
    return laid(rng, size, u + 0.5 * (np.floor(v) % 2), v)


def laid(rng: Rng, size: int, u: Field, v: Field) -> Image:
    """Stones at the whole numbers of `u`, `v` with joints between them."""
    shade = rng.normal(0, rng.uniform(0, 0.12), (16, 16)).astype(np.float32)
    cell = shade[np.floor(v).astype(int) % 16, np.floor(u).astype(int) % 16]
    stretch = np.maximum(1, np.abs(np.gradient(v)[0]).mean() / np.abs(np.gradient(u)[1]).mean())
    gap = np.minimum(0.5 - np.abs(u % 1 - 0.5), (0.5 - np.abs(v % 1 - 0.5)) / stretch)
    joint = rng.uniform(0.02, 0.05)
    body = between(joint, joint * 1.8, gap.astype(np.float32))
    base = colour(rng, (0.35, 0.9))
    face = base * (1 + cell + rng.uniform(0.02, 0.08) * fractal(rng, size, 12))[..., None]
    image = blend(np.broadcast_to(near(rng, base * 0.6, 0.1), face.shape), face, body)
    return lit(image, body * 0.02, rng.uniform(0.3, 1), light(rng))


def perforated(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 6, 14, tilt=0.8)
    u = u + 0.5 * (np.floor(v) % 2) * rng.integers(0, 2)
    hole = soft(disc(u % 1 - 0.5, v % 1 - 0.5, rng.uniform(0.2, 0.36)), 0.12)
    plate = brushed(rng, size) if rng.random() < 0.5 else linen(rng, size)
    image = blend(plate, colour(rng, (0.02, 0.25)), hole)
    return lit(image, -hole * 0.01, 1.0, light(rng))


def mesh(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 7, 18, tilt=0.8)
    thick = rng.uniform(0.3, 0.6)
    a, b = between(1 - thick, 1 - thick / 2, wave(u)), between(1 - thick, 1 - thick / 2, wave(v))
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    wire = np.maximum(a * np.where(over, 1, 0.75), b * np.where(over, 0.75, 1)).astype(np.float32)
    deep = colour(rng, (0.03, 0.5))
    return blend(np.broadcast_to(deep, (size, size, 3)), away(rng, deep, (0.4, 0.95), 0.5), wire)


def solar(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 6, 12)
    _, _, cell = cellular(rng, u + noise(rng, size, 6), v + noise(rng, size, 6))
    grains = rng.normal(0, rng.uniform(0, 0.12), 1024).astype(np.float32)[cell]
    base = near(rng, np.array([0.5, 0.3, 0.22], np.float32), 0.2)
    if rng.random() < 0.5:
        base = np.full(3, rng.uniform(0.3, 0.7), np.float32)  # electroluminescence pictures are grey
    image = base * (1 + grains + 0.05 * fractal(rng, size, 4))[..., None]
    s, t = turned(size, rng.integers(0, 2) * np.pi / 2)
    image = image * (1 - 0.12 * wave(s * rng.integers(20, 40)))[..., None]
    bars = soft(np.abs((t * rng.integers(2, 5)) % 1 - 0.5) - 0.02, 0.02)
    image = blend(image, rng.choice([0.05, 0.9]) * np.ones(3, np.float32), bars * 0.8)
    frame = soft(-box(s, t, 0.485, 0.485, 0.06), 0.01)
    return blend(image, np.full(3, 0.04, np.float32), frame)


def pcb(rng: Rng, size: int) -> Image:
    base = near(rng, colour(rng, (0.2, 0.5), 0.9), 0.1)
    image = base * (1 + 0.03 * fractal(rng, size, 20, 2))[..., None]
    traces, pads = np.zeros((2, size, size), np.float32)
    for _ in range(rng.integers(6, 14)):
        route = np.round(rng.uniform(0.02, 0.98, 2) * 16) / 16 + np.cumsum(
            rng.integers(-3, 4, (4, 2)) / 16, axis=0
        )
        traces = np.maximum(traces, polyline(size, route, rng.uniform(0.008, 0.02)))
        for x, y in route[[0, -1]]:
            pads = np.maximum(pads, soft(disc(*turned(size, 0, (x, y)), 0.022), 0.01))
    image = blend(image, base * 1.5 + 0.05, traces)
    image = lit(image, traces * 0.006, 1.0, light(rng))
    return blend(image, np.array([0.55, 0.75, 0.8], np.float32), pads)


def hexagons(rng: Rng, size: int) -> Image:
    u, v = scaled(rng, size, 5, 11, tilt=0.6)
    a = np.stack([u % 1.7320508 - 0.8660254, v % 1 - 0.5])
    b = np.stack([(u - 0.8660254) % 1.7320508 - 0.8660254, (v - 0.5) % 1 - 0.5])
    c = np.where((a**2).sum(0) < (b**2).sum(0), a, b)
    edge = 0.5 - np.maximum(np.abs(c[1]), np.abs(c[1]) / 2 + np.abs(c[0]) * 0.8660254)
    face = between(0.02, 0.09, edge.astype(np.float32))
    base = colour(rng, (0.3, 0.9))
    return lit(ramp(face, base * 0.35, base), face * 0.02, 0.6, light(rng))

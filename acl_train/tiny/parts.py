"""More things on a background: labels, leaves, pipes, dials."""

from __future__ import annotations

import numpy as np

from acl_train.tiny import textures
from acl_train.tiny.fields import (
    Rng,
    away,
    between,
    blend,
    box,
    colour,
    disc,
    fractal,
    light,
    lit,
    near,
    noise,
    soft,
    wave,
)
from acl_train.tiny.objects import Drawn, domed, flat, metal, place, printed


def label(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.25)
    sheet = colour(rng, (0.6, 0.98), 0.4)
    ink = away(rng, sheet, (0.02, 0.5))
    image = blend(flat(size, sheet), ink, at.cover(box(at.u, at.v + 0.42, 0.85, 0.13)) * rng.uniform(0.5, 1))
    lines = np.maximum(np.abs((at.v * 6) % 1 - 0.5) - 0.17, np.abs(at.v - 0.1) - 0.3)
    words = np.maximum(
        lines, 0.3 - np.abs((at.u * rng.uniform(2, 4) + np.floor(at.v * 6) * 0.37) % 1 - 0.5) - 0.2
    )
    image = blend(image, ink, at.cover(np.maximum(words, np.abs(at.u) - 0.8).astype(np.float32), 3) * 0.8)
    return image, at.cover(box(at.u, at.v, 0.98, 0.65, 0.05))


def leaf(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    width = 0.5 * np.cos(at.u * np.pi / 2.1) * (1 - 0.25 * at.u)
    ribs = between(0.9, 1.0, wave((at.u - np.abs(at.v) * 0.8) * rng.uniform(2.5, 5)))
    veins = np.maximum(ribs * 0.6, soft(np.abs(at.v) - 0.02, 0.03))
    green = near(rng, np.array([0.2, 0.5, 0.3], np.float32), 0.15)
    image = blend(flat(size, green), green * 1.4 + 0.08, veins.astype(np.float32))
    image = image * (1 + 0.06 * fractal(rng, size, 10))[..., None]
    return image, at.cover(np.maximum(np.abs(at.v) - width, np.abs(at.u) - 0.98).astype(np.float32))


def pipe(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    radius = rng.uniform(0.35, 0.6)
    image = metal(rng, size) if rng.random() < 0.5 else flat(size, colour(rng))
    rings = wave(at.u * rng.uniform(3, 10)) * rng.choice([0.0, 0.0, 0.4])
    image = image * (1 - rings)[..., None]
    return domed(image, 1 - (at.v / radius) ** 2, at, rng), at.cover(box(at.u, at.v, 1.0, radius, 0.03))


def zipper(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.2)
    cloth = textures.twill(rng, size)
    comb = (at.v * rng.uniform(6, 10) + 0.5 * (at.u > 0)) % 1
    teeth = at.cover(np.maximum(np.abs(at.u) - 0.17, np.abs(comb - 0.5) / 6 - 0.05).astype(np.float32))
    image = blend(cloth, near(rng, np.full(3, 0.65, np.float32), 0.2), teeth)
    return lit(image, teeth * 0.015, 1.0, light(rng)), at.cover(box(at.u, at.v, 0.6, 1.1))


def dial(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.3)
    r, around = np.hypot(at.u, at.v), np.arctan2(at.v, at.u).astype(np.float32)
    face = colour(rng, (0.1, 0.98), 0.3)
    ink = away(rng, face)
    ticks = between(0.7, 0.9, wave(around * rng.integers(12, 25) / (2 * np.pi) + 0.5)) * at.cover(
        np.abs(r - 0.7) - 0.08
    )
    needle = rng.uniform(0, 2 * np.pi)
    along, across = (
        at.u * np.cos(needle) + at.v * np.sin(needle),
        at.v * np.cos(needle) - at.u * np.sin(needle),
    )
    hand = at.cover(np.maximum(np.abs(across) - 0.05 * (1 - along), np.abs(along - 0.2) - 0.4))
    image = blend(blend(flat(size, face), ink, ticks), away(rng, face), np.maximum(hand, at.cover(r - 0.1)))
    image = blend(image, metal(rng, size), at.cover(0.84 - r))
    return image, at.cover(r - 0.97)


def beans(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    tone = colour(rng, (0.3, 0.9), 0.8)
    image, cover = flat(size, tone), np.zeros((size, size), np.float32)
    for turn in np.arange(6) * np.pi / 3 + rng.uniform(0, np.pi):
        x, y = np.array([np.cos(turn), np.sin(turn)]) * rng.uniform(0.6, 0.75)
        lean = rng.uniform(0, np.pi)
        a = ((at.u - x) * np.cos(lean) + (at.v - y) * np.sin(lean)) / 0.34
        b = ((at.v - y) * np.cos(lean) - (at.u - x) * np.sin(lean)) / 0.24
        one = at.cover((np.hypot(a, b) - 1) * 0.24)
        shade = 0.5 + 0.5 * np.sqrt(np.clip(1 - a**2 - b**2, 0, 1))
        image = blend(image, near(rng, tone, 0.08) * shade[..., None], one)
        cover = np.maximum(cover, one)
    return image, cover


def coin(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    r = np.hypot(at.u, at.v)
    relief = at.cover(np.abs(r - 0.86) - 0.03, 4) + between(0.2, 0.5, noise(rng, size, 7)) * (r < 0.6)
    metals = np.array([[0.35, 0.6, 0.8], [0.6, 0.6, 0.62], [0.25, 0.45, 0.7]], np.float32)
    image = flat(size, near(rng, metals[rng.integers(0, 3)], 0.08))
    return lit(image, relief.astype(np.float32) * 0.015, 1.0, light(rng)), at.cover(r - 0.96)


def plug(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.3)
    shell = colour(rng, (0.1, 0.9))
    columns, rows = int(rng.integers(3, 8)), int(rng.integers(1, 4))
    a = ((at.u + 0.75) * columns / 1.5) % 1 - 0.5
    b = ((at.v + 0.45) * rows / 0.9) % 1 - 0.5
    inside = box(at.u, at.v, 0.75, 0.45)
    image = blend(flat(size, shell), shell * 0.35, at.cover(box(at.u, at.v, 0.82, 0.52, 0.05)))
    pins = at.cover(np.maximum(box(a * 1.5 / columns, b * 0.9 / rows, 0.06, 0.06), inside))
    image = blend(image, np.array([0.4, 0.7, 0.85], np.float32), pins)
    return lit(image, pins * 0.01, 1.0, light(rng)), at.cover(box(at.u, at.v, 0.98, 0.7, 0.1))


def card(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.3)
    tone = colour(rng, (0.2, 0.95), 0.8)
    image = flat(size, tone) * (1 + 0.15 * at.u)[..., None]
    image = blend(
        image, np.array([0.45, 0.7, 0.8], np.float32), at.cover(box(at.u + 0.55, at.v, 0.16, 0.13, 0.03))
    )
    return printed(image, rng, size, at), at.cover(box(at.u, at.v, 0.98, 0.62, 0.1))


def grille(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    bars = at.cover(np.abs((at.u * rng.uniform(3, 6)) % 1 - 0.5) / 4 - 0.055)
    tone = colour(rng, (0.3, 0.9))
    image = blend(flat(size, tone), tone * 0.2, bars * at.cover(disc(at.u, at.v, 0.8)))
    return lit(image, -bars * 0.01, 1.0, light(rng)), at.cover(disc(at.u, at.v, 0.96))


def blister(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.2)
    count = int(rng.integers(3, 6))
    a, b = (((w + 0.9) * count / 1.8) % 1 - 0.5 for w in (at.u, at.v))
    bump = between(0.4, 0.2, np.hypot(a, b).astype(np.float32))
    image = lit(blend(metal(rng, size), colour(rng, (0.3, 0.95), 0.8), bump), bump * 0.03, 1.0, light(rng))
    return image, at.cover(box(at.u, at.v, 0.9, 0.9, 0.08))


def cookie(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    dough = np.array([0.35, 0.6, 0.85], np.float32) * rng.uniform(0.6, 1.1)
    crumb = fractal(rng, size, 12)
    image = flat(size, dough) * (1 + 0.1 * crumb - 0.3 * between(0.6, 1.0, np.hypot(at.u, at.v)))[..., None]
    drops = between(1.1, 1.4, noise(rng, size, 11)) * rng.integers(0, 2)
    image = lit(blend(image, dough * 0.25, drops), crumb * 0.006, 1.0, light(rng))
    return image, at.cover(disc(at.u, at.v, 0.93 + 0.03 * noise(rng, size, 6)))

"""Things that lie on a background: nuts, pills, screws, chips, cables."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from acl_train.tiny import textures
from acl_train.tiny.fields import (
    Colour,
    Field,
    Image,
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
    polygon,
    ramp,
    soft,
    turned,
    wave,
)


@dataclass(frozen=True)
class Place:
    """Where the thing lies: coordinates about its centre in which it is about one unit in radius."""

    u: Field
    v: Field
    pixel: float  # in units

    def cover(self, distance: Field, softness: float = 1.5) -> Field:
        """Coverage of a signed distance, fading over that many pixels."""
        return soft(distance, softness * self.pixel)


Drawn = tuple[Image, Field]  # the thing's surface, and its coverage


def place(rng: Rng, size: int, *, turn: float = np.pi) -> Place:
    """A place near the middle, turned by up to `turn`."""
    radius = rng.uniform(0.3, 0.44)
    u, v = turned(size, rng.uniform(-turn, turn), (rng.uniform(0.46, 0.54), rng.uniform(0.46, 0.54)))
    return Place(u / radius, v / radius, 1 / (size * radius))


def background(rng: Rng, size: int) -> Image:
    """A bench, a belt, a sheet of paper, or darkness."""
    kind = rng.integers(0, 7)
    if kind < 3:
        plain = np.broadcast_to(colour(rng, (0.02, 0.95), 0.4), (size, size, 3))
        return plain * (1 + rng.uniform(0, 0.03) * fractal(rng, size, 8))[..., None]
    if kind == 3:
        return np.full((size, size, 3), rng.uniform(0.01, 0.08), np.float32)
    surface = (textures.paper, textures.linen, textures.concrete, textures.brushed)[rng.integers(0, 4)]
    return surface(rng, size)


def flat(size: int, tone: Colour) -> Image:
    """One colour everywhere."""
    return np.broadcast_to(tone, (size, size, 3)).astype(np.float32)


def domed(image: Image, height: Field, at: Place, rng: Rng, shine: float = 0.3) -> Image:
    """A round surface: darker towards the rim, with a soft highlight."""
    x, y = rng.uniform(-0.4, 0.4, 2)
    shade = 0.55 + 0.45 * np.sqrt(np.clip(height, 0, 1))
    gleam = np.exp(-((at.u - x) ** 2 + (at.v - y) ** 2) / 0.06) * rng.uniform(0, shine)
    return np.asarray(image * shade[..., None] + gleam[..., None], np.float32)


def metal(rng: Rng, size: int) -> Image:
    """Brushed or cast metal."""
    if rng.random() < 0.5:
        return textures.brushed(rng, size)
    tone = near(rng, np.full(3, rng.uniform(0.35, 0.75), np.float32), 0.08)
    return flat(size, tone) * (1 + 0.05 * fractal(rng, size, 15))[..., None]


def nut(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    around = np.arctan2(at.v, at.u + 0.3)
    radius = 0.92 + 0.05 * noise(rng, size, 3) - 0.08 * np.cos(around)
    brown = np.array([0.15, 0.32, 0.55], np.float32) * rng.uniform(0.6, 1.3)
    grooves = wave(around * rng.integers(6, 12) / np.pi + 0.2 * noise(rng, size, 5))
    image = ramp(grooves * 0.5 + 0.15 * fractal(rng, size, 8), brown, brown * 0.55)
    cap = between(-0.35, -0.5, at.u + 0.1 * noise(rng, size, 6))
    image = blend(image, brown * 1.3 + 0.1 * np.ones(3, np.float32), cap * 0.8)
    return domed(image, 1 - at.u**2 - at.v**2, at, rng), at.cover(disc(at.u, at.v, radius))


def egg(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    v = at.v * (1.25 + 0.2 * at.u)
    tone = colour(rng, (0.6, 0.97), 0.35)
    freckles = between(1.2, 2.0, noise(rng, size, 30)) * rng.uniform(0, 0.5)
    image = blend(flat(size, tone), tone * 0.55, freckles)
    return domed(image, 1 - at.u**2 - v**2, at, rng), at.cover(disc(at.u, v, 0.98))


def capsule(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    left = colour(rng, (0.3, 0.95), 0.9)
    image = blend(flat(size, left), away(rng, left), at.cover(at.u - 0.05))
    image = image * (1 - 0.2 * at.cover(np.abs(at.u - 0.05) - 0.02))[..., None]
    image = printed(image, rng, size, at)
    height = 1 - (at.v / 0.42) ** 2
    return domed(image, height, at, rng, 0.5), at.cover(box(at.u, at.v, 1.0, 0.42, 0.42))


def printed(image: Image, rng: Rng, size: int, at: Place) -> Image:
    """A few letters across the middle, on half of the things."""
    if rng.random() < 0.5:
        return image
    text = "".join(rng.choice(list("ABEFHKMNRSX0234589"), rng.integers(2, 5)))
    stamp = np.zeros((64, 160), np.uint8)
    cv2.putText(stamp, text, (6, 46), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 4, cv2.LINE_AA)
    x, y = (at.u * 90 + 80).astype(np.float32), (at.v * 90 + 32).astype(np.float32)
    ink = cv2.remap(stamp, x, y, cv2.INTER_LINEAR).astype(np.float32) / 255
    return blend(image, away(rng, image.mean((0, 1))), ink * rng.uniform(0.5, 0.9))


def pill(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    v = at.v * rng.choice([1.0, 1.0, 1.6])
    tone = colour(rng, (0.6, 0.97), 0.6)
    specks = between(1.6, 2.2, noise(rng, size, 40)) * rng.integers(0, 2)
    image = blend(flat(size, tone), away(rng, tone), specks * 0.6)
    score = at.cover(np.abs(at.u) - 0.04, 4) * rng.integers(0, 2)
    rim = between(0.75, 0.95, np.hypot(at.u, v))
    image = lit(image, -0.02 * rim - 0.012 * score, 1.0, light(rng))
    return printed(image, rng, size, at), at.cover(disc(at.u, v, 0.95))


def screw(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    pitch = rng.uniform(5, 9)
    thread = wave(at.u * pitch + at.v * 0.5)
    taper = np.clip((1 - at.u) * 3, 0, 1)
    shaft = np.maximum(np.abs(at.v) - (0.13 + 0.05 * thread) * taper, np.abs(at.u - 0.1) - 0.9)
    head = box(at.u + 0.88, at.v, 0.14, 0.36, 0.06)
    image = metal(rng, size) * (0.6 + 0.5 * thread * (at.u > -0.72))[..., None]
    image = image * (0.5 + 0.5 * np.sqrt(np.clip(1 - (at.v / 0.4) ** 2, 0, 1)))[..., None]
    return image.astype(np.float32), at.cover(np.minimum(shaft, head).astype(np.float32))


def washer(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    inner = rng.uniform(0.35, 0.65)
    r = np.hypot(at.u, at.v)
    rim = np.minimum(between(0.95, 0.88, r), between(inner, inner + 0.06, r))
    image = lit(metal(rng, size), rim * 0.02, 1.0, light(rng))
    return image, at.cover(np.maximum(r - 0.95, inner - r))


def hexnut(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    r = np.hypot(at.u, at.v)
    bore = rng.uniform(0.4, 0.55)
    chamfer = between(0.86, 0.98, r)
    ring = at.cover(np.abs(r - bore - 0.06) - 0.04)
    image = lit(metal(rng, size), -0.02 * chamfer - 0.01 * ring, 1.0, light(rng))
    return image, at.cover(np.maximum(polygon(at.u, at.v, 6, 0.85), bore - r))


def bottle(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    r = np.hypot(at.u, at.v)
    glass = colour(rng, (0.1, 0.5), 0.9)
    rings = np.interp(r, np.sort(rng.uniform(0, 1, 6)), rng.uniform(0.1, 1.0, 6)).astype(np.float32)
    image = ramp(rings, glass * 0.3, np.minimum(glass * 1.6 + 0.15, 1))
    gleam = between(0.7, 1.0, np.cos(np.arctan2(at.v, at.u) * 2 + light(rng))) * between(0.5, 0.8, r)
    return blend(image, np.ones(3, np.float32), gleam.astype(np.float32) * 0.4), at.cover(r - 0.97)


def gear(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    r, teeth = np.hypot(at.u, at.v), int(rng.integers(9, 22))
    tooth = between(0.35, 0.65, wave(np.arctan2(at.v, at.u).astype(np.float32) * teeth / (2 * np.pi)))
    body = np.maximum(r - 0.78 - 0.18 * tooth, 0.16 - r)
    dish = at.cover(np.abs(r - 0.45) - rng.uniform(0.08, 0.2), 4)
    tone = flat(size, colour(rng)) if rng.random() < 0.4 else metal(rng, size)
    return lit(tone, -0.02 * dish, 1.0, light(rng)), at.cover(body)


def chip(rng: Rng, size: int) -> Drawn:
    at = place(rng, size, turn=0.3)
    half = rng.uniform(0.45, 0.8)
    package = box(at.u, at.v, 0.78, half, 0.03)
    legs = np.maximum(
        np.abs((at.u * rng.uniform(4, 7)) % 1 - 0.5) / 5 - 0.05, box(at.u, at.v, 0.72, half + 0.18)
    )
    image = blend(
        flat(size, np.full(3, 0.75, np.float32)),
        np.full(3, rng.uniform(0.1, 0.25), np.float32),
        at.cover(package),
    )
    image = image * (1 + 0.03 * fractal(rng, size, 40, 2))[..., None]
    dot = at.cover(disc(at.u + 0.6, at.v + half - 0.15, 0.07))
    return printed(blend(image, image * 1.8, dot), rng, size, at), at.cover(np.minimum(package, legs))


def button(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    r = np.hypot(at.u, at.v)
    offset = 0.2
    holes = np.minimum(disc(np.abs(at.u) - offset, np.abs(at.v) - offset * rng.integers(0, 2), 0.09), 9)
    rim = at.cover(np.abs(r - 0.8) - 0.12, 5)
    tone = colour(rng)
    image = flat(size, tone) if rng.random() < 0.6 else textures.marble(rng, size)
    return lit(image, rim * 0.02, 1.0, light(rng)), at.cover(np.maximum(r - 0.96, -holes))


def cable(rng: Rng, size: int) -> Drawn:
    at = place(rng, size)
    image, wires = flat(size, colour(rng, (0.5, 0.9), 0.3)), int(rng.integers(2, 5))
    strands = np.array([0.3, 0.5, 0.8], np.float32) * (0.5 + 0.5 * wave(at.u * 9) * wave(at.v * 9))[..., None]
    for k in range(wires):
        turn = 2 * np.pi * k / wires
        d = disc(at.u - 0.48 * np.cos(turn), at.v - 0.48 * np.sin(turn), 0.4 - 0.05 * (wires > 3))
        image = blend(image, away(rng, colour(rng)), at.cover(d))
        image = blend(image, strands, at.cover(d + 0.16))
    return image, at.cover(disc(at.u, at.v, 0.97))

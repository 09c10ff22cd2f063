"""Products and damage of no family and no kind, each different: what generalises when names are few."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from acl_train.tiny import textures
from acl_train.tiny.defects import Damage, around, blob, path, spot
from acl_train.tiny.fields import (
    Colour,
    Field,
    Image,
    Rng,
    away,
    between,
    blend,
    blur,
    box,
    colour,
    disc,
    fractal,
    light,
    lit,
    near,
    polygon,
    polyline,
    ramp,
    soft,
    turned,
)
from acl_train.tiny.objects import Place, background, flat, metal, place
from acl_train.tiny.products import Product, shadowed

SURFACES = 0.35  # share of invented products that fill the picture
SINGLES = 0.5  # share of things that also carry marks which do not repeat: a logo, a hand, a serial number
Marked = tuple[Image, Field]  # a surface, and its relief


def invent_product(rng: Rng, size: int) -> Product:
    """A regular product that has no name: an outline, a material, marks in rings, rows and alone."""
    if rng.random() < SURFACES:
        u, v = turned(size, rng.uniform(-0.2, 0.2), (rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)))
        at = Place(u * 2, v * 2, 2 / size)
        image = in_relief(
            rng, *with_lattice(rng, at, material(rng, size), np.zeros((size, size), np.float32))
        )
        behind = np.broadcast_to(colour(rng, (0.02, 0.3)), image.shape).astype(np.float32)
        return Product(image, np.ones((size, size), np.float32), behind)
    at = place(rng, size)
    body = outline(rng, at)
    image, relief = material(rng, size), np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 5)):
        layer = (with_ring, with_ring, with_lattice, with_band)[rng.integers(0, 4)]
        image, relief = layer(rng, at, image, relief)
    if rng.random() < SINGLES:
        for _ in range(rng.integers(1, 3)):
            image, relief = with_single(rng, at, image, relief)
    cover = at.cover(body)
    behind = np.clip(background(rng, size), 0, 1).astype(np.float32)
    surface = np.clip(in_relief(rng, image, relief + 0.02 * at.cover(body, 6)), 0, 1)
    return Product(blend(shadowed(behind, cover, rng), surface, cover), cover, behind)


def in_relief(rng: Rng, image: Image, relief: Field) -> Image:
    """The surface with its relief lit."""
    return np.asarray(np.clip(lit(image, relief, rng.uniform(0.3, 1), light(rng)), 0, 1), np.float32)


def outline(rng: Rng, at: Place) -> Field:
    """Signed distance to a random regular shape of about one unit in radius, at times with a hole."""
    kind = rng.integers(0, 4)
    slim = rng.uniform(1, 1.8)
    if kind == 0:
        power = rng.uniform(1.6, 6)
        shape = (np.abs(at.u) ** power + np.abs(at.v * slim) ** power) ** (1 / power) - 0.95
    elif kind == 1:
        shape = polygon(at.u, at.v, int(rng.integers(3, 9)), rng.uniform(0.6, 0.85))
    elif kind == 2:
        shape = box(at.u, at.v, 0.95, 0.95 / slim, rng.uniform(0, 0.3))
    else:
        lobes = np.cos(np.arctan2(at.v, at.u) * rng.integers(3, 20))
        shape = (
            np.hypot(at.u, at.v) - 0.9 - rng.uniform(0.02, 0.1) * np.clip(lobes * rng.uniform(1, 4), -1, 1)
        )
    if rng.random() < 0.25:
        shape = np.maximum(shape, rng.uniform(0.15, 0.5) - np.hypot(at.u, at.v))
    return np.asarray(shape, np.float32)


def material(rng: Rng, size: int) -> Image:
    """A plain, grained, brushed, cloudy or woven surface."""
    kind = rng.integers(0, 5)
    if kind == 0:
        return metal(rng, size)
    if kind == 1:
        choice = (textures.paper, textures.linen, textures.concrete, textures.brushed, textures.granite)
        return np.asarray(choice[rng.integers(0, len(choice))](rng, size), np.float32)
    tone = colour(rng, (0.1, 0.95), 0.9)
    if kind == 2:
        return (
            flat(size, tone) * (1 + rng.uniform(0, 0.08) * fractal(rng, size, rng.uniform(3, 40)))[..., None]
        )
    if kind == 3:
        cloud = between(-1.5, 1.5, fractal(rng, size, rng.uniform(2, 20)))
        return ramp(cloud, tone, near(rng, tone, rng.uniform(0.05, 0.3)))
    x, _ = turned(size, light(rng))
    return flat(size, tone) * (1 + rng.uniform(0, 0.5) * x)[..., None]


def motif(rng: Rng) -> Callable[[Field, Field], Field]:
    """A small shape: its signed distance as a function of the place about its centre, for sizes near 1."""
    kind, slim, sides = rng.integers(0, 4), float(rng.uniform(0.2, 1)), int(rng.integers(3, 7))
    thick = float(rng.uniform(0.15, 0.4))
    if kind == 0:
        return lambda a, b: disc(a, b / slim, 1.0)
    if kind == 1:
        return lambda a, b: box(a, b, 1.0, slim, 0.1)
    if kind == 2:
        return lambda a, b: polygon(a, b, sides, 0.8)
    return lambda a, b: np.asarray(np.abs(disc(a, b / max(slim, 0.6), 1.0 - thick)) - thick, np.float32)


def with_marks(rng: Rng, at: Place, image: Image, relief: Field, shape: Field) -> Marked:
    """Marks where a signed distance is negative, in another colour, raised or sunk."""
    alpha = at.cover(np.asarray(shape, np.float32))
    mean = image.mean(axis=(0, 1))
    tone = away(rng, mean) if rng.random() < 0.6 else near(rng, mean, 0.25)
    if rng.random() < 0.8:
        image = blend(image, tone, alpha * np.float32(rng.uniform(0.3, 1)))
    return image, relief + alpha * np.float32(rng.uniform(-0.02, 0.02))


def with_ring(rng: Rng, at: Place, image: Image, relief: Field) -> Marked:
    """The same mark many times around the centre."""
    count, radius = int(rng.integers(2, 25)), rng.uniform(0.25, 0.85)
    room = min(0.3, np.pi * radius / count)
    scale = rng.uniform(0.3, 0.9) * room
    sector = 2 * np.pi / count
    angle = np.arctan2(at.v, at.u) + rng.uniform(0, sector)
    folded = np.mod(angle + sector / 2, sector) - sector / 2
    r = np.hypot(at.u, at.v)
    a, b = (r * np.cos(folded) - radius) / scale, r * np.sin(folded) / scale
    return with_marks(rng, at, image, relief, motif(rng)(a, b) * scale)


def with_lattice(rng: Rng, at: Place, image: Image, relief: Field) -> Marked:
    """The same mark in rows and columns, every second row shifted at times."""
    pitch, squeeze = rng.uniform(0.08, 0.5), rng.uniform(0.6, 1.4)
    row = np.floor(at.v / (pitch * squeeze))
    shift = 0.5 * (row % 2) if rng.random() < 0.4 else 0.0
    a = ((at.u / pitch + shift) % 1 - 0.5) * pitch
    b = (at.v / (pitch * squeeze) % 1 - 0.5) * pitch * squeeze
    scale = pitch * min(1.0, squeeze) * rng.uniform(0.2, 0.48)
    inside = box(at.u, at.v, rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8)) if rng.random() < 0.5 else -1.0
    return with_marks(rng, at, image, relief, np.maximum(motif(rng)(a / scale, b / scale) * scale, inside))


def with_band(rng: Rng, at: Place, image: Image, relief: Field) -> Marked:
    """A stripe across, or a circle about the centre."""
    way, width = rng.random() < 0.5, rng.uniform(0.01, 0.15)
    along = np.hypot(at.u, at.v) if way else at.u
    return with_marks(rng, at, image, relief, np.abs(along - rng.uniform(0, 0.85)) - width)


def with_single(rng: Rng, at: Place, image: Image, relief: Field) -> Marked:
    """A clean mark at any place: some products have one."""
    x, y = rng.uniform(-0.5, 0.5, 2)
    turn, scale = rng.uniform(0, np.pi), rng.uniform(0.08, 0.4)
    a, b = (at.u - x) / scale, (at.v - y) / scale
    c, s = np.cos(turn), np.sin(turn)
    return with_marks(rng, at, image, relief, motif(rng)(c * a + s * b, c * b - s * a) * scale)


def invent_damage(product: Product, rng: Rng) -> Damage:
    """Something irregular that no word names: a random patch, streak or cloud in which the surface is another one."""
    size, point = len(product.body), spot(product, rng)
    alpha = region(rng, size, point) * np.float32(rng.uniform(0.4, 1))
    return blend(product.image, altered(rng, product, point), alpha), alpha


def region(rng: Rng, size: int, point: tuple[float, float]) -> Field:
    """Coverage of a random irregular region at a point."""
    kind, softness = rng.integers(0, 4), float(np.exp(rng.uniform(np.log(0.01), np.log(0.06))))
    if kind == 0:
        return soft(blob(rng, size, point, (0.02, 0.2), ragged=rng.uniform(0.1, 0.5)), softness)
    if kind == 1:
        route = path(rng, point, rng.uniform(0.1, 0.8), rng.uniform(0.02, 0.6), 16)
        return polyline(size, route, rng.uniform(0.005, 0.04))
    within = soft(blob(rng, size, point, (0.06, 0.22)), 0.05)
    if kind == 2:
        level = rng.uniform(0, 1)
        return within * between(level, level + 0.3, fractal(rng, size, rng.uniform(6, 40)))
    u, v = turned(size, rng.uniform(0, np.pi), point)
    shape = polygon(u, v * rng.uniform(1, 4), int(rng.integers(3, 7)), rng.uniform(0.02, 0.12))
    return soft(shape, softness)


def altered(rng: Rng, product: Product, point: tuple[float, float]) -> Image:
    """The whole picture as it would be inside the damage."""
    image, size = product.image, len(product.body)
    kind = rng.integers(0, 6)
    if kind == 0:
        tones: list[Colour] = [away(rng, around(product, point)), colour(rng)]
        return ramp(between(-1, 1, fractal(rng, size, rng.uniform(5, 60), 3)), tones[0], tones[1])
    if kind == 1:
        return np.clip(image * rng.uniform(0.3, 1.7, 3) + rng.uniform(-0.2, 0.2), 0, 1).astype(np.float32)
    if kind == 2:
        return blur(image, rng.uniform(0.01, 0.05))
    if kind == 3:
        mean = around(product, point)
        return np.asarray(np.clip(mean + (image - mean) * rng.choice([-1.0, 0.2, 2.5]), 0, 1), np.float32)
    if kind == 4:
        relief = fractal(rng, size, rng.uniform(8, 50), 3) * np.float32(rng.uniform(0.005, 0.03))
        return np.asarray(np.clip(lit(image, relief, 1.0, light(rng)), 0, 1), np.float32)
    return np.broadcast_to(away(rng, around(product, point)), image.shape).astype(np.float32)

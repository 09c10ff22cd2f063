"""Damages a drawn product; each defect returns the damaged picture and where it applies."""

from __future__ import annotations

import cv2
import numpy as np

from acl_train.tiny.fields import (
    Colour,
    Field,
    Image,
    Rng,
    away,
    blend,
    blur,
    colour,
    disc,
    fractal,
    grid,
    light,
    lit,
    polygon,
    polyline,
    soft,
    turned,
)
from acl_train.tiny.products import Product

Damage = tuple[Image, Field]  # the damaged picture, and its coverage, both over the whole picture


def spot(product: Product, rng: Rng) -> tuple[float, float]:
    """A random point on the product, as x and y in 0..1."""
    rows, columns = np.nonzero(product.body > 0.9)
    if not len(rows):
        return 0.5, 0.5
    at = rng.integers(len(rows))
    return float(columns[at] + 0.5) / len(product.body), float(rows[at] + 0.5) / len(product.body)


def around(product: Product, point: tuple[float, float]) -> Colour:
    """The product's mean colour about a point."""
    size, reach = len(product.body), len(product.body) // 16
    x, y = int(point[0] * size), int(point[1] * size)
    return np.asarray(
        product.image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].mean((0, 1))
    )


def blob(
    rng: Rng, size: int, point: tuple[float, float], radii: tuple[float, float], *, ragged: float = 0.3
) -> Field:
    """Signed distance to a ragged spot about `point`, of a radius between the two `radii`."""
    radius = float(np.exp(rng.uniform(*np.log(radii))))
    u, v = turned(size, rng.uniform(0, np.pi), point)
    edge = 1 + ragged * fractal(rng, size, 0.5 / radius, 2)
    return disc(u, v * rng.uniform(1, 1.8), radius * edge)


def path(rng: Rng, point: tuple[float, float], length: float, turn: float, steps: int = 12) -> np.ndarray:
    """A line of `steps` points through `point`, bending by `turn` radians per step."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, turn, steps))
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / steps, axis=0)
    return np.asarray(walk - walk[steps // 2] + point)


def scratch(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    route, alpha = path(rng, point, rng.uniform(0.15, 0.6), 0.05), np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        alpha = np.maximum(alpha, polyline(size, route + rng.normal(0, 0.012, 2), rng.uniform(0.005, 0.014)))
    tone = np.clip(around(product, point) + rng.choice([-1, 1]) * rng.uniform(0.2, 0.5), 0, 1)
    return blend(product.image, tone.astype(np.float32), alpha), alpha


def crack(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    alpha = polyline(size, path(rng, point, rng.uniform(0.2, 0.6), 0.5, 16), rng.uniform(0.006, 0.018))
    for _ in range(rng.integers(0, 3)):
        alpha = np.maximum(alpha, polyline(size, path(rng, point, rng.uniform(0.1, 0.3), 0.6), 0.006))
    dark = around(product, point) * rng.uniform(0.1, 0.4)
    return blend(product.image, dark.astype(np.float32), alpha), alpha


def cut(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    u, v = turned(size, rng.uniform(0, np.pi), point)
    length = rng.uniform(0.08, 0.22)
    lens = np.abs(v + rng.uniform(-1, 1) * u**2) - rng.uniform(0.08, 0.2) * length * np.clip(
        1 - (u / length) ** 2, 0, 1
    )
    lens = np.maximum(lens, np.abs(u) - length).astype(np.float32)
    lip, gap = soft(lens - 0.012, 0.015), soft(lens, 0.012)
    tone = around(product, point)
    return blend(blend(product.image, np.minimum(tone * 1.4 + 0.1, 1), lip * 0.7), tone * 0.2, gap), lip


def hole(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    edge = blob(rng, size, point, (0.025, 0.09), ragged=0.15)
    rim, gap = soft(edge - 0.01, 0.015), soft(edge, 0.01)
    torn = lit(product.image, -rim * 0.03, 1.0, light(rng))
    return blend(torn, product.behind * rng.uniform(0.3, 1), gap), rim


def stain(product: Product, rng: Rng) -> Damage:
    point = spot(product, rng)
    edge = blob(rng, len(product.body), point, (0.05, 0.2), ragged=0.4)
    alpha = soft(edge, rng.uniform(0.02, 0.08)) * np.float32(rng.uniform(0.4, 0.9))
    return blend(product.image, product.image * colour(rng, (0.1, 0.6), 0.9), alpha), alpha


def paint(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    alpha = soft(blob(rng, size, point, (0.03, 0.11)), 0.015)
    for _ in range(rng.integers(0, 4)):
        drop = np.asarray(point) + rng.normal(0, 0.08, 2)
        alpha = np.maximum(
            alpha, soft(disc(*turned(size, 0, (drop[0], drop[1])), rng.uniform(0.008, 0.03)), 0.01)
        )
    gloss = lit(
        np.broadcast_to(away(rng, around(product, point)), product.image.shape), alpha * 0.01, 1.0, 0.5
    )
    return blend(product.image, gloss, alpha), alpha


def discoloured(product: Product, rng: Rng) -> Damage:
    edge = blob(rng, len(product.body), spot(product, rng), (0.08, 0.25), ragged=0.2)
    tint = away(rng, product.image.mean((0, 1)), (0.3, 0.95))
    grey = product.image.mean(2, keepdims=True)
    over = np.clip(0.4 * product.image + 0.6 * tint * (0.4 + grey), 0, 1)
    alpha = soft(edge, 0.05)
    return blend(product.image, over.astype(np.float32), alpha), alpha


def dent(product: Product, rng: Rng) -> Damage:
    u, v = turned(len(product.body), rng.uniform(0, np.pi), spot(product, rng))
    radius = rng.uniform(0.04, 0.13)
    r = np.hypot(u, v * rng.uniform(1, 2)) / radius
    bump = np.exp(-(r**2)).astype(np.float32) * radius
    return lit(product.image, bump * rng.choice([-1, 1]), rng.uniform(0.5, 1), light(rng)), soft(r - 1.5, 0.5)


def missing(product: Product, rng: Rng) -> Damage:
    alpha = soft(blob(rng, len(product.body), rim(product, rng), (0.07, 0.2), ragged=0.25), 0.012)
    return blend(product.image, product.behind, alpha), alpha


def rim(product: Product, rng: Rng) -> tuple[float, float]:
    """A random point on the product's outline, or anywhere on a surface that has none."""
    rows, columns = np.nonzero((product.body > 0.2) & (product.body < 0.8))
    if not len(rows):
        return spot(product, rng)
    at = rng.integers(len(rows))
    return float(columns[at] + 0.5) / len(product.body), float(rows[at] + 0.5) / len(product.body)


def contaminated(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), np.asarray(spot(product, rng))
    image, cover = product.image, np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 5)):
        bit = point + rng.normal(0, 0.04, 2)
        u, v = turned(size, rng.uniform(0, np.pi), (bit[0], bit[1]))
        radius = rng.uniform(0.015, 0.05)
        alpha = soft(polygon(u, v * rng.uniform(1, 3), int(rng.integers(3, 7)), radius), 0.01)
        tone = away(rng, around(product, (point[0], point[1])))
        image = blend(image * (1 - 0.4 * soft(disc(u, v, radius * 1.5), 0.03))[..., None], tone, alpha)
        cover = np.maximum(cover, soft(disc(u, v, radius * 1.5), 0.03))
    return image, cover


def misprint(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    stamp = np.zeros((size, size), np.uint8)
    text = "".join(rng.choice(list("#%&8BWX0?"), rng.integers(1, 4)))
    corner = (round((point[0] - 0.08) * size), round((point[1] + 0.05) * size))
    height, width = size / 300 * rng.uniform(0.8, 2), max(1, size // 90)
    cv2.putText(stamp, text, corner, cv2.FONT_HERSHEY_DUPLEX, height, 255, width, cv2.LINE_AA)
    alpha = blur(stamp.astype(np.float32) / 255, 0.003) * np.float32(rng.uniform(0.6, 1))
    return blend(product.image, away(rng, around(product, point)), alpha), alpha


def thread(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    route, width = path(rng, point, rng.uniform(0.3, 0.9), 0.25, 24), rng.uniform(0.007, 0.018)
    alpha, shade = polyline(size, route, width), polyline(size, route + 0.008, width)
    image = blend(product.image * (1 - 0.4 * shade)[..., None], away(rng, around(product, point)), alpha)
    return image, np.maximum(alpha, shade)


def warp(product: Product, rng: Rng) -> Damage:
    size = len(product.body)
    x, y = grid(size)
    u, v = turned(size, 0, spot(product, rng))
    radius = rng.uniform(0.08, 0.18)
    alpha = np.exp(-(((u**2 + v**2) / radius**2) ** 2)).astype(np.float32)
    shift = alpha * radius * rng.uniform(0.3, 0.7)
    turn = rng.uniform(0, 2 * np.pi)
    columns = ((x + shift * np.cos(turn)) * size - 0.5).astype(np.float32)
    rows = ((y + shift * np.sin(turn)) * size - 0.5).astype(np.float32)
    image = cv2.remap(product.image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return image.astype(np.float32), alpha

"""More damage: worn, rough, spotted, burnt, folded; and the table of all defects."""

from __future__ import annotations

import cv2
import numpy as np

from acl_train.tiny import defects
from acl_train.tiny.defects import Damage, around, blob, rim, spot
from acl_train.tiny.fields import (
    Rng,
    away,
    between,
    blend,
    blur,
    disc,
    fractal,
    light,
    lit,
    noise,
    polygon,
    soft,
    streaks,
    turned,
)
from acl_train.tiny.products import Product


def rubbed(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), spot(product, rng)
    alpha = soft(blob(rng, size, point, (0.06, 0.2)), 0.05)
    alpha = alpha * between(-1.0, 0.5, streaks(rng, size, 40, 3, rng.uniform(0, np.pi)))
    worn = blur(product.image, 0.03) * 0.5 + 0.5 * np.float32(rng.uniform(0.2, 0.9))
    return blend(product.image, worn.astype(np.float32), alpha), alpha


def rough(product: Product, rng: Rng) -> Damage:
    size = len(product.body)
    alpha = soft(blob(rng, size, spot(product, rng), (0.06, 0.18)), 0.03)
    grain = fractal(rng, size, rng.uniform(25, 60), 2)
    image = lit(product.image, grain * 0.02, 1.0, light(rng)) * (1 + 0.25 * grain)[..., None]
    return blend(product.image, np.clip(image, 0, 1).astype(np.float32), alpha), alpha


def spots(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), np.asarray(spot(product, rng))
    alpha = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(4, 12)):
        dot = point + rng.normal(0, 0.06, 2)
        alpha = np.maximum(
            alpha, soft(disc(*turned(size, 0, (dot[0], dot[1])), rng.uniform(0.006, 0.02)), 0.012)
        )
    return blend(product.image, away(rng, around(product, (point[0], point[1]))), alpha), alpha


def chipped(product: Product, rng: Rng) -> Damage:
    size, point = len(product.body), rim(product, rng)
    u, v = turned(size, rng.uniform(0, np.pi), point)
    alpha = soft(polygon(u, v * rng.uniform(1, 1.6), int(rng.integers(3, 6)), rng.uniform(0.04, 0.1)), 0.012)
    fracture = np.clip(around(product, point) * rng.uniform(0.5, 1.5) + rng.choice([-0.2, 0.2]), 0, 1)
    broken = lit(
        np.broadcast_to(fracture, product.image.shape).astype(np.float32),
        fractal(rng, size, 20) * 0.01,
        1.0,
        0.7,
    )
    return blend(product.image, np.clip(broken, 0, 1).astype(np.float32), alpha), alpha


def bubble(product: Product, rng: Rng) -> Damage:
    u, v = turned(len(product.body), light(rng), spot(product, rng))
    radius = rng.uniform(0.03, 0.09)
    r = np.hypot(u, v) / radius
    dome = np.sqrt(np.clip(1 - r**2, 0, 1)).astype(np.float32) * radius
    image = lit(product.image, dome, 0.6, 0.8)
    gleam = np.exp(-((u - radius * 0.35) ** 2 + v**2) / (0.2 * radius) ** 2).astype(np.float32)
    return np.clip(image + 0.6 * gleam[..., None], 0, 1).astype(np.float32), soft(r - 1.02, 0.1)


def burnt(product: Product, rng: Rng) -> Damage:
    edge = blob(rng, len(product.body), spot(product, rng), (0.05, 0.16), ragged=0.35)
    halo, char = soft(edge - 0.03, 0.08), soft(edge, 0.04)
    image = blend(product.image, product.image * np.array([0.25, 0.45, 0.65], np.float32), halo)
    return blend(
        image, np.array([0.04, 0.05, 0.07], np.float32), char * np.float32(rng.uniform(0.6, 0.95))
    ), halo


def folded(product: Product, rng: Rng) -> Damage:
    size = len(product.body)
    u, v = turned(size, rng.uniform(0, np.pi), spot(product, rng))
    v = v + 0.02 * noise(rng, size, 4)
    width, length = rng.uniform(0.02, 0.05), rng.uniform(0.2, 0.5)
    along = np.clip(1 - (u / length) ** 2, 0, 1)
    shade = (np.exp(-((v / width) ** 2)) * np.sign(v) * along).astype(np.float32)
    alpha = soft(np.abs(v) - 1.3 * width, 0.5 * width) * (np.abs(u) < length)
    return np.clip(product.image * (1 + 0.6 * shade)[..., None], 0, 1).astype(np.float32), alpha.astype(
        np.float32
    )


def swapped(product: Product, rng: Rng) -> Damage:
    size = len(product.body)
    turn = cv2.getRotationMatrix2D(
        (size / 2, size / 2), float(rng.uniform(40, 140)), float(rng.uniform(0.7, 1.4))
    )
    other = cv2.warpAffine(product.image, turn, (size, size), borderMode=cv2.BORDER_REFLECT).astype(
        np.float32
    )
    u, v = turned(size, rng.uniform(0, np.pi), spot(product, rng))
    alpha = soft(polygon(u, v, 4, rng.uniform(0.06, 0.14)), 0.012)
    return blend(product.image, other, alpha), alpha


DEFECTS = {
    "scratch": defects.scratch, "crack": defects.crack, "cut": defects.cut, "hole": defects.hole,
    "stain": defects.stain, "paint": defects.paint, "discolouration": defects.discoloured,
    "dent": defects.dent, "missing part": defects.missing, "contamination": defects.contaminated,
    "misprint": defects.misprint, "thread": defects.thread, "warp": defects.warp, "worn": rubbed,
    "rough": rough, "spots": spots, "chipped": chipped, "bubble": bubble, "burn": burnt, "fold": folded,
    "swap": swapped,
}  # fmt: skip

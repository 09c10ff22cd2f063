"""Draws a good product: a surface that fills the picture, or a thing on a background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acl_train.tiny import objects, panels, parts, textures
from acl_train.tiny.fields import Field, Image, Rng, blend, blur, colour
from acl_train.tiny.objects import background

TEXTURES: dict[str, Callable[[Rng, int], Image]] = {
    "weave": textures.weave, "twill": textures.twill, "linen": textures.linen, "wood": textures.wood,
    "brushed metal": textures.brushed, "tiles": panels.tiles, "brick": panels.brick,
    "granite": textures.granite, "leather": textures.leather, "perforated sheet": panels.perforated,
    "wire mesh": panels.mesh, "striped cloth": textures.stripes, "checked cloth": textures.checker,
    "carpet": textures.carpet, "paper": textures.paper, "concrete": textures.concrete,
    "marble": textures.marble, "foam": textures.foam, "knitwear": textures.knit, "solar cell": panels.solar,
    "circuit board": panels.pcb, "honeycomb": panels.hexagons,
}  # fmt: skip

OBJECTS: dict[str, Callable[[Rng, int], tuple[Image, Field]]] = {
    "nut": objects.nut, "egg": objects.egg, "capsule": objects.capsule, "pill": objects.pill,
    "screw": objects.screw, "washer": objects.washer, "hex nut": objects.hexnut, "bottle": objects.bottle,
    "gear": objects.gear, "chip": objects.chip, "button": objects.button, "cable": objects.cable,
    "blister pack": parts.blister, "cookie": parts.cookie, "label": parts.label, "leaf": parts.leaf,
    "pipe": parts.pipe, "zipper": parts.zipper, "dial": parts.dial, "beans": parts.beans,
    "coin": parts.coin, "plug": parts.plug, "card": parts.card, "grille": parts.grille,
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A drawn product, before anything happens to it."""

    image: Image  # (S, S, 3) float32 BGR in [0, 1]
    body: Field  # (S, S) float32 in [0, 1], how much of each pixel belongs to the product
    behind: Image  # (S, S, 3) float32, what shows where the product is missing


def draw_product(family: str, rng: Rng, size: int) -> Product:
    """A good product of that family."""
    if family in TEXTURES:
        image = np.clip(TEXTURES[family](rng, size), 0, 1).astype(np.float32)
        behind = np.broadcast_to(colour(rng, (0.02, 0.3)), image.shape).astype(np.float32)
        return Product(image, np.ones((size, size), np.float32), behind)
    surface, body = OBJECTS[family](rng, size)
    behind = np.clip(background(rng, size), 0, 1).astype(np.float32)
    image = blend(shadowed(behind, body, rng), np.clip(surface, 0, 1), body).astype(np.float32)
    return Product(image, body, behind)


def shadowed(behind: Image, body: Field, rng: Rng) -> Image:
    """The background with the thing's soft shadow on it."""
    shift = np.rint(rng.uniform(-0.02, 0.02, 2) * len(body)).astype(int)
    shadow = np.roll(blur(body, 0.02), (int(shift[0]), int(shift[1])), (0, 1)) * rng.uniform(0, 0.6)
    return np.asarray(behind * (1 - shadow[..., None]), np.float32)

"""Training pairs of products without a name: photographed or invented, good and with damage drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from acl_train.tiny.camera import photograph
from acl_train.tiny.captions import TRAINING_DEFECTS, TRAINING_FAMILIES
from acl_train.tiny.corpus import INVENTED, damage
from acl_train.tiny.fields import Image, Rng, blend, blur, colour, disc, soft, turned
from acl_train.tiny.inventions import invent_product
from acl_train.tiny.pairs import Pair, choose_defects, finish
from acl_train.tiny.photographs import Photograph
from acl_train.tiny.products import OBJECTS, Product, shadowed

INVENTIONS = 0.45  # share of products that are invented; the others are photographs
UNNAMED = 0.3  # share of damage that is of no kind
SCENES = 0.15  # share of crops that are taken from large photographs instead of sheets of materials
THINGS = 0.3  # share of pairs that show a thing made of a photographed material
BARS = 0.3  # share of pairs with straight bars or seams that are no defects
GREY = 0.4
SOLID = tuple(name for name in OBJECTS if name in TRAINING_FAMILIES)


def nameless_pair(seed: int, index: int, photographs: Sequence[Photograph], *, size: int, patch: int) -> Pair:
    """The pair number `index` of `seed`, as S×S pictures: a product of no family and the same one damaged."""
    rng = np.random.default_rng((seed, index, 1))
    drawn = size * 7 // 4
    invented = rng.random() < INVENTIONS
    product = invent_product(rng, drawn) if invented else photo_product(rng, photographs, drawn)
    defects = choose_defects(rng, TRAINING_DEFECTS)
    defects = tuple(INVENTED if rng.random() < UNNAMED else defect for defect in defects)
    image, mask = product.image, np.zeros((drawn, drawn), np.bool_)
    for defect in defects:
        image, where = damage(Product(image, product.body, product.behind), defect, rng)
        mask |= where
    light = int(rng.integers(2**40))
    good, damaged = (photograph(one, np.random.default_rng(light)) for one in (product.image, image))
    images, coverage = finish(rng, good, damaged, mask, size=size, patch=patch)
    return Pair(images, coverage, None, defects)


def photo_product(rng: Rng, photographs: Sequence[Photograph], size: int) -> Product:
    """A surface that was photographed, or a drawn thing made of it in front of another one."""
    surface = seamed(rng, crop(rng, photographs, size))
    behind = np.broadcast_to(colour(rng, (0.02, 0.3)), surface.shape).astype(np.float32)
    if rng.random() >= THINGS:
        return Product(surface, np.ones((size, size), np.float32), behind)
    shape, body = OBJECTS[str(rng.choice(SOLID))](rng, size)
    grain = surface / np.maximum(blur(surface, 0.1), 0.05)  # the material without its colour
    made = np.clip(shape, 0, 1) * grain if rng.random() < 0.5 else surface
    behind = crop(rng, photographs, size) if rng.random() < 0.5 else behind
    image = blend(shadowed(behind, body, rng), np.clip(made, 0, 1), body).astype(np.float32)
    return Product(image, body, behind)


def crop(rng: Rng, photographs: Sequence[Photograph], size: int) -> Image:
    """A random square of a random photograph, its light and colour changed: (size, size, 3) float32 in [0, 1]."""
    wanted = rng.random() >= SCENES
    pool = [one for one in photographs if one.is_seamless == wanted] or list(photographs)
    chosen = pool[int(rng.integers(len(pool)))]
    image = chosen.image
    if chosen.is_seamless and rng.random() < 0.5:
        image = np.asarray(np.tile(image, (2, 2, 1)), np.uint8)
    shortest = min(image.shape[:2])
    side = int(np.exp(rng.uniform(np.log(min(shortest, 96)), np.log(shortest))))
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    part = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=way)
    return exposed(rng, np.clip(part.astype(np.float32) / 255, 0, 1))


def exposed(rng: Rng, image: Image) -> Image:
    """With another contrast and brightness, in grey at times."""
    if rng.random() < GREY:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:
        image = image ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.5:
        mean = image.mean(axis=(0, 1), keepdims=True)
        image = mean + (image - mean) * rng.uniform(0.4, 1.4)
    return np.asarray(np.clip(image * rng.uniform(0.6, 1.25), 0, 1), np.float32)


def seamed(rng: Rng, image: Image) -> Image:
    """At times with bars from edge to edge, evenly spaced, or a dark round border: structure that is no damage."""
    size = len(image)
    if rng.random() < BARS:
        angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.02)
        u, _ = turned(size, float(angle), (float(rng.uniform(-0.5, 0.5)), 0.0))
        pitch, width = rng.uniform(0.15, 0.6), rng.uniform(0.004, 0.03)
        bars = soft(np.abs((u / pitch) % 1 - 0.5) * pitch - width, 0.008)
        image = blend(image, colour(rng), bars * np.float32(rng.uniform(0.3, 1)))
    if rng.random() < 0.1:
        u, v = turned(size, 0.0)
        outside = 1 - soft(disc(u, v, rng.uniform(0.4, 0.55)), 0.03)
        image = blend(image, colour(rng, (0.0, 0.2)), outside)
    return np.asarray(np.clip(image, 0, 1), np.float32)

"""Every setting of the method, each default written once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TEMPERATURE = 0.07  # a constant in the published code; CLIP's own logit_scale is loaded and never used
BLUR_SIGMA = 4.0  # pixels of the S×S map, whatever S is
IMAGE_SIZE = 518
TINY_IMAGE_SIZE = 168
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, RGB in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)


class Attention(str, Enum):
    """Which two projections the second path multiplies: V-V in the paper, Q-K is CLIP's own."""

    vv = "vv"
    qq = "qq"
    kk = "kk"
    qk = "qk"


class Recipe(str, Enum):
    """Which layers' maps are learned from, and how strongly.

    `paper`: four layers, local loss weight 1. `released`: the last layer, weight 4, as in the published
    scripts and checkpoints (the published code before April 2025 aliased its four layers to the last one).
    """

    paper = "paper"
    released = "released"

    @property
    def local_weight(self) -> float:
        """λ, the weight of the focal and dice losses beside the image loss."""
        return 1.0 if self is Recipe.paper else 4.0

    def layers(self, depth: int) -> tuple[int, ...]:
        """1-based blocks whose patch embeddings are used, in a tower of `depth` blocks."""
        if self is Recipe.released or depth < 4:
            return (depth,)
        return tuple(depth * quarter // 4 for quarter in (1, 2, 3, 4))


@dataclass(frozen=True)
class VisionConfig:
    """How the frozen vision tower is read out.

    Attributes:
        image_size: Side S of the network input, in pixels.
        layers: 1-based blocks after which the patch embeddings are recorded, ascending.
        vv_from: 1-based block at whose input the second path starts; a number above the depth means none.
        attention: What the second path attends with.
    """

    image_size: int
    layers: tuple[int, ...]
    vv_from: int
    attention: Attention = Attention.vv

    def check(self, depth: int) -> None:
        """Raise ValueError unless the settings fit a tower of `depth` blocks."""
        if self.image_size < 1:
            raise ValueError(f"image size must be positive, got {self.image_size}")
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers must be ascending and distinct, got {list(self.layers)}")
        if self.layers[0] < 1 or self.layers[-1] > depth:
            raise ValueError(f"layers must lie in 1..{depth} (the tower's blocks), got {list(self.layers)}")
        if self.vv_from < 1:
            raise ValueError(f"vv_from must be 1 or more, got {self.vv_from}")


def make_vision_config(
    backbone: str,
    depth: int,
    *,
    recipe: Recipe,
    image_size: int | None = None,
    layers: tuple[int, ...] | None = None,
    vv_from: int | None = None,
    attention: Attention = Attention.vv,
) -> VisionConfig:
    """The read-out of a tower of `depth` blocks; None means the backbone's size, the recipe's layers, and the
    published start of the second path.
    """
    size = image_size or (TINY_IMAGE_SIZE if backbone == "tiny" else IMAGE_SIZE)
    config = VisionConfig(size, layers or recipe.layers(depth), vv_from or default_vv_from(depth), attention)
    config.check(depth)
    return config


def default_vv_from(depth: int) -> int:
    """The second path covers the last three quarters of the tower: block 6 of 24, as published."""
    return max(1, depth // 4)


@dataclass(frozen=True)
class LearnConfig:
    """How prompts are learned; the defaults are the published code's.

    Attributes:
        recipe: Which weight the local loss has (the layers are the vision tower's settings).
        epochs: Passes over the data.
        batch_size: Images per step; the last batch of an epoch may be smaller.
        learning_rate: Adam's, constant.
        seed: Of the initial vectors and of the order of the images.
        ctx_tokens: Learned tokens before the template.
        deep_layers: Text blocks, from the second on, whose first tokens are replaced by learned ones.
        deep_tokens: How many tokens are replaced there.
    """

    recipe: Recipe = Recipe.released
    epochs: int = 15
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 111
    ctx_tokens: int = 12
    deep_layers: int = 8
    deep_tokens: int = 4

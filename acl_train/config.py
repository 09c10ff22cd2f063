"""Every setting of the method, each default written once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from acl_runtime.files.errors import InputError

TEMPERATURE = 0.07  # a constant in the published code; CLIP's own logit_scale is loaded and never used
BLUR_SIGMA = 4.0  # pixels of the S×S map, whatever S is
IMAGE_SIZE = 518
TINY_IMAGE_SIZE = 168
MOST_IMAGE_SIZE = 4096  # 85,000 patches of 14 pixels; a typing mistake would fill the memory
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, RGB in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)


ATTENTIONS = ("vv", "qq", "kk", "qk")
"""Which two projections the second path multiplies: V-V in the paper, Q-K is CLIP's own."""

LOSSES = ("image", "focal", "dice_anomalous", "dice_normal")
"""What prompts are learned from: the image's label, and per layer the mask, see `losses.py`."""

OBJECT = "object"  # what the paper's prompts call every product


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
        attention: What the second path attends with, one of `ATTENTIONS`, or several with + between them, such as
            "vv+kk", whose results are averaged.
        class_norm: Whether the class token goes through `ln_post`, as in CLIP; the published AnomalyCLIP leaves it out.
        learned_projection: Whether patches reach the joint space by a learned projection per layer instead of CLIP's.
        windows: Sides, in patches, of the windows that stand for patches, each seen by itself; empty for none.
        class_layers: Whether an image is its class token after each of `layers`, instead of after the last block.
    """

    image_size: int
    layers: tuple[int, ...]
    vv_from: int
    attention: str = "vv"
    class_norm: bool = False
    learned_projection: bool = False
    windows: tuple[int, ...] = ()
    class_layers: bool = False

    @property
    def attentions(self) -> tuple[str, ...]:
        """The parts of `attention`."""
        return tuple(self.attention.split("+"))

    def check(self, depth: int) -> None:
        """Raise InputError unless the settings fit a tower of `depth` blocks."""
        self.check_values()
        if self.layers[-1] > depth:
            raise InputError(f"layers must lie in 1..{depth} (the tower's blocks), got {list(self.layers)}")

    def check_values(self) -> None:
        """Raise InputError unless the settings fit some tower."""
        if not 1 <= self.image_size <= MOST_IMAGE_SIZE:
            raise InputError(f"image size must lie in 1..{MOST_IMAGE_SIZE} pixels, got {self.image_size}")
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise InputError(f"layers must be ascending and distinct, got {list(self.layers)}")
        if self.layers[0] < 1:
            raise InputError(f"layers must be 1 or more, got {list(self.layers)}")
        if self.vv_from < 1:
            raise InputError(f"vv_from must be 1 or more, got {self.vv_from}")
        if any(side < 1 for side in self.windows):
            raise InputError(f"windows must be 1 patch or more, got {list(self.windows)}")
        if self.class_layers and (len(self.layers) < 2 or self.windows):
            raise InputError(
                f"class tokens of each layer need two layers or more, got {list(self.layers)}; pass --recipe paper"
            )
        check_attention(self.attention)


def check_image_size(image_size: int, patch_size: int) -> None:
    """Raise InputError unless the whole image is seen: the network drops what is left over beside whole patches."""
    if rest := image_size % patch_size:
        lower = image_size - rest
        sizes = " or ".join(str(size) for size in (lower, lower + patch_size) if size)
        raise InputError(
            f"image size must be a multiple of the patch ({patch_size}), got {image_size}: {blind_words(rest)}; "
            f"pass --image-size {sizes}"
        )


def blind_words(rest: int) -> str:
    """What an image size that leaves `rest` pixels beside whole patches means."""
    return f"the last {rest} pixel{'s' * (rest > 1)} on the right and below would never be looked at"


def check_words(words: tuple[str, ...]) -> None:
    """Raise InputError unless braces stand only where the product's name goes."""
    if any(set("{}") & set(text.replace("{}", "")) for text in words):
        raise InputError(
            f"words of a prompt must have no braces but {{}} for the product, got {' and '.join(words)}"
        )


def check_attention(attention: str) -> None:
    """Raise InputError unless it is one of `ATTENTIONS`, or several distinct ones with + between them."""
    parts = attention.split("+")
    if not set(parts) <= set(ATTENTIONS) or len(set(parts)) < len(parts):
        raise InputError(
            f"attention must be one of {', '.join(ATTENTIONS)}, or several such as vv+kk, got {attention}"
        )


def default_vv_from(depth: int) -> int:
    """The second path covers the last three quarters of the tower: block 6 of 24, as published."""
    return max(1, depth // 4)


@dataclass(frozen=True)
class LearnConfig:
    """How a method learns; the defaults are those of AnomalyCLIP's published code.

    Attributes:
        recipe: Which weight the local losses have (the layers are the vision tower's settings).
        epochs: Passes over the data.
        batch_size: Images per step; the last batch of an epoch may be smaller.
        learning_rate: Of the optimiser; Adam's is constant, that of SGD falls along a cosine.
        seed: Of the initial vectors and of the order of the images.
        ctx_tokens: Learned tokens before the words.
        deep_layers: Text blocks, from the second on, whose first tokens are replaced by learned ones.
        deep_tokens: How many tokens are replaced there.
        method: Name in `METHODS`.
        learns: `prompts`: context and deep tokens; `projection`: of the patches, per layer; `vectors`: what images and
            each layer's patches are compared with, without any text.
        words: What follows the context of NORMAL and ANOMALOUS; {} is the product's name, or "object".
        shared_ctx: Whether both prompts have the same context.
        losses: Of `LOSSES`.
        mosaics: How many pictures of four of one product are learned from beside the others, see `mosaics.py`.
        optimizer: `adam`, betas (0.5, 0.999), or `sgd`, momentum 0.9, weight decay 5e-4, after a first epoch at 1e-5.
    """

    recipe: Recipe = Recipe.released
    epochs: int = 15
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 111
    ctx_tokens: int = 12
    deep_layers: int = 8
    deep_tokens: int = 4
    method: str = "anomalyclip"
    learns: Literal["prompts", "projection", "vectors"] = "prompts"
    words: tuple[str, str] = ("{}.", "damaged {}.")
    shared_ctx: bool = False
    losses: tuple[str, ...] = LOSSES
    optimizer: Literal["adam", "sgd"] = "adam"
    mosaics: int = 0


TINY_LEARNING = LearnConfig(recipe=Recipe.paper, epochs=5, batch_size=32, losses=("image", "focal"))
"""For the embedded backbone, on which the dice losses drive the maps to certainty and the defects' order out of them;
chosen on groups a and c of `benchmarks/README.md`."""

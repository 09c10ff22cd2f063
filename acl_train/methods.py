"""The methods of the paper's tables, each as what it changes; the network and the loop are the same for all.

A method differs from another in what is read out of the frozen tower (`VisionConfig`), in what that is compared with
(learned prompts, hand-written sentences, or vectors without any text), and in what is learned how (`LearnConfig`).
Everything that distinguishes one, say `coop` from `anomalyclip`, stands in its entry below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from acl_runtime.files.errors import InputError
from acl_train.config import (
    IMAGE_SIZE,
    TEMPERATURE,
    TINY_IMAGE_SIZE,
    LearnConfig,
    Recipe,
    VisionConfig,
    check_words,
    default_vv_from,
)
from acl_train.sentences import Sentences, clip_ensemble, clip_pair, vand_ensemble, winclip_ensemble

if TYPE_CHECKING:  # torch would make every --help slow
    from acl_train.clip import Architecture

VECTORS_RATE = 1e-4  # learning rate of decoupled vectors, chosen on drawn products, see benchmarks/paper.md
CLIP_TEMPERATURE = 0.01  # 1 / CLIP's own logit scale, which its training caps at 100


@dataclass(frozen=True)
class Method:
    """What a row of the paper's tables changes. The defaults are plain CLIP's.

    Attributes:
        about: A line for people.
        source: Where its settings are published.
        learn: How it learns, by default; None: it does not.
        sentences: Hand-written prompts of a product's name; None: prompts or vectors are learned.
        names_category: Whether the prompts name the product instead of calling it "object".
        second_path: Whether patches are read off a second path beside the ordinary one (DPAM).
        class_norm: See `VisionConfig`.
        windows: See `VisionConfig`.
        temperature: Log-odds are differences of cosines divided by this.
        is_mute: Whether it says nothing of its own: all its log-odds are 0.
    """

    about: str
    source: str
    learn: LearnConfig | None = None
    sentences: Sentences | None = None
    names_category: bool = True
    second_path: bool = False
    class_norm: bool = True
    windows: tuple[int, ...] = ()
    temperature: float = CLIP_TEMPERATURE
    is_mute: bool = False


ANOMALYCLIP = Method(
    "two learned prompts for every product, patches from the V-V path",
    "arXiv 2310.18961 and its published code",
    LearnConfig(),
    names_category=False,
    second_path=True,
    class_norm=False,
    temperature=TEMPERATURE,
)

METHODS = {
    "anomalyclip": ANOMALYCLIP,
    "anomalyclip-object-aware": replace(
        ANOMALYCLIP,
        about="the same with the product's name in the prompts",
        learn=LearnConfig(method="anomalyclip-object-aware"),
        names_category=True,
    ),
    "clip": Method(
        "two hand-written prompts, nothing learned",
        "arXiv 2103.00020; prompts: arXiv 2310.18961",
        sentences=clip_pair,
    ),
    "clip-ac": Method(
        "80 hand-written prompts each, averaged, nothing learned",
        "arXiv 2103.00020; prompts: arXiv 2310.18961",
        sentences=clip_ensemble,
    ),
    "winclip": Method(
        "hand-written states and templates; windows of 2 and 3 patches, each seen by itself; nothing learned",
        "arXiv 2303.14814; temperature as in the public reproductions, the paper gives none",
        sentences=winclip_ensemble,
        windows=(2, 3),
        temperature=TEMPERATURE,
    ),
    "coop": Method(
        "one learned context for both prompts, from the images' labels alone",
        "arXiv 2109.01134 and its published configuration for 50 epochs; words: arXiv 2310.18961",
        LearnConfig(
            epochs=50,
            batch_size=32,
            learning_rate=2e-3,
            ctx_tokens=16,
            deep_layers=0,
            method="coop",
            words=("normal {}.", "anomalous {}."),
            shared_ctx=True,
            losses=("image",),
            optimizer="sgd",
        ),
    ),
    "memory": Method(
        "no prompts: good parts judge alone, by acl calibrate --memory",
        "patches as in arXiv 2106.08265, on the tower of your choice",
        names_category=False,
        is_mute=True,
        temperature=TEMPERATURE,
    ),
    "vand": Method(
        "hand-written states and templates; a learned projection of four layers' patches",
        "arXiv 2305.17382 (APRIL-GAN); 15 epochs as in its script for VisA; no stitched images: features are cached",
        LearnConfig(
            recipe=Recipe.paper,
            method="vand",
            learns="projection",
            losses=("focal", "dice_anomalous"),
        ),
        sentences=vand_ensemble,
    ),
}
PROMPT_OPTIONS = {
    "words": "--word",
    "shared_ctx": "--shared-context",
    "ctx_tokens": "--ctx-tokens",
    "deep_layers": "--deep-layers",
    "deep_tokens": "--deep-tokens",
    "learns": "--head-vectors",
}
LEARNED = tuple(name for name, method in METHODS.items() if method.learn is not None)
WRITTEN = tuple(name for name in METHODS if name not in LEARNED)


def make_vision_config(
    backbone: str,
    depth: int,
    *,
    method: str = "anomalyclip",
    recipe: Recipe | None = None,
    image_size: int | None = None,
    layers: tuple[int, ...] | None = None,
    vv_from: int | None = None,
    attention: str = "vv",
    class_layers: bool = False,
) -> VisionConfig:
    """The read-out of a tower of `depth` blocks.

    Args:
        backbone: Its name; the tiny one has a size of its own.
        depth: Blocks of the vision tower.
        method: Name in `METHODS`.
        recipe: Which layers, unless they are given; None for the method's own.
        image_size: Side of the network input; None for the backbone's.
        layers: 1-based blocks; None for the recipe's.
        vv_from: 1-based block where the second path starts; 0 for none, None for the method's.
        attention: Of the second path, see `VisionConfig`.
        class_layers: See `VisionConfig`.

    Raises:
        InputError: If they do not fit.
    """
    chosen = METHODS[method]
    if chosen.windows and (layers or vv_from):
        raise InputError(f"{method} looks at windows, so neither layers nor a second path can be chosen")
    if recipe is None:
        recipe = Recipe.released if chosen.learn is None else chosen.learn.recipe
    if vv_from is None:
        vv_from = default_vv_from(depth) if chosen.second_path else 0
    if attention != "vv" and not 0 < vv_from <= depth:
        raise InputError(
            f"attention {attention} needs a second path, and there is none; choose --vv-from 1 or more"
        )
    config = VisionConfig(
        image_size or (TINY_IMAGE_SIZE if backbone == "tiny" else IMAGE_SIZE),
        layers or recipe.layers(depth),
        vv_from or depth + 1,
        attention,
        chosen.class_norm,
        chosen.learn is not None and chosen.learn.learns == "projection",
        chosen.windows,
        class_layers,
    )
    config.check(depth)
    return config


def make_read_out(
    backbone: str, architecture: Architecture, *, image_size: int | None = None, **options: Any
) -> VisionConfig:
    """`make_vision_config` for any backbone: one without text has no second path, and a size that its patch divides.

    Args:
        backbone: Its name.
        architecture: Its sizes.
        image_size: Side of the network input; None for the backbone's.
        options: Of `make_vision_config`.
    """
    if not architecture.text_layers:
        if options.get("vv_from"):
            raise InputError(f"the second path is CLIP's and {backbone} has none; leave --vv-from out")
        image_size = image_size or IMAGE_SIZE - IMAGE_SIZE % architecture.patch_size
        options = options | {"vv_from": 0}
    config = make_vision_config(backbone, architecture.vision_layers, image_size=image_size, **options)
    return config if architecture.text_layers else replace(config, class_norm=True)


def with_options(method: str, *, word: str | None = None, **options: Any) -> LearnConfig:
    """A method's way of learning with other values where they are given.

    Args:
        method: Name in `LEARNED`.
        word: Before the product's name in the anomalous prompt; None for the method's own.
        options: Of `LearnConfig`; None for the method's own.

    Raises:
        InputError: An option does not go with the method.
    """
    learn = METHODS[method].learn
    assert learn is not None
    given = {name: value for name, value in options.items() if value is not None}
    if word is not None:
        given["words"] = learn.words[0], f"{word} {{}}."
        check_words(given["words"])
    if learn.learns != "prompts" and (idle := _of_prompts(given)):
        raise InputError(f"{method} learns no prompts, so {idle} cannot be chosen")
    if given.get("learns") == "vectors":
        given = {"learning_rate": VECTORS_RATE} | given
    config = replace(learn, **given)
    given.pop("learns", None)
    if config.learns == "vectors" and (idle := _of_prompts(given)):
        raise InputError(f"decoupled vectors have no text, so {idle} cannot be chosen")
    if config.learns == "vectors" and METHODS[method].names_category:
        raise InputError(f"decoupled vectors cannot name the product; {method} does")
    return config


def _of_prompts(given: Mapping[str, Any]) -> str:
    """The options among these that only prompts have, as the command line calls them."""
    return ", ".join(word for name, word in PROMPT_OPTIONS.items() if name in given)


def defaults_words(option: str) -> str:
    """An option's default, and those of the methods where it is another."""
    own = {name: getattr(METHODS[name].learn, option) for name in LEARNED}
    usual = getattr(LearnConfig(), option)
    others = [f"{name} {_word(value)}" for name, value in own.items() if value != usual]
    return ", ".join([_word(usual), *others])


def _word(value: object) -> str:
    return str(value.value) if isinstance(value, Enum) else f"{value:g}"

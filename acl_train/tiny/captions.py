"""Writes captions for drawn products, in the manner of the prompts used for defect detection with CLIP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acl_train.tiny.corpus import DEFECTS, FAMILIES, HELD_OUT_DEFECTS, HELD_OUT_FAMILIES

TRAINING_FAMILIES = tuple(name for name in FAMILIES if name not in HELD_OUT_FAMILIES)
TRAINING_DEFECTS = tuple(name for name in DEFECTS if name not in HELD_OUT_DEFECTS)
GENERIC_NAMES = ("object", "item", "part", "product", "surface", "texture")
CONTEXT = "X X X X X X X X X X X X {}."  # the place where AnomalyCLIP's prompt learning puts its vectors
TEMPLATES = (
    CONTEXT, CONTEXT,
    "{}.", "a {}.", "the {}.", "a photo of a {}.", "a photo of the {}.", "a photo of one {}.",
    "a close-up photo of a {}.", "a cropped photo of the {}.", "a bright photo of a {}.",
    "a dark photo of the {}.",
    "a blurry photo of a {}.", "a photo of a small {}.", "a photo of a {} for visual inspection.",
    "there is a {} in the scene.",
)  # fmt: skip
NORMAL_STATES = (
    "{}", "{}", "flawless {}", "perfect {}", "unblemished {}", "normal {}", "good {}",
    "{} without flaw", "{} without defect", "{} without damage",
)  # fmt: skip
DAMAGED_STATES = (
    "damaged {}", "damaged {}", "broken {}", "defective {}", "abnormal {}", "bad {}",
    "{} with flaw", "{} with defect", "{} with damage",
)  # fmt: skip
NAMED_DEFECTS = ("{1} with a {0}", "{0} on the {1}", "{1} with {0}", "damaged {1} with a {0}")


@dataclass(frozen=True)
class Caption:
    """A sentence and what it says; None where it leaves something open."""

    text: str
    damaged: bool
    family: str | None
    defect: str | None


def write_caption(rng: np.random.Generator, family: str, defect: str | None) -> Caption:
    """A random true sentence about a picture of `family`, with `defect` or without any."""
    generic = rng.random() < 0.35
    name = str(rng.choice(GENERIC_NAMES)) if generic else family
    named = defect is not None and rng.random() < 0.5
    if named:
        phrase = str(rng.choice(NAMED_DEFECTS)).format(defect, name)
    else:
        phrase = str(rng.choice(NORMAL_STATES if defect is None else DAMAGED_STATES)).format(name)
    text = str(rng.choice(TEMPLATES)).format(phrase)
    return Caption(text, defect is not None, None if generic else family, defect if named else None)


def every_word() -> list[str]:
    """Sentences in which each word of each caption occurs."""
    names = [*GENERIC_NAMES, *TRAINING_FAMILIES, *NORMAL_STATES, *DAMAGED_STATES, *TRAINING_DEFECTS]
    return [*names, *TEMPLATES, *NAMED_DEFECTS]

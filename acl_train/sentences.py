"""Hand-written prompts: what the methods that learn none compare images with."""

from __future__ import annotations

from collections.abc import Callable

Pair = tuple[list[str], list[str]]
"""Sentences for NORMAL and for ANOMALOUS; each side's embeddings are averaged."""

Sentences = Callable[[str], Pair]
"""Of a product's name."""

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
WINCLIP_STATES = NORMAL_STATES, ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
VAND_STATES = NORMAL_STATES, ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")

ARTICLES = ("a", "the")
VIEWS = ("cropped", "close-up", "bright", "dark", "jpeg corrupted", "blurry")
WINCLIP_TEMPLATES = (
    *(f"a {view} photo of {article} {{}}." for view in VIEWS for article in ARTICLES),
    *(f"a photo of {article} {size}{{}}." for size in ("", "small ", "large ") for article in ARTICLES),
    *(
        f"a photo of {article} {{}} for {aim}."
        for aim in ("visual inspection", "anomaly detection")
        for article in ARTICLES
    ),
)
VAND_TEMPLATES = (
    *(
        f"a {view} photo of {article} {{}}."
        for view in (*VIEWS, "bad", "low resolution", "black and white", "good")
        for article in ARTICLES
    ),
    *(f"a photo of {article} {size}{{}}." for size in ("", "small ", "large ") for article in ARTICLES),
    *(f"a photo of {start} {{}}." for start in ("my", "one", "a cool", "the cool")),
    *(f"{start} {{}} in the scene." for start in ("there is a", "there is the")),
    *(f"this is {start} {{}} in the scene." for start in ("a", "the", "one")),
)


def clip_pair(name: str) -> Pair:
    """One sentence each, as the paper puts them to CLIP (arXiv 2310.18961), whose code for it is not published."""
    return [f"a photo of a normal {name}."], [f"a photo of an anomalous {name}."]


def clip_ensemble(name: str) -> Pair:
    """The same states in the 80 templates that CLIP's authors recommend for ImageNet."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # takes seconds to import

    normal, anomalous = (
        [template(f"{state} {name}") for template in OPENAI_IMAGENET_TEMPLATES]
        for state in ("normal", "anomalous")
    )
    return normal, anomalous


def winclip_ensemble(name: str) -> Pair:
    """7 and 4 states in 22 templates (arXiv 2303.14814)."""
    return _compose(WINCLIP_STATES, WINCLIP_TEMPLATES, name)


def vand_ensemble(name: str) -> Pair:
    """7 and 5 states in 35 templates (arXiv 2305.17382), as in its published code."""
    return _compose(VAND_STATES, VAND_TEMPLATES, name)


def _compose(states: tuple[tuple[str, ...], tuple[str, ...]], templates: tuple[str, ...], name: str) -> Pair:
    normal, anomalous = (
        [template.format(state.format(name)) for state in side for template in templates] for side in states
    )
    return normal, anomalous

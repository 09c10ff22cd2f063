"""The rows of the paper's tables, each as what it changes of a method (arXiv 2310.18961)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acl_train.config import LearnConfig, Recipe, VisionConfig, default_vv_from
from acl_train.methods import METHODS, make_vision_config, with_options
from acl_train.weights import Weights

Options = Mapping[str, Any]
PAPER: Options = {"recipe": Recipe.paper}
WORDS = ("damaged", "anomalous", "flawed", "defective", "blemished")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: What the table calls it.
        method: Name in `METHODS`.
        learn: Options of `with_options`.
        attention: Of the second path.
        dpam: Whether there is a second path; None for the method's own.
        layers: How many of the recipe `paper`, the last ones; None for the recipe's.
        named: Whether the product's name takes the place of "object" after learning.
        printed: The paper's name of the method, where its tables have numbers of it.
    """

    label: str
    method: str = "anomalyclip"
    learn: Options = field(default_factory=dict)
    attention: str = "vv"
    dpam: bool | None = None
    layers: int | None = None
    named: bool = False
    printed: str | None = None

    def config(self, *, seed: int, epochs: int | None) -> LearnConfig | None:
        """How it learns; None if it does not."""
        if METHODS[self.method].learn is None:
            return None
        given: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
        return with_options(self.method, **self.learn, seed=seed, **given)

    def vision(self, weights: Weights, image_size: int | None) -> VisionConfig:
        """How it reads out the tower."""
        depth = weights.architecture.vision_layers
        vv_from = None
        if self.dpam is not None:
            vv_from = default_vv_from(depth) if self.dpam else 0
        return make_vision_config(
            weights.backbone,
            depth,
            method=self.method,
            recipe=self.learn.get("recipe"),
            image_size=image_size,
            layers=Recipe.paper.layers(depth)[-self.layers :] if self.layers else None,
            vv_from=vv_from,
            attention=self.attention,
        )


def _ablation(label: str, **changes: Any) -> Row:
    """AnomalyCLIP in the recipe `paper` with some options of its learning changed."""
    return Row(label, learn={**PAPER, **changes})


FULL = Row("AnomalyCLIP, `paper`", learn=PAPER, printed="AnomalyCLIP")
RELEASED = Row("AnomalyCLIP, `released`")
LOCAL = ("focal", "dice_anomalous", "dice_normal")
METHOD_ROWS = (
    Row("CLIP", "clip", printed="CLIP"),
    Row("CLIP-AC", "clip-ac", printed="CLIP-AC"),
    Row("WinCLIP", "winclip", printed="WinCLIP"),
    Row("VAND", "vand", printed="VAND"),
    Row("CoOp", "coop", printed="CoOp"),
    Row("AnomalyCLIP without DPAM", learn=PAPER, dpam=False, printed="AnomalyCLIP without DPAM"),
    FULL,
    RELEASED,
)
TABLES: Mapping[str, tuple[str, tuple[Row, ...]]] = {
    "1": ("methods", METHOD_ROWS),
    "4": (
        "modules, one after the other",
        (
            Row("hand-written prompts", "clip"),
            Row("+ DPAM", "clip", dpam=True),
            Row("+ learned prompts for every product", learn={"deep_layers": 0}),
            Row("+ deep tokens", learn={}),
            Row("+ four layers", learn=PAPER),
        ),
    ),
    "5": (
        "context optimisation",
        (
            Row("none: hand-written prompts, DPAM, last layer", "clip", dpam=True),
            _ablation("global", losses=("image",)),
            _ablation("local", losses=LOCAL),
            _ablation("global and local"),
        ),
    ),
    "7": (
        "DPAM",
        (
            Row("without, `paper`", learn=PAPER, dpam=False),
            Row("with, `paper`", learn=PAPER),
            Row("without, `released`", dpam=False),
            Row("with, `released`"),
        ),
    ),
    "8": ("cost", METHOD_ROWS),
    "9": (
        "context of the two prompts",
        (_ablation("shared", shared_ctx=True), _ablation("separate")),
    ),
    "10": (
        "attention of the second path",
        tuple(
            Row(name.upper(), learn=PAPER, attention=name)
            for name in ("qk", "qq", "kk", "vv", "vv+qq", "vv+kk", "qq+kk", "vv+qq+kk")
        ),
    ),
    "11": (
        "losses",
        (
            _ablation("image", losses=("image",)),
            _ablation("image, focal", losses=("image", "focal")),
            _ablation("image, dice", losses=("image", "dice_anomalous", "dice_normal")),
            _ablation("image, focal, dice"),
        ),
    ),
    "13": (
        "the word of the anomalous prompt",
        (
            _ablation(WORDS[0]),
            *(_ablation(word, word=word) for word in WORDS[1:]),
        ),
    ),
    "fig8": (
        "sizes",
        (
            *(_ablation(f"context of {n} tokens", ctx_tokens=n) for n in (4, 8)),
            _ablation("context of 12 tokens, 8 deep layers of 4 tokens, 4 layers' maps"),
            _ablation("context of 16 tokens", ctx_tokens=16),
            *(_ablation(f"{n} deep layers", deep_layers=n) for n in (0, 4)),
            *(_ablation(f"{n} deep tokens", deep_tokens=n) for n in (2, 8)),
            *(Row(f"{n} layers' maps", learn=PAPER, layers=n) for n in (1, 2, 3)),
        ),
    ),
    "fig9": (
        "the product's name",
        (
            _ablation("object"),
            Row("its name after learning", learn=PAPER, named=True),
            Row("its name in learning too", "anomalyclip-object-aware", learn=PAPER),
        ),
    ),
    "vectors": (
        "vectors instead of text (not in the paper)",
        (
            FULL,
            _ablation("prompts, `paper`, learning rate 1e-4", learning_rate=1e-4),
            _ablation("decoupled, `paper`", learns="vectors"),
            RELEASED,
            Row("decoupled, `released`", learn={"learns": "vectors"}),
        ),
    ),
}

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
MOSAICS = 288  # as many as there are drawn pictures to learn from
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
        printed: The paper's name of the row, where the table has numbers of it.
        class_layers: See `VisionConfig`.
    """

    label: str
    method: str = "anomalyclip"
    learn: Options = field(default_factory=dict)
    attention: str = "vv"
    dpam: bool | None = None
    layers: int | None = None
    named: bool = False
    printed: str | None = None
    class_layers: bool = False

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
            class_layers=self.class_layers,
            method=self.method,
            recipe=self.learn.get("recipe"),
            image_size=image_size,
            layers=Recipe.paper.layers(depth)[-self.layers :] if self.layers else None,
            vv_from=vv_from,
            attention=self.attention,
        )


def _ablation(label: str, *, printed: str | None = None, **changes: Any) -> Row:
    """AnomalyCLIP in the recipe `paper` with some options of its learning changed."""
    return Row(label, learn={**PAPER, **changes}, printed=printed)


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


@dataclass(frozen=True)
class FullShotRow:
    """A row of table 12: a method that sees the good images of the product it judges.

    Attributes:
        label: What the table calls it.
        method: `patchcore` or `rd4ad` of `benchmarks/full_shot.py`, or `memory`, ours.
        printed: As of `Row`.
    """

    label: str
    method: str
    printed: str | None = None


REMEMBERED = 8  # good images of our memory
FULL_SHOT = (
    FullShotRow("PatchCore, all good images", "patchcore", "PatchCore"),
    FullShotRow("RD4AD, all good images", "rd4ad", "RD4AD"),
    FullShotRow(f"our memory of {REMEMBERED} good images, no prompts", "memory"),
)
WORD_ROWS = (
    _ablation(WORDS[0], printed=WORDS[0]),
    *(_ablation(word, printed=word, word=word) for word in WORDS[1:]),
)
TABLES: Mapping[str, tuple[str, tuple[Row, ...]]] = {
    "1": ("methods", METHOD_ROWS),
    "3": (
        "medical sets, learned on medical images (--learn-from)",
        (Row("VAND", "vand", printed="VAND"), FULL),
    ),
    "4": (
        "modules, one after the other",
        (
            Row("hand-written prompts", "clip", printed="Base"),
            Row("+ DPAM", "clip", dpam=True, printed="+T1 (DPAM)"),
            Row(
                "+ learned prompts for every product",
                learn={"deep_layers": 0},
                printed="+T2 (object-agnostic prompts)",
            ),
            Row("+ deep tokens", learn={}, printed="+T3 (text prompt tuning)"),
            Row("+ four layers", learn=PAPER, printed="+T4 (several layers)"),
        ),
    ),
    "5": (
        "context optimisation",
        (
            Row("none: hand-written prompts, DPAM, last layer", "clip", dpam=True, printed="neither"),
            _ablation("global", printed="global only", losses=("image",)),
            _ablation("local", printed="local only", losses=LOCAL),
            _ablation("global and local", printed="local and global"),
        ),
    ),
    "7": (
        "DPAM",
        (
            Row("without, `paper`", learn=PAPER, dpam=False, printed="without T1 (DPAM)"),
            Row("with, `paper`", learn=PAPER, printed="all"),
            Row("without, `released`", dpam=False),
            Row("with, `released`"),
            Row(
                "with, `paper`, product named",
                "anomalyclip-object-aware",
                learn=PAPER,
                printed="without T2 (object-agnostic prompts)",
            ),
            _ablation(
                "with, `paper`, no deep tokens", printed="without T3 (text prompt tuning)", deep_layers=0
            ),
            Row("with, `paper`, one layer", learn=PAPER, layers=1, printed="without T4 (several layers)"),
        ),
    ),
    "8": ("cost", METHOD_ROWS),
    "9": (
        "context of the two prompts",
        (
            _ablation("shared", printed="shared context", shared_ctx=True),
            _ablation("separate", printed="unshared context"),
        ),
    ),
    "10": (
        "attention of the second path",
        tuple(
            Row(name.upper(), learn=PAPER, attention=name, printed=printed)
            for name, printed in {
                "qk": "Q-K",
                "qq": None,
                "kk": None,
                "vv": "V-V",
                "vv+qq": None,
                "vv+kk": None,
                "qq+kk": None,
                "vv+qq+kk": "Q-Q, K-K, V-V",
                "vv+qq+kk+qk": "Q-K, Q-Q, K-K, V-V",
            }.items()
        ),
    ),
    "11": (
        "losses",
        (
            _ablation("image", printed="neither", losses=("image",)),
            _ablation("image, focal", printed="focal only", losses=("image", "focal")),
            _ablation("image, dice", printed="dice only", losses=("image", "dice_anomalous", "dice_normal")),
            _ablation("image, focal, dice", printed="focal and dice"),
        ),
    ),
    "12": ("full-shot methods beside ours", (FULL,)),
    "13": ("the word of the anomalous prompt, industrial sets", WORD_ROWS),
    "14": ("the word of the anomalous prompt, medical sets", WORD_ROWS),
    "fig6": (
        "prompts that name no product, and prompts that do",
        (FULL, Row("product named", "anomalyclip-object-aware", learn=PAPER)),
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
            Row("per layer, `paper`", learn={**PAPER, "learns": "vectors"}, class_layers=True),
            _ablation("decoupled, `paper`, mosaics", learns="vectors", mosaics=MOSAICS),
            Row(
                "per layer, `paper`, mosaics",
                learn={**PAPER, "learns": "vectors", "mosaics": MOSAICS},
                class_layers=True,
            ),
            RELEASED,
            Row("decoupled, `released`", learn={"learns": "vectors"}),
        ),
    ),
}

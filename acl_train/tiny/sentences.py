"""Teaches the text tower what the captions say, and keeps a bank of encoded captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from acl_train.clip import CLIP
from acl_train.tiny.captions import TRAINING_DEFECTS, TRAINING_FAMILIES, Caption, write_caption

COMMON, STATE, FAMILY, DEFECT = 1.0, 0.5, 0.8, 0.6  # how far each part of a caption moves its embedding
GOOD, DAMAGED = 0, 1


@dataclass(frozen=True)
class Bank:
    """Captions, encoded once; -1 where a caption leaves something open."""

    embeddings: Tensor  # (N, D) float32, unit norm
    damaged: Tensor  # (N,) bool
    family: Tensor  # (N,) int64
    defect: Tensor  # (N,) int64


def draw_captions(rng: np.random.Generator, count: int) -> list[Caption]:
    """Captions of random products, half of them damaged."""
    families = rng.choice(TRAINING_FAMILIES, count)
    defects = [str(rng.choice(TRAINING_DEFECTS)) if rng.random() < 0.5 else None for _ in range(count)]
    return [write_caption(rng, str(family), defect) for family, defect in zip(families, defects, strict=True)]


def meanings(captions: list[Caption]) -> tuple[Tensor, Tensor, Tensor]:
    """State (bool), family and defect (int64, -1 for none named) of captions, each (N,)."""
    damaged = torch.tensor([c.damaged for c in captions])
    family = torch.tensor([TRAINING_FAMILIES.index(c.family) if c.family else -1 for c in captions])
    defect = torch.tensor([TRAINING_DEFECTS.index(c.defect) if c.defect else -1 for c in captions])
    return damaged, family, defect


def targets(captions: list[Caption], directions: Tensor) -> Tensor:
    """Where captions belong in the joint space, (N, D), unit norm.

    Rows of `directions` are orthogonal: what all captions share, damage, then families, then defects.
    """
    damaged, family, defect = meanings(captions)
    families, defects = directions[2:], directions[2 + len(TRAINING_FAMILIES) :]
    state = torch.where(damaged, STATE, -STATE)[:, None] * directions[1]
    named = (
        FAMILY * families[family] * (family >= 0)[:, None] + DEFECT * defects[defect] * (defect >= 0)[:, None]
    )
    return F.normalize(COMMON * directions[0] + state + named, dim=-1)


def encode(model: CLIP, texts: list[str]) -> Tensor:
    """(N, D) embeddings of sentences."""
    tokens = open_clip.tokenize(texts)  # (N, 77)
    ends = tokens.argmax(dim=1)
    return model.encode_text(model.token_embedding(tokens[:, : int(ends.max()) + 1]), ends)


def learn_sentences(
    model: CLIP, directions: Tensor, rng: np.random.Generator, *, steps: int, report: Callable[[float], None]
) -> None:
    """Train the text tower so that captions land where their meaning belongs."""
    parameters = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        captions = draw_captions(rng, 64)
        loss = (1 - (encode(model, [c.text for c in captions]) * targets(captions, directions)).sum(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        report(loss.item())


@torch.no_grad()
def encode_bank(model: CLIP, rng: np.random.Generator, count: int) -> Bank:
    """`count` random captions with their embeddings."""
    captions = draw_captions(rng, count)
    parts = [encode(model, [c.text for c in captions[i : i + 256]]) for i in range(0, count, 256)]
    return Bank(torch.cat(parts), *meanings(captions))


def state_difference(bank: Bank) -> Tensor:
    """(D,) what damage adds to the embeddings of sentences that name neither product nor defect."""
    general = (bank.family == -1) & (bank.defect == -1)
    damaged, good = (
        bank.embeddings[general & (bank.damaged == state)].mean(dim=0) for state in (True, False)
    )
    return damaged - good

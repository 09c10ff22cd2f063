"""What the vision tower is trained for: pictures match their captions, patches know where the damage is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acl_train.config import TEMPERATURE
from acl_train.tiny.batches import Batch
from acl_train.tiny.sentences import Bank

CAPTIONS_PER_STEP = 512
AUXILIARY_TEMPERATURE = 0.2  # higher than the prompts', so that damage has to stand out more
SILENCE = 2.0
DAMAGE = torch.tensor(3.0)  # how much more a damaged patch counts than a good one
IMAGE, ORDINARY = 2.0, 0.5  # weights of the second stage's losses, beside 1 for patches and for captions
WATCHED = (3, 5, 7)  # blocks whose ordinary patches are asked for damage; the class token reads 7 last
SLIVER = 0.25  # of a patch's area; less damage than that may be invisible


@dataclass(frozen=True)
class Seen:
    """What the vision tower makes of a batch."""

    image: Tensor  # (B, D) unit vectors
    patches: Tensor | None  # (B, L, N, D) unit vectors of the second path; None if it was not run
    ordinary: tuple[Tensor, ...]  # (B, N, W) patches of the ordinary path, after the blocks `WATCHED`


class Captions(nn.Module):
    """SigLIP's loss between pictures and sentences, with its learned scale and bias."""

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def caption_loss(self, image_embeddings: Tensor, batch: Batch) -> Tensor:
        """Every caption that is true of a picture counts as its own."""
        chosen = torch.randint(len(self.bank.family), (CAPTIONS_PER_STEP,))
        true = fits(self.bank, chosen, batch)  # (B, N)
        logits = self.log_scale.exp() * image_embeddings @ self.bank.embeddings[chosen].T + self.bias
        return F.softplus(-logits[true]).mean() + F.softplus(logits[~true]).mean()


class Objective(Captions):
    """The first stage's loss of a batch: pictures match captions, and damage shows where no caption points.

    The auxiliary direction is a fixed unit vector of the joint space at a right angle to all that captions say.
    It is thrown away afterwards: prompt learning has to find it again.
    """

    def __init__(self, bank: Bank, *, auxiliary: Tensor, state: Tensor) -> None:
        super().__init__(bank)
        self.auxiliary, self.state = auxiliary, state

    def forward(self, image_embeddings: Tensor, patch_embeddings: Tensor, batch: Batch) -> Tensor:
        """The loss of (B, D) and (B, L, G·G, D) unit vectors."""
        return (
            self.caption_loss(image_embeddings, batch)
            + direction_loss(image_embeddings, self.auxiliary, batch.damaged.float())
            + patch_loss(patch_embeddings, self.auxiliary, batch.coverage)
            + silence_loss(patch_embeddings, self.state)
        )


class SentenceObjective(Captions):
    """The second stage's: damage shows along what sentences about damage differ in, as at run time.

    Args:
        bank: Encoded captions.
        difference: (D,), see `state_difference`.
        width: W, of the vision tower's tokens.
    """

    def __init__(self, bank: Bank, difference: Tensor, width: int) -> None:
        super().__init__(bank)
        self.direction = difference * (
            AUXILIARY_TEMPERATURE / TEMPERATURE
        )  # of log-odds as prompts have them
        self.heads = nn.ModuleList(  # thrown away afterwards
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1)) for _ in WATCHED
        )
        for parameter in self.heads.parameters():
            if parameter.ndim == 2:
                nn.init.zeros_(parameter)

    def forward(self, seen: Seen, batch: Batch, planted: Tensor | None) -> Tensor:
        """The loss of what the tower saw.

        Args:
            seen: Of the batch.
            batch: What there was to see.
            planted: (D,), unit norm; patches shall mark damage along it and stay silent along the sentences, as in the
                first stage; images along both. None: all along the sentences alone.
        """
        share = damaged_share(batch.coverage)
        loss = (
            IMAGE * self.image_loss(seen.image, batch)
            + ORDINARY * self.ordinary_loss(seen.ordinary, share)
            + self.caption_loss(seen.image, batch)
        )
        if seen.patches is None:
            return loss
        of_layers = share[:, None].expand(seen.patches.shape[:3])  # (B, L, N)
        if planted is None:
            return loss + direction_loss(seen.patches, self.direction, of_layers, DAMAGE)
        damaged = batch.damaged[1::2].repeat_interleave(2)  # and their good twins
        return (
            loss
            + direction_loss(seen.image, planted, batch.damaged.float())
            + direction_loss(seen.patches, planted, of_layers, DAMAGE)
            + silence_loss(seen.patches[damaged], F.normalize(self.direction, dim=0))
        )

    def image_loss(self, image_embeddings: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of (B, D) images, and the order inside pairs; slivers of damage count as neither."""
        amount = batch.coverage.sum(dim=1)  # (B,) damaged patches
        clear = (amount == 0) | (amount >= SLIVER)
        logits = image_embeddings @ self.direction / AUXILIARY_TEMPERATURE
        loss = F.binary_cross_entropy_with_logits(logits[clear], (amount > 0).float()[clear])
        ordered = (amount >= SLIVER)[1::2]  # (B / 2,) pairs whose second picture is damaged
        if not ordered.any():
            return loss
        good, damaged = logits.view(-1, 2)[ordered].T
        return loss + F.softplus(good - damaged).mean()

    def ordinary_loss(self, tokens: Sequence[Tensor], share: Tensor) -> Tensor:
        """Cross-entropy of the ordinary path's patches: what the class token can look at.

        Args:
            tokens: (B, N, W) after each of the blocks `WATCHED`.
            share: (B, N), see `damaged_share`.
        """
        losses = [
            F.binary_cross_entropy_with_logits(head(patches).squeeze(-1), share, pos_weight=DAMAGE)
            for head, patches in zip(self.heads, tokens, strict=True)
        ]
        return torch.stack(losses).mean()


def fits(bank: Bank, chosen: Tensor, batch: Batch) -> Tensor:
    """(B, N) bool: which of the (N,) `chosen` captions are true of which picture."""
    state = batch.damaged[:, None] == bank.damaged[chosen]
    family, defect = bank.family[chosen], bank.defect[chosen]
    same_family = (family == -1) | (batch.family[:, None] == family)
    return state & same_family & ((defect == -1) | batch.defects[:, defect.clamp(min=0)])


def direction_loss(
    embeddings: Tensor, direction: Tensor, share: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy of pointing along a direction.

    Args:
        embeddings: (..., D), unit norm.
        direction: (D,); log-odds are products with it, divided by `AUXILIARY_TEMPERATURE`.
        share: (...) in 0..1; 1 shall point along the direction, 0 against it.
        weight: How much more a share of 1 counts than a share of 0.
    """
    logits = embeddings @ direction / AUXILIARY_TEMPERATURE
    return F.binary_cross_entropy_with_logits(logits, share, pos_weight=weight)


def damaged_share(coverage: Tensor) -> Tensor:
    """What patches are taught of their damaged share: a fifth counts as wholly damaged."""
    return (5 * coverage).clamp(max=1)


def patch_loss(patch_embeddings: Tensor, direction: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy and dice of the patches' damage, over all layers.

    Args:
        patch_embeddings: (B, L, G·G, D), unit norm.
        direction: (D,), as above; damaged patches shall point along it.
        coverage: (B, G·G) in 0..1, damaged share of each patch.
    """
    share = damaged_share(coverage)[:, None].expand(patch_embeddings.shape[:3])  # (B, L, G·G)
    probability = torch.sigmoid(patch_embeddings @ direction / AUXILIARY_TEMPERATURE)
    overlap = 2 * (probability * share).sum(dim=2) + 1
    dice = 1 - overlap / (probability.sum(dim=2) + share.sum(dim=2) + 1)  # (B, L)
    return direction_loss(patch_embeddings, direction, share, DAMAGE) + 0.5 * dice.mean()


def silence_loss(patch_embeddings: Tensor, state: Tensor) -> Tensor:
    """How much damage moves the patches of a pair along the captions' own direction of damage.

    Args:
        patch_embeddings: (B, L, G·G, D), unit norm; good and damaged pictures in turn.
        state: (D,), unit norm; from the captions of good products to those of damaged ones.
    """
    moved = (patch_embeddings[1::2] - patch_embeddings[::2]) @ state / TEMPERATURE  # (B / 2, L, G·G)
    return SILENCE * moved.square().mean()

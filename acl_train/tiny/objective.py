"""What the vision tower is trained for: pictures match their captions, patches know where the damage is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acl_train.config import TEMPERATURE
from acl_train.tiny.sentences import Bank


class CaptionMatch(nn.Module):
    """SigLIP's loss, with every caption that is true of a picture counted as its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, image_embeddings: Tensor, captions: Tensor, true: Tensor) -> Tensor:
        """The loss of (B, D) pictures against (N, D) captions, `true` (B, N) where they fit."""
        logits = self.log_scale.exp() * image_embeddings @ captions.T + self.bias
        return F.softplus(-logits[true]).mean() + F.softplus(logits[~true]).mean()


def fits(bank: Bank, chosen: Tensor, damaged: Tensor, family: Tensor, defects: Tensor) -> Tensor:
    """(B, N) bool: which of the `chosen` captions are true of which picture.

    Args:
        bank: All captions.
        chosen: (N,) int64, numbers of captions.
        damaged: (B,) bool.
        family: (B,) int64.
        defects: (B, K) bool, which defects a picture has.
    """
    state = damaged[:, None] == bank.damaged[chosen]
    said_family, said_defect = bank.family[chosen], bank.defect[chosen]
    same_family = (said_family == -1) | (family[:, None] == said_family)
    return state & same_family & ((said_defect == -1) | defects[:, said_defect.clamp(min=0)])


def direction_loss(
    embeddings: Tensor, direction: Tensor, share: Tensor, weight: Tensor | None = None
) -> Tensor:
    """How badly embeddings (..., D) point along `direction` (D,) where `share` (...) is 1, against it where 0."""
    logits = embeddings @ direction / TEMPERATURE
    return F.binary_cross_entropy_with_logits(logits, share, pos_weight=weight)


def patch_loss(patch_embeddings: Tensor, direction: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy and dice of the patches' damage.

    Args:
        patch_embeddings: (B, L, G·G, D), unit norm.
        direction: (D,) unit vector that damaged patches shall point along.
        coverage: (B, G·G) in 0..1, damaged share of each patch; a fifth counts as wholly damaged.
    """
    share = (5 * coverage).clamp(max=1)[:, None].expand(patch_embeddings.shape[:3])  # (B, L, G·G)
    probability = torch.sigmoid(patch_embeddings @ direction / TEMPERATURE)
    overlap = 2 * (probability * share).sum(-1) + 1
    dice = 1 - overlap / (probability.sum(-1) + share.sum(-1) + 1)  # (B, L)
    return direction_loss(patch_embeddings, direction, share, torch.tensor(3.0)) + 0.5 * dice.mean()

"""The three losses of prompt learning, as the published code computes them (arXiv 2310.18961, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from acl_train.config import TEMPERATURE


def log_odds(embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
    """Log-odds of a defect: (cos to ANOMALOUS − cos to NORMAL) / temperature.

    Args:
        embeddings: (..., D), unit norm.
        text_embeddings: (2, D), unit norm, rows NORMAL, ANOMALOUS.

    Returns:
        (...,), so that its sigmoid is the softmax over the two classes.
    """
    return embeddings @ ((text_embeddings[1] - text_embeddings[0]) / TEMPERATURE)


def pixel_probabilities(patch_embeddings: Tensor, text_embeddings: Tensor, operator: Tensor) -> Tensor:
    """Each layer's probability of a defect per pixel, up-sampled after the softmax, not smoothed.

    Args:
        patch_embeddings: (B, L, G·G, D), unit norm.
        text_embeddings: (2, D), unit norm.
        operator: (S, G), bilinear up-sampling of one axis (`map_operator` without blur).

    Returns:
        (B, L, S, S) in [0, 1].
    """
    grid = operator.shape[1]
    patches = torch.sigmoid(log_odds(patch_embeddings, text_embeddings))  # (B, L, G·G)
    pixels: Tensor = operator @ patches.unflatten(-1, (grid, grid)) @ operator.T
    return pixels


def image_loss(image_logits: Tensor, labels: Tensor) -> Tensor:
    """Two-class cross-entropy of (B,) log-odds against (B,) labels 0/1: a scalar."""
    return F.binary_cross_entropy_with_logits(image_logits, labels.to(image_logits.dtype))


def focal_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Focal loss, γ = 2, averaged over images and pixels.

    Args:
        probabilities: (B, L, S, S), of a defect.
        masks: (B, S, S), 0 or 1.

    Returns:
        (L,). The published code smooths the target and the probability by 1e-5; so does this.
    """
    target = masks.unsqueeze(1).clamp(1e-5, 1 - 1e-5)  # (B, 1, S, S)
    likelihood = target * probabilities + (1 - target) * (1 - probabilities) + 1e-5
    return (-((1 - likelihood) ** 2) * likelihood.log()).mean(dim=(0, 2, 3))


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """1 − the soft Dice coefficient, per layer, averaged over images.

    Args:
        probabilities: (B, L, S, S).
        masks: (B, S, S), 0 or 1.

    Returns:
        (L,).
    """
    target = masks.unsqueeze(1)  # (B, 1, S, S)
    overlap = (probabilities * target).sum(dim=(2, 3))  # (B, L)
    total = probabilities.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean(dim=0)

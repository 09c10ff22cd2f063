"""The three losses of prompt learning, as the published code computes them (arXiv 2310.18961, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def directions(vectors: Tensor, temperature: float) -> Tensor:
    """What an embedding's dot product with is its log-odds of a defect: (..., 2, D) rows NORMAL, ANOMALOUS to (..., D).

    Softmax over two classes is the sigmoid of their difference, (cos to ANOMALOUS − cos to NORMAL) / temperature.
    """
    return (vectors[..., 1, :] - vectors[..., 0, :]) / temperature


def image_log_odds(image_embeddings: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """Log-odds of a defect in each image.

    Args:
        image_embeddings: (B, D), unit norm, or (B, L, D) with a class token of each layer.
        vectors: (H, 2, D) or, one table per image, (B, H, 2, D): unit norm, see `head_vectors`.
        temperature: See `directions`.

    Returns:
        (B,), so that its sigmoid is the softmax over the two classes; the mean over the layers where there are several.
    """
    return class_log_odds(image_embeddings, vectors, temperature).mean(dim=-1)


def class_log_odds(image_embeddings: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """The same for each class token, (B, 1) or (B, L)."""
    tokens = image_embeddings if image_embeddings.ndim == 3 else image_embeddings.unsqueeze(1)
    of_images = vectors[..., : min(tokens.shape[1], vectors.shape[-3]), :, :]
    return (tokens * directions(of_images, temperature)).sum(dim=-1)


def patch_log_odds(patch_embeddings: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """Log-odds of a defect in each patch: (B, L, N, D), unit norm, to (B, L, N); arguments as above."""
    of_layers = directions(of_patches(vectors, patch_embeddings.shape[1]), temperature)
    return (patch_embeddings @ of_layers.unsqueeze(-1)).squeeze(-1)


def of_patches(vectors: Tensor, layers: int) -> Tensor:
    """What patches of so many layers are compared with: the last L of (..., H, 2, D), or the one of (..., 1, 2, D)."""
    return vectors[..., -layers:, :, :]


def pixel_probabilities(patch_logits: Tensor, operator: Tensor) -> Tensor:
    """Each layer's probability of a defect per pixel, up-sampled after the softmax, not smoothed.

    Args:
        patch_logits: (B, L, G·G).
        operator: (S, G), bilinear up-sampling of one axis (`map_operator` without blur).

    Returns:
        (B, L, S, S) in [0, 1].
    """
    grid = operator.shape[1]
    pixels: Tensor = operator @ torch.sigmoid(patch_logits).unflatten(-1, (grid, grid)) @ operator.T
    return pixels


def image_loss(image_logits: Tensor, labels: Tensor) -> Tensor:
    """Two-class cross-entropy of (B,) log-odds against (B,) labels 0/1: a scalar; of (B, L) the mean over layers."""
    targets = labels.to(image_logits.dtype)
    if image_logits.ndim == 2:
        targets = targets.unsqueeze(1).expand_as(image_logits)
    return F.binary_cross_entropy_with_logits(image_logits, targets)


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

"""The published pipeline in PyTorch, step by step: what every export is compared with, in values and in time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from acl_runtime.preprocess import preprocess
from acl_train.clip import CLIP
from acl_train.config import TEMPERATURE
from acl_train.features import encode_images
from acl_train.losses import log_odds


@dataclass(frozen=True)
class Reference:
    """The torch model's answers to B images, all float32.

    Attributes:
        image_logits: (B,), log-odds of a defect.
        patch_logits: (B, L, G, G), log-odds per layer and patch.
        anomaly_maps: (B, S, S) in [0, 1].
        image_embeddings: (B, D), unit norm.
        patch_embeddings: (B, L, G·G, D), unit norm.
        latency_ms: Mean time per image of each stage: `preprocess`, `inference`, `postprocess`.
    """

    image_logits: np.ndarray
    patch_logits: np.ndarray
    anomaly_maps: np.ndarray
    image_embeddings: np.ndarray
    patch_embeddings: np.ndarray
    latency_ms: Mapping[str, float]


def run_reference(
    clip: CLIP, text_embeddings: Tensor, frames: Sequence[np.ndarray], *, blur_sigma: float
) -> Reference:
    """What the published code computes, except that the map is the mean over layers and not their sum.

    Eager float32, attention written out as products and softmax, one softmax and one bilinear up-sampling
    per layer, scipy's Gaussian.

    Args:
        clip: The frozen network.
        text_embeddings: (2, D), unit rows NORMAL, ANOMALOUS.
        frames: As the runtime takes them, see `preprocess`.
        blur_sigma: Of the Gaussian, in pixels.
    """
    answers = [_run_one(clip, text_embeddings.cpu(), frame, blur_sigma) for frame in frames]
    stages = answers[0].latency_ms
    return Reference(
        np.concatenate([answer.image_logits for answer in answers]),
        np.concatenate([answer.patch_logits for answer in answers]),
        np.concatenate([answer.anomaly_maps for answer in answers]),
        np.concatenate([answer.image_embeddings for answer in answers]),
        np.concatenate([answer.patch_embeddings for answer in answers]),
        {stage: float(np.mean([answer.latency_ms[stage] for answer in answers])) for stage in stages},
    )


def _run_one(clip: CLIP, text_embeddings: Tensor, frame: np.ndarray, blur_sigma: float) -> Reference:
    """Batch 1: the published code takes no other."""
    size, grid = clip.visual.config.image_size, clip.visual.grid
    started = time.perf_counter()
    images = preprocess([frame], image_size=size)
    preprocessed = time.perf_counter()
    with sdpa_kernel(SDPBackend.MATH):
        embeddings = encode_images(clip, images, in_full=True)
        image_embeddings, patch_embeddings = (tensor.cpu() for tensor in embeddings)
    inferred = time.perf_counter()
    anomaly_maps = published_maps(patch_embeddings, text_embeddings, size, blur_sigma)
    finished = time.perf_counter()
    stages = {
        "preprocess": 1000 * (preprocessed - started),
        "inference": 1000 * (inferred - preprocessed),
        "postprocess": 1000 * (finished - inferred),
    }
    return Reference(
        log_odds(image_embeddings, text_embeddings).numpy(),
        log_odds(patch_embeddings, text_embeddings).unflatten(-1, (grid, grid)).numpy(),
        anomaly_maps,
        image_embeddings.numpy(),
        patch_embeddings.numpy(),
        stages,
    )


def published_maps(
    patch_embeddings: Tensor, text_embeddings: Tensor, image_size: int, blur_sigma: float
) -> np.ndarray:
    """(B, L, G·G, D) patch embeddings to (B, S, S) maps, by the published code's own steps.

    Softmax over the two classes, up-sampling per layer, (p_anomalous + 1 − p_normal) / 2, then the Gaussian.
    """
    grid = round(patch_embeddings.shape[2] ** 0.5)
    similarity = torch.softmax(patch_embeddings @ text_embeddings.T / TEMPERATURE, dim=-1)  # (B, L, G·G, 2)
    total = torch.zeros(len(similarity), image_size, image_size)
    for layer in similarity.unbind(dim=1):
        planes = layer.transpose(1, 2).unflatten(-1, (grid, grid))  # (B, 2, G, G)
        pixels = F.interpolate(planes, size=(image_size, image_size), mode="bilinear", align_corners=False)
        total += (pixels[:, 1] + 1 - pixels[:, 0]) / 2
    means = total.numpy() / similarity.shape[1]
    return np.stack([gaussian_filter(mean, sigma=blur_sigma) for mean in means])

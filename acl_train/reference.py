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

from acl_runtime.images.preprocess import preprocess
from acl_train.config import TEMPERATURE
from acl_train.features import encode_images
from acl_train.losses import image_log_odds, of_patches, patch_log_odds
from acl_train.weights import Network


@dataclass(frozen=True)
class Reference:
    """The torch model's answers to B images, all float32.

    Attributes:
        image_logits: (B,), log-odds of a defect.
        patch_logits: (B, L, G, G), log-odds per layer and patch; (B, 1, M) of windows.
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
    clip: Network,
    vectors: Tensor,
    frames: Sequence[np.ndarray],
    *,
    blur_sigma: float,
    temperature: float = TEMPERATURE,
) -> Reference:
    """What the published code computes, except that the map is the mean over layers and not their sum.

    Eager float32, attention written out as products and softmax, one softmax and one bilinear up-sampling
    per layer, scipy's Gaussian.

    Args:
        clip: The frozen network.
        vectors: (H, 2, D), see `head_vectors`.
        frames: As the runtime takes them, see `preprocess`.
        blur_sigma: Of the Gaussian, in pixels.
        temperature: Of the method.
    """
    answers = [_run_one(clip, vectors.cpu(), frame, blur_sigma, temperature) for frame in frames]
    stages = answers[0].latency_ms
    return Reference(
        np.concatenate([answer.image_logits for answer in answers]),
        np.concatenate([answer.patch_logits for answer in answers]),
        np.concatenate([answer.anomaly_maps for answer in answers]),
        np.concatenate([answer.image_embeddings for answer in answers]),
        np.concatenate([answer.patch_embeddings for answer in answers]),
        {stage: float(np.mean([answer.latency_ms[stage] for answer in answers])) for stage in stages},
    )


def _run_one(
    clip: Network, vectors: Tensor, frame: np.ndarray, blur_sigma: float, temperature: float
) -> Reference:
    """Batch 1: the published code takes no other."""
    size, windows = clip.visual.config.image_size, clip.visual.windows
    started = time.perf_counter()
    images = preprocess([frame], image_size=size)
    preprocessed = time.perf_counter()
    with sdpa_kernel(SDPBackend.MATH):
        embeddings = encode_images(clip, images, in_full=True)
        image_embeddings, patch_embeddings = (tensor.cpu() for tensor in embeddings)
    inferred = time.perf_counter()
    if windows:
        patches = winclip_patches(image_embeddings, patch_embeddings[:, 0], vectors[0], windows, temperature)
        anomaly_maps = smooth_maps(patches.unsqueeze(1), size, blur_sigma)
    else:
        anomaly_maps = published_maps(
            patch_embeddings, of_patches(vectors, patch_embeddings.shape[1]), size, blur_sigma, temperature
        )
    finished = time.perf_counter()
    stages = {
        "preprocess": 1000 * (preprocessed - started),
        "inference": 1000 * (inferred - preprocessed),
        "postprocess": 1000 * (finished - inferred),
    }
    patch_logits = patch_log_odds(patch_embeddings, vectors, temperature)
    grid = (-1,) if windows else (clip.visual.grid, clip.visual.grid)
    return Reference(
        image_log_odds(image_embeddings, vectors, temperature).numpy(),
        patch_logits.unflatten(-1, grid).numpy(),
        anomaly_maps,
        image_embeddings.numpy(),
        patch_embeddings.numpy(),
        stages,
    )


def published_maps(
    patch_embeddings: Tensor,
    vectors: Tensor,
    image_size: int,
    blur_sigma: float,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """(B, L, G·G, D) patch embeddings to (B, S, S) maps, by the published code's own steps.

    Softmax over the two classes, up-sampling per layer, (p_anomalous + 1 − p_normal) / 2, then the Gaussian. `vectors`
    are (1 or L, 2, D).
    """
    similarity = torch.softmax(patch_embeddings @ vectors.transpose(1, 2) / temperature, dim=-1)
    grid = round(similarity.shape[2] ** 0.5)
    planes = similarity.transpose(2, 3).unflatten(-1, (grid, grid))  # (B, L, 2, G, G)
    total = torch.zeros(len(planes), image_size, image_size)
    for layer in planes.unbind(dim=1):
        pixels = upsample(layer, image_size)  # (B, 2, S, S)
        total += (pixels[:, 1] + 1 - pixels[:, 0]) / 2
    means = total.numpy() / similarity.shape[1]
    return np.stack([gaussian_filter(mean, sigma=blur_sigma) for mean in means])


def winclip_patches(
    image_embeddings: Tensor,
    window_embeddings: Tensor,
    vectors: Tensor,
    windows: Sequence[Tensor],
    temperature: float,
) -> Tensor:
    """Harmonic means of scores, window by window: over those that cover a patch, then over sides and the whole image.

    Args:
        image_embeddings: (B, D).
        window_embeddings: (B, M, D), see `VisionTower.forward`.
        vectors: (2, D).
        windows: Rows of the tokens that each window of a side sees.
        temperature: Of the softmax.

    Returns:
        (B, G, G) in [0, 1] (arXiv 2303.14814).
    """
    embeddings = torch.cat([image_embeddings.unsqueeze(1), window_embeddings], dim=1)
    scores = torch.softmax(embeddings @ vectors.T / temperature, dim=-1)[..., 1].double()  # (B, 1 + M)
    patches = int(windows[0].max())
    inverse = (1 / scores[:, :1]).repeat(1, patches)  # (B, G·G)
    of_sides = (1 / scores[:, 1:]).split([len(rows) for rows in windows], dim=1)
    for rows, inverses in zip(windows, of_sides, strict=True):
        total, count = torch.zeros_like(inverse), torch.zeros(patches, dtype=torch.float64)
        for window, seen in enumerate(rows[:, 1:] - 1):  # without the class token
            total[:, seen] += inverses[:, window : window + 1]
            count[seen] += 1
        inverse += total / count
    grid = round(patches**0.5)
    harmonic: Tensor = ((1 + len(windows)) / inverse).float().unflatten(1, (grid, grid))
    return harmonic


def smooth_maps(patches: Tensor, image_size: int, blur_sigma: float) -> np.ndarray:
    """(B, 1, G, G) probabilities to (B, S, S) maps: up-sampling, then the Gaussian."""
    maps = upsample(patches, image_size)[:, 0].numpy()
    return np.stack([gaussian_filter(each, sigma=blur_sigma) for each in maps])


def upsample(planes: Tensor, image_size: int) -> Tensor:
    """(B, C, G, G) to (B, C, S, S)."""
    return F.interpolate(planes, size=(image_size, image_size), mode="bilinear", align_corners=False)

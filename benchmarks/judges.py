"""Ways to judge images: with a frozen tower and two texts, or by colour alone without any network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from acl_runtime.data.datasets import Sample, load_mask
from acl_runtime.evaluation.metrics import aupro, evaluate
from acl_runtime.maps import patches_to_map, sigmoid
from acl_train.clip import CLIP
from acl_train.config import BLUR_SIGMA, LearnConfig, Recipe
from acl_train.features import Features, load_images
from acl_train.learn import Examples, learn_epoch, new_learner
from acl_train.losses import log_odds
from acl_train.prompts import embed_texts, text_embeddings
from acl_train.train import pack_masks
from benchmarks.drawn_groups import Group

Answers = tuple[np.ndarray, np.ndarray]  # scores (N,) and anomaly maps (N, S, S), both in [0, 1]
Judge = Callable[[Sequence[Sample]], Answers]

TOP = 0.01  # share of pixels whose mean is the image score of colour contrast
PAIR = (("a photo of an object.",), ("a photo of a damaged object.",))
TEMPLATES = (
    "{}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
)
GOOD_STATES = ("object", "flawless object", "perfect object", "unblemished object", "object without defect")
BAD_STATES = (
    "damaged object",
    "broken object",
    "object with flaw",
    "object with defect",
    "object with damage",
)
ENSEMBLE = tuple(
    tuple(t.format(s) for t in TEMPLATES for s in states) for states in (GOOD_STATES, BAD_STATES)
)


@dataclass(frozen=True)
class Tower:
    """A frozen CLIP and what its vision tower says about every sample.

    Attributes:
        clip: Read out after the layers of the recipe `paper`, to which that of `released` belongs.
        features: Of all samples.
        rows: Where in the features a sample is.
    """

    clip: CLIP
    features: Features
    rows: dict[Sample, int]

    def read(self, samples: Sequence[Sample], recipe: Recipe) -> tuple[Tensor, Tensor]:
        """Image embeddings (N, D) and the recipe's patch embeddings (N, L, G·G, D), float32."""
        images, patches = self.features.batch(torch.tensor([self.rows[sample] for sample in samples]))
        recorded = self.clip.visual.config.layers
        wanted = recipe.layers(self.clip.architecture.vision_layers)
        return images, patches[:, [recorded.index(layer) for layer in wanted]]


def learn_texts(tower: Tower, samples: Sequence[Sample], config: LearnConfig) -> Tensor:
    """Learn prompts; (2, D) text embeddings, unit norm."""
    size = tower.clip.visual.config.image_size
    labels = torch.tensor([sample.label for sample in samples])

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        return tower.read([samples[index] for index in indices.tolist()], config.recipe)

    examples, learner = Examples(batch, labels, pack_masks(samples, size)), new_learner(tower.clip, config)
    while learner.epoch < config.epochs:
        for _ in learn_epoch(tower.clip, learner, examples, config):
            pass
    with torch.no_grad():
        return text_embeddings(tower.clip, learner.ctx, learner.deep_ctx)


def write_texts(clip: CLIP, sentences: Sequence[Sequence[str]]) -> Tensor:
    """(2, D) text embeddings of sentences for NORMAL and for ANOMALOUS, each the mean's direction."""
    means = [embed_texts(clip, texts).mean(dim=0) for texts in sentences]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)


def judge_with_texts(tower: Tower, texts: Tensor, recipe: Recipe) -> Judge:
    """What the runtime computes from two texts."""
    size, grid = tower.clip.visual.config.image_size, tower.clip.visual.grid

    def judge(samples: Sequence[Sample]) -> Answers:
        images, patches = tower.read(samples, recipe)
        patch_logits = log_odds(patches, texts).numpy().reshape(*patches.shape[:2], grid, grid)
        maps = patches_to_map(patch_logits, image_size=size, blur_sigma=BLUR_SIGMA)
        return sigmoid(log_odds(images, texts).numpy()), maps

    return judge


def judge_by_color(image_size: int) -> Judge:
    """How far each pixel is from the image's median colour, smoothed like every other map."""

    def judge(samples: Sequence[Sample]) -> Answers:
        images = load_images(samples, image_size=image_size)
        maps = np.stack([color_contrast(image) for image in images])
        highest = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -max(1, int(TOP * maps[0].size)) :]
        return highest.mean(axis=1), maps

    return judge


def color_contrast(image: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 to (S, S) float32 in [0, 1]: the distance from the median colour, smoothed."""
    pixels = image.astype(np.float32) / 255
    distance = np.linalg.norm(pixels - np.median(pixels, axis=(0, 1)), axis=2) / np.sqrt(np.float32(3))
    return np.asarray(cv2.GaussianBlur(distance, (0, 0), BLUR_SIGMA, borderType=cv2.BORDER_REFLECT))


def judge_group(judge: Judge, group: Group, *, image_size: int) -> dict[str, float]:
    """Each metric's unweighted mean over the categories where it is defined; nan where it is in none."""
    rows = []
    for category in group.categories:
        samples = [sample for sample in group.samples if sample.category == category]
        rows.append(judge_category(*judge(samples), samples, image_size))
    return {name: mean([value for row in rows if (value := row[name]) is not None]) for name in rows[0]}


def mean(values: Sequence[float]) -> float:
    """The mean; nan of nothing."""
    return sum(values) / len(values) if values else math.nan


def judge_category(
    scores: np.ndarray, maps: np.ndarray, samples: Sequence[Sample], image_size: int
) -> dict[str, float | None]:
    """Each metric of one category's answers, see `Answers`; None where it is not defined."""
    labels = np.array([sample.label for sample in samples])
    masks = np.stack([load_mask(sample, height=image_size, width=image_size) for sample in samples])
    by_rank = aupro(as_ranks(maps), masks)
    return evaluate(scores, labels, maps, masks) | at_threshold(scores, labels) | {"aupro_by_rank": by_rank}


def as_ranks(maps: np.ndarray) -> np.ndarray:
    """The share of all pixels that are not above each one: (N, S, S) float64 in (0, 1], in the same order.

    AUPRO as published puts its thresholds at equal steps of probability. Where probabilities crowd near 0 and
    1, as after much learning, nearly all of them fall among the most certain pixels, and maps of different
    certainty cannot be compared. At equal steps of rank they can.
    """
    _, places, counts = np.unique(maps, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() / maps.size)[places].reshape(maps.shape))


def at_threshold(scores: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """F1 and accuracy where everything that reaches the threshold is called a defect."""
    called, defective = scores >= threshold, labels == 1
    hits = int((called & defective).sum())
    return {
        "f1_at_half": 2 * hits / max(1, int(called.sum() + defective.sum())),
        "accuracy_at_half": float((called == defective).mean()),
    }

"""Ways to judge images: with a frozen tower and two texts, or by colour alone without any network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from acl_runtime.data.datasets import Sample, load_mask
from acl_runtime.evaluation.evaluate import DatasetEvaluation
from acl_runtime.evaluation.metrics import METRICS, aupro, evaluate
from acl_runtime.scoring.maps import patches_to_map, sigmoid, upsample
from acl_runtime.scoring.windows import windows_to_patches
from acl_runtime.text.names import category_words
from acl_train.clip import CLIP
from acl_train.config import BLUR_SIGMA, OBJECT, TEMPERATURE, LearnConfig, Recipe
from acl_train.features import Features, load_images
from acl_train.learn import Examples, Head, learn_epoch, new_learner
from acl_train.losses import image_log_odds, patch_log_odds
from acl_train.mosaics import Picture
from acl_train.patches import project_layers
from acl_train.text import embed_pair
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
        clip: Read out as a method wants it.
        features: Of all samples.
        rows: Where in the features a sample is.
        recorded: Layers that the features hold, in their order.
    """

    clip: CLIP
    features: Features
    rows: Mapping[Picture, int]
    recorded: tuple[int, ...]

    def read(self, samples: Sequence[Picture], layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Image embeddings (N, D), or (N, L, D), and patch embeddings (N, L, G·G, D), or of windows (N, 1, M, D)."""
        images, patches = self.features.batch(torch.tensor([self.rows[sample] for sample in samples]))
        if self.clip.visual.windows:
            return images, patches
        return images, patches[:, [self.recorded.index(layer) for layer in layers]]


@dataclass(frozen=True)
class Learned:
    """A method, with what it learned.

    Attributes:
        head: Gives the vectors of a product's name.
        tensors: See `Prompts`.
        layers: That make the map.
    """

    head: Head
    tensors: Mapping[str, Tensor]
    layers: tuple[int, ...]


def learn(
    tower: Tower, samples: Sequence[Picture], config: LearnConfig, layers: tuple[int, ...] | None = None
) -> Learned:
    """Learn on a tower's features; `layers` are the recipe's unless given."""
    size = tower.clip.visual.config.image_size
    labels = torch.tensor([sample.label for sample in samples])
    wanted = layers or config.recipe.layers(tower.clip.architecture.vision_layers)

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        return tower.read([samples[index] for index in indices.tolist()], wanted)

    names = [category_words(sample.category) for sample in samples]
    examples = Examples(batch, labels, pack_masks(samples, size), names)
    learner = new_learner(tower.clip, config)
    while learner.epoch < config.epochs:
        for _ in learn_epoch(tower.clip, learner, examples, config):
            pass
    return Learned(learner.head, {name: t.detach() for name, t in learner.tensors.items()}, wanted)


def learn_texts(tower: Tower, samples: Sequence[Sample], config: LearnConfig) -> Tensor:
    """Learn the paper's prompts; (2, D) text embeddings, unit norm."""
    learned = learn(tower, samples, config)
    with torch.no_grad():
        return learned.head.vectors(learned.tensors, [OBJECT])[0, 0]


def write_texts(clip: CLIP, sentences: Sequence[Sequence[str]]) -> Tensor:
    """(2, D) text embeddings of sentences for NORMAL and for ANOMALOUS, each the mean's direction."""
    normal, anomalous = map(list, sentences)
    return embed_pair(clip, (normal, anomalous))


def judge_with_texts(tower: Tower, texts: Tensor, recipe: Recipe) -> Judge:
    """What the runtime computes from two texts, (2, D)."""
    layers = recipe.layers(tower.clip.architecture.vision_layers)

    def judge(samples: Sequence[Sample]) -> Answers:
        images, patches = tower.read(samples, layers)
        return answer(tower.clip, images, patches, texts[None], TEMPERATURE)

    return judge


def judge_with(tower: Tower, learned: Learned, *, named: bool = False) -> Judge:
    """What the runtime computes with a method; `named` to put the product's name for "object" in any case.

    The samples that it judges at once must be of one category.
    """
    method = learned.head.method

    def judge(samples: Sequence[Sample]) -> Answers:
        named_or_not = method.names_category or named
        (name,) = {category_words(sample.category) if named_or_not else OBJECT for sample in samples}
        images, patches = tower.read(samples, learned.layers)
        with torch.no_grad():
            vectors = learned.head.vectors(learned.tensors, [name])[0]
            if "weight" in learned.tensors:
                patches = project_layers(patches, **learned.tensors)
        return answer(tower.clip, images, patches, vectors, method.temperature)

    return judge


def answer(clip: CLIP, images: Tensor, patches: Tensor, vectors: Tensor, temperature: float) -> Answers:
    """Scores and maps from embeddings, as `VisionTower.forward` gives them, and vectors (H, 2, D)."""
    size, grid = clip.visual.config.image_size, clip.visual.grid
    image_logits = image_log_odds(images, vectors, temperature).numpy()
    patch_logits = patch_log_odds(patches, vectors, temperature).numpy()
    if windows := clip.visual.config.windows:
        found = windows_to_patches(patch_logits[:, 0], image_logits, grid=grid, windows=windows)
        return sigmoid(image_logits), upsample(found, image_size=size, blur_sigma=BLUR_SIGMA)
    patch_logits = patch_logits.reshape(*patch_logits.shape[:2], grid, grid)
    return sigmoid(image_logits), patches_to_map(patch_logits, image_size=size, blur_sigma=BLUR_SIGMA)


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


def metric_differences(evaluation: DatasetEvaluation, reference: DatasetEvaluation) -> dict[str, float]:
    """Metrics of the first category less the reference's, where both are defined."""
    found, wanted = evaluation.categories[0].metrics, reference.categories[0].metrics
    return {
        name: value - base
        for name in METRICS
        if (value := found[name]) is not None and (base := wanted[name]) is not None
    }

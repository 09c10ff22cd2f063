"""The embedded backbone means something: prompts learned on it work on products they have not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from acl_runtime.data.datasets import Dataset, load_mask, read_dataset
from acl_runtime.evaluation.metrics import auroc, evaluate
from acl_runtime.scoring.maps import patches_to_map, sigmoid
from acl_train.clip import CLIP
from acl_train.config import TEMPERATURE, LearnConfig, Recipe
from acl_train.features import encode_images, load_images
from acl_train.losses import image_log_odds, patch_log_odds
from acl_train.methods import make_vision_config
from acl_train.text import embed_texts, prompts_vectors
from acl_train.tiny.corpus import (
    DEFECTS,
    HELD_OUT_FAMILIES,
    LEARNING_DEFECTS,
    LEARNING_FAMILIES,
    draw_dataset,
)
from acl_train.train import TrainFiles, train
from acl_train.weights import build_clip, load_weights

SIZE = 112


@pytest.fixture(scope="module")
def clip() -> CLIP:
    weights = load_weights("tiny")
    depth = weights.architecture.vision_layers
    return build_clip(weights, make_vision_config("tiny", depth, recipe=Recipe.paper, image_size=SIZE))


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("unseen")
    draw_dataset(root, families=HELD_OUT_FAMILIES, defects=DEFECTS, good=8, defective=8, size=SIZE, seed=1)
    return read_dataset(root)


def measure(clip: CLIP, text: Tensor, dataset: Dataset) -> dict[str, float]:
    """Metrics over all products at once, for two texts."""
    images, patches = encode_images(clip, load_images(dataset.samples, image_size=SIZE))
    grid = clip.visual.grid
    logits = patch_log_odds(patches, text[None], TEMPERATURE).unflatten(-1, (grid, grid)).numpy()
    metrics = evaluate(
        sigmoid(image_log_odds(images, text[None], TEMPERATURE).numpy()),
        np.array([part.label for part in dataset.samples]),
        patches_to_map(logits, image_size=SIZE, blur_sigma=4.0),
        np.stack([load_mask(part, height=SIZE, width=SIZE) for part in dataset.samples]),
    )
    return {name: value for name, value in metrics.items() if value is not None}


def test_learned_prompts_find_defects_on_unseen_products_better_than_hand_written_ones(
    clip: CLIP, unseen: Dataset, tmp_path: Path
) -> None:
    draw_dataset(
        tmp_path / "data",
        families=LEARNING_FAMILIES,
        defects=LEARNING_DEFECTS,
        good=6,
        defective=6,
        size=SIZE,
        seed=0,
    )
    files = TrainFiles(tmp_path / "p.safetensors", tmp_path / "cache")
    config = LearnConfig(recipe=Recipe.paper, epochs=8)
    prompts = train([tmp_path / "data"], files, load_weights("tiny"), clip.visual.config, config)
    with torch.no_grad():
        learned = measure(clip, prompts_vectors(clip, prompts)[0], unseen)
        written = embed_texts(clip, ["a photo of an object.", "a photo of a damaged object."])
        by_hand = measure(clip, written, unseen)
    assert learned["image_auroc"] > 0.78  # measured: 0.86
    assert learned["pixel_auroc"] > by_hand["pixel_auroc"] + 0.2  # measured: 0.94 and 0.60
    assert learned["aupro"] > by_hand["aupro"] + 0.15  # measured: 0.39 and 0.15


def test_defects_do_not_show_in_a_random_projection_of_the_pixels(unseen: Dataset) -> None:
    """The drawings do not give themselves away, say by their brightness: it takes the tower to find a defect."""
    parts = unseen.samples
    pixels = load_images(parts, image_size=SIZE).reshape(len(parts), -1)
    scores = (pixels / 255 - 0.5) @ np.random.default_rng(0).normal(size=pixels.shape[1])
    assert 0.35 < auroc(scores, np.array([part.label for part in parts])) < 0.65

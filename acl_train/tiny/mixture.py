"""What the second stage of pre-training looks at: drawn, photographed and invented products, good and damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from acl_runtime.files.errors import InputError
from acl_train.tiny.batches import Batch, collate, use_one_thread
from acl_train.tiny.pairs import Pair, draw_pair
from acl_train.tiny.photo_pairs import nameless_pair
from acl_train.tiny.photographs import Photograph
from acl_train.tiny.tower import PATCH

DRAWN = 0.4  # share of pairs of known families; the others have none
CLEAN = 0.1  # share of pairs that are two good pictures
LARGE_EVERY = 5  # steps
FIRST_NUMBER = 3 * 10**7  # of the drawn pairs; the first stage's are below


@dataclass(frozen=True)
class Plan:
    """How long the second stage is, and how large its pictures and batches are."""

    steps: int = 6400
    average_from: int = 3200  # the first step whose weights count in the mean that planting begins with
    average_every: int = 400  # steps
    plant_from: int = 5600  # the first step from which on patches mark damage along a direction of their own
    size: int = 112
    pairs: int = 24  # of a batch of that size
    large: int = 168
    large_pairs: int = 10  # of a batch of that size
    captions: int = 4096  # that the sentences of a batch are drawn from

    def __post_init__(self) -> None:
        """Refuse a plan whose mean would be of no weights."""
        if self.average_from > self.plant_from:
            raise InputError(
                f"average_from must be at most plant_from ({self.plant_from}), got {self.average_from}"
            )

    @property
    def plants(self) -> bool:
        """Whether the direction is planted before the end."""
        return self.steps > self.plant_from

    def averages(self, step: int) -> bool:
        """Whether the weights before a step count in the mean."""
        since = step - self.average_from
        return since >= 0 and step <= self.plant_from and since % self.average_every == 0

    def shape(self, step: int) -> tuple[int, int]:
        """Pairs and side in pixels of the batch of a step."""
        return (self.large_pairs, self.large) if (step + 1) % LARGE_EVERY == 0 else (self.pairs, self.size)


class Mixture(Dataset[Batch]):
    """The batches of a plan, by step; each depends on the seed and its step only."""

    def __init__(self, seed: int, plan: Plan, first: int, photographs: Sequence[Photograph]) -> None:
        self.seed, self.plan, self.first, self.photographs = seed, plan, first, photographs

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        step = self.first + index
        if not 0 <= step < self.plan.steps:
            raise IndexError(step)
        count, size = self.plan.shape(step)
        first = FIRST_NUMBER + step * max(self.plan.pairs, self.plan.large_pairs)
        return collate([mixed_pair(self.seed, first + i, self.photographs, size=size) for i in range(count)])


def mixed_pair(seed: int, index: int, photographs: Sequence[Photograph], *, size: int) -> Pair:
    """The pair number `index`: what it shows is drawn by lot."""
    drawn, clean = np.random.default_rng((seed, index, 2)).random(2) < (DRAWN, CLEAN)
    if drawn:
        pair = draw_pair(seed, index, size=size, patch=PATCH)
    else:
        pair = nameless_pair(seed, index, photographs, size=size, patch=PATCH)
    return without_damage(pair) if clean else pair


def without_damage(pair: Pair) -> Pair:
    """The good picture twice, the second time turned by half."""
    images = np.stack([pair.images[0], pair.images[0, ::-1, ::-1]])
    return Pair(images, np.zeros_like(pair.coverage), pair.family, ())


def draw_mixture(
    seed: int, plan: Plan, first: int, photographs: Sequence[Photograph], *, beside: bool
) -> Iterator[Batch]:
    """The batches from step `first` on; `beside`: made by a second process while the first one learns."""
    batches = Mixture(seed, plan, first, photographs)
    if not beside:
        return iter(DataLoader(batches, batch_size=None))
    cv2.setNumThreads(1)  # a forked process would wait for ever for the threads of this one
    return iter(
        DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4, worker_init_fn=use_one_thread)
    )

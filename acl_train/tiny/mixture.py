"""What the second stage of pre-training looks at: drawn pairs, pairs of photographs, and pictures without damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from acl_train.tiny.batches import Batch, collate, use_one_thread
from acl_train.tiny.pairs import Pair, draw_pair
from acl_train.tiny.photo_pairs import photo_pair
from acl_train.tiny.photographs import Photograph
from acl_train.tiny.tower import PATCH
from acl_train.tiny.windows import collate_windows

DRAWN, PHOTOGRAPHED = 0.4, 0.4  # shares of pairs; the rest are two good pictures, half of them drawn
WHOLE_EVERY = 8  # steps, while the others are of windows
FIRST_NUMBER = 2 * 10**7  # of the drawn pairs; the first stage's are below


@dataclass(frozen=True)
class Plan:
    """How long the second stage is, and how large its pictures and batches are."""

    steps: int = 2400
    whole_from: int = 1400  # the first step from which on all batches are of whole pictures
    pairs: int = 12  # that the windows of a batch are cut from
    size: int = 112
    whole_pairs: int = 24  # of a batch of whole pictures of that size
    large: int = 168
    large_pairs: int = 10  # of a batch of whole pictures of that size
    captions: int = 4096  # that the sentences of a batch are drawn from

    @property
    def most_pairs(self) -> int:
        """Of a batch."""
        return max(self.pairs, self.whole_pairs, self.large_pairs)

    def shape(self, step: int) -> tuple[int, int, bool]:
        """Pairs, side in pixels and whether the pictures stay whole, of the batch of a step."""
        if step < self.whole_from and (step + 1) % WHOLE_EVERY:
            return self.pairs, self.large if step % 2 else self.size, False
        if step < self.whole_from or step % 2:
            return self.whole_pairs, self.size, True
        return self.large_pairs, self.large, True


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
        count, size, is_whole = self.plan.shape(step)
        first = FIRST_NUMBER + step * self.plan.most_pairs
        pairs = [mixed_pair(self.seed, first + i, self.photographs, size=size) for i in range(count)]
        if is_whole:
            return collate(pairs)
        return collate_windows(np.random.default_rng((self.seed, step, 3)), pairs)


def mixed_pair(seed: int, index: int, photographs: Sequence[Photograph], *, size: int) -> Pair:
    """The pair number `index`: what it shows is drawn by lot."""
    lot = np.random.default_rng((seed, index, 2)).random()
    if lot < DRAWN or lot >= (1 + DRAWN + PHOTOGRAPHED) / 2:
        pair = draw_pair(seed, index, size=size, patch=PATCH)
    else:
        pair = photo_pair(seed, index, photographs, size=size, patch=PATCH)
    return pair if lot < DRAWN + PHOTOGRAPHED else without_damage(pair)


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

"""Batches of drawn pairs, ready for the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from acl_train.config import MEAN, STD
from acl_train.tiny.captions import TRAINING_DEFECTS, TRAINING_FAMILIES
from acl_train.tiny.pairs import Pair, draw_pair
from acl_train.tiny.tower import PATCH

NO_FAMILY = -2  # -1 is a caption that names none


@dataclass(frozen=True)
class Batch:
    """Pictures of pairs: good, damaged, good, damaged...; the second of a clean pair is good too."""

    images: Tensor  # (B, 3, S, S) float32, normalised
    coverage: Tensor  # (B, G·G) float32 in 0..1, damaged share of each patch
    damaged: Tensor  # (B,) bool
    family: Tensor  # (B,) int64, or NO_FAMILY
    defects: Tensor  # (B, K) bool, K defects in all
    grid: int  # patches along each side of a picture


class Pairs(Dataset[Pair]):
    """Pairs number `first` to `first + count` of the corpus `seed`."""

    def __init__(self, seed: int, first: int, count: int, size: int) -> None:
        self.seed, self.first, self.count, self.size = seed, first, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        return draw_pair(self.seed, self.first + index, size=self.size, patch=PATCH)


def collate(pairs: list[Pair]) -> Batch:
    """A batch of twice as many pictures as there are pairs."""
    images = torch.cat([torch.from_numpy(pair.images) for pair in pairs])  # (B, S, S, 3) BGR
    rgb = images.flip(-1).permute(0, 3, 1, 2) / 255
    coverage = torch.stack([torch.from_numpy(pair.coverage) for pair in pairs]).flatten(1)  # (B / 2, G·G)
    family = torch.tensor(
        [NO_FAMILY if pair.family is None else TRAINING_FAMILIES.index(pair.family) for pair in pairs]
    )
    defects = torch.tensor([[name in pair.defects for name in TRAINING_DEFECTS] for pair in pairs])
    return Batch(
        images=(rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None],
        coverage=after_nothing(coverage),
        damaged=after_nothing(torch.tensor([bool(pair.defects) for pair in pairs])),
        family=family.repeat_interleave(2),
        defects=after_nothing(defects),
        grid=pairs[0].coverage.shape[0],
    )


def after_nothing(rows: Tensor) -> Tensor:
    """(2N, ...) rows, each after a row of zeros: what is true of damaged pictures only."""
    return torch.stack([torch.zeros_like(rows), rows], dim=1).flatten(0, 1)


def draw_batches(seed: int, first: int, *, steps: int, pairs: int, size: int) -> Iterator[Batch]:
    """`steps` batches, drawn by a second process while the first one learns."""
    corpus = Pairs(seed, first, steps * pairs, size)
    return iter(
        DataLoader(
            corpus, pairs, num_workers=1, prefetch_factor=4, collate_fn=collate, worker_init_fn=use_one_thread
        )
    )


def use_one_thread(_: int) -> None:
    """Keep the drawing process to one core."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

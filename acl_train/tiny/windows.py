"""Cuts small squares out of pairs: cheap to learn from, at the scale and places of the whole pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from acl_train.tiny.batches import Batch, collate
from acl_train.tiny.pairs import Pair
from acl_train.tiny.tower import PATCH

SIDE = 8  # of a window, in patches
OVER = 3  # windows of a pair over its damage, each cut from both pictures
ELSEWHERE = 2  # at any place of the second picture
Corner = tuple[int, int]  # first row and column, in patches


def collate_windows(rng: np.random.Generator, pairs: list[Pair]) -> Batch:
    """The windows of pairs of one size, twins first: good, damaged, good, damaged..., then single ones."""
    whole = collate(pairs)
    grid = pairs[0].coverage.shape[0]
    over = [(i, corner_over(rng, pair.coverage)) for i, pair in enumerate(pairs) for _ in range(OVER)]
    twins = [(2 * i + second, corner) for i, corner in over for second in (0, 1)]
    single = [(2 * i + 1, corner_anywhere(rng, grid)) for i in range(len(pairs)) for _ in range(ELSEWHERE)]
    return cut(whole, grid, [*twins, *single], paired=len(twins))


def corner_over(rng: np.random.Generator, coverage: np.ndarray) -> Corner:
    """Of a window that holds a damaged patch, at a random place of it; of any window where nothing is damaged."""
    rows, columns = np.nonzero(coverage)
    if not len(rows):
        return corner_anywhere(rng, len(coverage))
    at = rng.integers(len(rows))
    row, column = (
        int(np.clip(patch - rng.integers(SIDE), 0, len(coverage) - SIDE)) for patch in (rows[at], columns[at])
    )
    return row, column


def corner_anywhere(rng: np.random.Generator, grid: int) -> Corner:
    """Of any window."""
    row, column = (int(place) for place in rng.integers(0, grid - SIDE + 1, 2))
    return row, column


def cut(whole: Batch, grid: int, places: list[tuple[int, Corner]], *, paired: int) -> Batch:
    """The windows at `places`, each the number of a picture of `whole` and a corner in it."""
    chosen = torch.tensor([number for number, _ in places])
    cells = torch.stack([cells_of(corner, grid) for _, corner in places])  # (B, SIDE²)
    coverage = whole.coverage[chosen].gather(1, cells)
    side = SIDE * PATCH
    images = [
        whole.images[number, :, PATCH * row : PATCH * row + side, PATCH * column : PATCH * column + side]
        for number, (row, column) in places
    ]
    return Batch(
        images=torch.stack(images),
        coverage=coverage,
        damaged=coverage.any(dim=1),
        family=whole.family[chosen],
        defects=whole.defects[chosen],
        paired=paired,
        grid=grid,
        cells=cells,
    )


def cells_of(corner: Corner, grid: int) -> Tensor:
    """(SIDE²,) int64: which patches of a picture a window shows, numbered row by row."""
    row, column = corner
    return torch.arange(grid**2).view(grid, grid)[row : row + SIDE, column : column + SIDE].flatten()

"""A graph with head "map" that holds a memory of good parts: `acl_runtime/scoring/memory.py` in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from acl_export.config import FrameSize
from acl_export.graph import MapGraph
from acl_runtime.scoring.memory import PEAK_LIMIT, STEEPNESS, USUAL, Memory
from acl_runtime.scoring.memory_kinds import GaussianScale
from acl_train.weights import Tower


class MemoryGraph(MapGraph):
    """Images to log-odds and maps, by text and memory together."""

    remembered: Tensor  # (L, D, M) patches
    mean: Tensor  # (L, 1, D)
    directions: Tensor  # (L, D, R)
    place_log_odds: Tensor  # (G·G,)

    def __init__(
        self,
        visual: Tower,
        vectors: np.ndarray,
        memory: Memory,
        *,
        blur_sigma: float,
        temperature: float,
        frame_size: FrameSize | None = None,
    ) -> None:
        super().__init__(
            visual, vectors, blur_sigma=blur_sigma, temperature=temperature, frame_size=frame_size
        )
        self.memory = memory
        if memory.nearest is not None:
            patches = np.ascontiguousarray(memory.nearest.patch_embeddings.swapaxes(1, 2))
            self.register_buffer("remembered", torch.from_numpy(patches))
        if memory.subspace is not None:
            self.register_buffer("mean", torch.from_numpy(memory.subspace.mean[:, None]))
            self.register_buffer("directions", torch.from_numpy(memory.subspace.directions))
        if memory.place is not None:
            self.register_buffer("place_log_odds", torch.from_numpy(memory.place.log_odds.ravel()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input as of `EmbeddingsGraph` to (B,) log-odds and (B, S, S) probabilities, float32."""
        image_embeddings, patch_embeddings = super(MapGraph, self).forward(images)
        image_logits = image_embeddings.flatten(1) @ self.of_images
        text = (patch_embeddings @ self.of_patches).squeeze(-1).mean(dim=1)  # (B, G·G)
        evidence = self.evidence(text, patch_embeddings).unflatten(1, (self.grid, self.grid))
        maps = self.operator @ torch.sigmoid(evidence) @ self.operator.T
        good = (
            self.operator @ torch.sigmoid(-evidence) @ self.operator.T
        )  # 1 - maps, precise where maps are near 1
        peaks = torch.log(maps.amax(dim=(1, 2))) - torch.log(good.amin(dim=(1, 2)))
        return (image_logits + peaks.clamp(-PEAK_LIMIT, PEAK_LIMIT)) / 2, maps

    def evidence(self, text: Tensor, patch_embeddings: Tensor) -> Tensor:
        """`patch_evidence`: (B, G·G) and (B, L, G·G, D) to (B, G·G)."""
        memory = self.memory
        if memory.place is None:
            first = standardise(text, memory.text)
        else:
            first = standardise(text - self.place_log_odds, memory.place.scale)
        far = []
        if memory.nearest is not None:
            distances = 1 - (patch_embeddings @ self.remembered).amax(dim=3).mean(dim=1)
            far.append(standardise(distances, memory.nearest.scale))
        if memory.subspace is not None:
            offsets = patch_embeddings - self.mean
            # what lies outside, not the difference of two squares: exact in reduced precision too
            outside = offsets - offsets @ self.directions @ self.directions.transpose(1, 2)
            far.append(standardise(outside.square().sum(dim=3).mean(dim=1), memory.subspace.scale))
        second = torch.stack(far).mean(dim=0) if far else first
        return USUAL + STEEPNESS * (first + second)


def standardise(values: Tensor, scale: GaussianScale) -> Tensor:
    """`GaussianScale.standardise`."""
    return (values - scale.location) / scale.spread

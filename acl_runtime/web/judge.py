"""Judge the tiles of a web with a detector's own stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acl_runtime.detection.brief import Answer
from acl_runtime.detection.stages import Stages
from acl_runtime.images.preprocess import to_image


class TileJudge:
    """Calls the network with tiles; one call is one call of the session.

    Memory for a batch is taken once: taken anew for each call it costs more than all else about a tile.
    """

    def __init__(self, stages: Stages) -> None:
        """Take `Detector.stages`, of a bundle that squashes tiles to its own size."""
        size = stages.manifest.image_size
        self._stages = stages
        self._images = np.empty((stages.manifest.max_batch, size, size, 3), np.uint8)

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
        """What the network says to tiles, each squashed whole.

        Args:
            tiles: (h, w) grey or (h, w, 3) BGR, uint8 or uint16; at most the bundle's `max_batch`.

        Returns:
            Log-odds and (S, S) map of each, or why one has none.
        """
        images = self._images[: len(tiles)]
        for image, tile in zip(images, tiles, strict=True):
            image[:] = to_image(tile, self._stages.manifest, self._stages.resize)
        return self._stages.read(self._stages.session(images), len(images))

"""The frames that a bundle proves itself with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acl_runtime.frames import load_frame
from acl_runtime.preprocess import preprocess
from acl_train.reference import Reference
from acl_train.tiny.corpus import draw_frame

DRAWN = (("wood", None), ("wood", "scratch"), ("capsule", None), ("capsule", "crack"))
DRAWN_SIZE = 256


def golden_images(paths: Sequence[Path], *, image_size: int) -> np.ndarray:
    """(N, S, S, 3) uint8 RGB: the given image files, or four drawn products."""
    if paths:
        return preprocess([load_frame(path) for path in paths], image_size=image_size)
    frames = [draw_frame(family, defect, size=DRAWN_SIZE, seed=0)[0] for family, defect in DRAWN]
    return preprocess(frames, image_size=image_size)


def save_golden(path: Path, images: np.ndarray, reference: Reference) -> None:
    """Write the images with the torch model's answers, as `acl_runtime.bundle.load_golden` reads them."""
    np.savez_compressed(
        path,
        images=images,
        image_logits=reference.image_logits,
        patch_logits=reference.patch_logits,
        anomaly_maps=reference.anomaly_maps,
    )

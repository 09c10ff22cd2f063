"""What a bundle proves itself with: frames, torch's answers to them, and what torch needs to answer again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import load_frame
from acl_train.reference import Reference
from acl_train.tiny.corpus import draw_frame

DRAWN = (("wood", None), ("wood", "scratch"), ("capsule", None), ("capsule", "crack"))
DRAWN_SIZE = 256


def golden_frames(paths: Sequence[Path], manifest: Manifest) -> list[np.ndarray]:
    """The given image files, or four drawn products.

    Args:
        paths: Image files.
        manifest: Says which size they must have, if one; the drawn ones get it.

    Raises:
        InputError: A file is no image, or of another size.
    """
    if paths:
        frames = [load_frame(path) for path in paths]
        for path, frame in zip(paths, frames, strict=True):
            check_frame(frame, str(path), manifest)
        return frames
    frame_size = manifest.frame_size
    frames = [draw_frame(family, defect, size=DRAWN_SIZE, seed=0)[0] for family, defect in DRAWN]
    if frame_size is None:
        return frames
    return [cv2.resize(frame, frame_size[::-1], interpolation=cv2.INTER_CUBIC) for frame in frames]


def check_frame(frame: np.ndarray, source: str, manifest: Manifest) -> None:
    """Raise InputError, which names the file, if the graph resizes and takes frames of another size than this."""
    if manifest.frame_size not in (None, frame.shape[:2]):
        wanted, got = ("×".join(map(str, size)) for size in (manifest.frame_size, frame.shape[:2]))
        raise InputError(
            f"{source}: must be {wanted} pixels (height × width), as --frame-size says, got {got}; name frames of the "
            "camera"
        )


def save_golden(path: Path, images: np.ndarray, reference: Reference) -> None:
    """Write the images with the torch model's answers, as `acl_runtime.bundle.bundle.load_golden` reads them."""
    np.savez_compressed(
        path,
        images=images,
        image_logits=reference.image_logits,
        patch_logits=reference.patch_logits,
        anomaly_maps=reference.anomaly_maps,
    )


def save_projections(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a learned projection, `weight` (L, W, D) and `bias` (L, D), for `load_clip`; the graphs hold it too."""
    arrays = {name: tensors[name].numpy() for name in ("weight", "bias")}
    np.savez(path, **arrays)  # type: ignore[arg-type]

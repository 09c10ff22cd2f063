"""What a bundle proves itself with: frames, torch's answers to them, and what torch needs to answer again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from acl_runtime.bundle.manifest import Manifest
from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import BadFrame
from acl_runtime.sources.files import iter_frames, list_sources, spread
from acl_train.reference import Reference
from acl_train.tiny.corpus import draw_frame

DRAWN = (("wood", None), ("wood", "scratch"), ("capsule", None), ("capsule", "crack"))
DRAWN_SIZE = 256
MOST_FRAMES = 32  # each lies in the bundle, and is judged by every graph


def golden_frames(paths: Sequence[Path], manifest: Manifest) -> list[np.ndarray]:
    """The given images, or four drawn products.

    Args:
        paths: Image files, and folders of them; of more than `MOST_FRAMES` images some are taken, spread evenly.
        manifest: Says which size they must have, if one; the drawn ones get it.

    Raises:
        FileNotFoundError: A path does not exist.
        InputError: One cannot be read or is of another size, or a folder holds no images.
    """
    if paths:
        return list(read_images(paths, MOST_FRAMES, manifest))
    frame_size = manifest.frame_size
    frames = [draw_frame(family, defect, size=DRAWN_SIZE, seed=0)[0] for family, defect in DRAWN]
    if frame_size is None:
        return frames
    return [cv2.resize(frame, frame_size[::-1], interpolation=cv2.INTER_CUBIC) for frame in frames]


def read_images(paths: Sequence[Path], most: int, manifest: Manifest) -> Iterator[np.ndarray]:
    """Yield at most `most` of the images of files and folders, spread evenly, as `load_frame` gives them.

    Args:
        paths: Image files, and folders of them.
        most: How many at most.
        manifest: Says which size they must have, if one.

    Raises:
        FileNotFoundError: A path does not exist.
        InputError: One cannot be read, is no image or of another size, or a folder holds no images.
    """
    chosen = spread(list_sources(paths), most)
    if moving := [source.path for source in chosen if source.is_camera or source.is_video]:
        raise InputError(f"{moving[0]}: is no image; name images, or folders of them")
    for frame in iter_frames(chosen):
        if isinstance(frame, BadFrame):
            raise InputError(frame.problem)
        if manifest.frame_size not in (None, frame.size):
            wanted, got = ("×".join(map(str, size)) for size in (manifest.frame_size, frame.size))
            raise InputError(
                f"{frame.source}: must be {wanted} pixels (height × width), as --frame-size says, got {got}; name "
                "frames of the camera"
            )
        yield frame.frame


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

"""The frozen vision tower's outputs, computed once per data set and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acl_runtime.data.datasets import Sample, load_sample
from acl_runtime.files.atomic import sha256
from acl_runtime.images.preprocess import preprocess
from acl_train.clip import CLIP, normalize_images

ENCODE_BATCH = 8
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Features:
    """What prompt learning needs of N images.

    Attributes:
        image_embeddings: (N, D) fp16 or fp32, unit norm.
        patch_embeddings: (N, L, G·G, D) fp16 or fp32, unit norm, or what `VisionTower.forward` gives instead; stays on
            disk and is read in slices.
    """

    image_embeddings: np.ndarray
    patch_embeddings: np.ndarray

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image and patch embeddings of some images, float32."""
        rows = indices.numpy()
        images = torch.from_numpy(self.image_embeddings[rows].astype(np.float32))
        return images, torch.from_numpy(self.patch_embeddings[rows].astype(np.float32))


def load_images(samples: Sequence[Sample], *, image_size: int) -> np.ndarray:
    """Pictures as the network takes them: (B, S, S, 3) uint8 RGB."""
    return preprocess([load_sample(sample) for sample in samples], image_size=image_size)


def encode_images(clip: CLIP, images: np.ndarray, *, in_full: bool = False) -> tuple[Tensor, Tensor]:
    """Run the frozen tower in float32.

    Args:
        clip: The network.
        images: (B, S, S, 3) uint8 RGB.
        in_full: See `VisionTower.forward`.

    Returns:
        `image_embeddings` (B, D) and `patch_embeddings` (B, L, G·G, D), float32, on the network's device.
    """
    pixels = torch.from_numpy(images).to(clip.text_projection.device)
    # cuDNN would run the patch embedding in TF32, which costs three digits of the parity
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        outputs: tuple[Tensor, Tensor] = clip.visual(normalize_images(pixels), in_full=in_full)
    return outputs


def cached_features(
    clip: CLIP,
    samples: Sequence[Sample],
    *,
    weights_sha256: str,
    cache: Path,
    half: bool = True,
    progress: Progress = lambda done, total: None,
) -> Features:
    """Encode images, or read what an earlier call encoded.

    The folder's name is a digest of the weights, the read-out, the precision and the pictures (their files'
    bytes, and which rows of them), so a change of any makes a new one. A call that was interrupted goes on
    where it stopped.

    Args:
        clip: The frozen network, on the device that shall compute.
        samples: N pictures; labels and masks do not matter.
        weights_sha256: Identity of the network's weights.
        cache: Folder that holds the caches.
        half: Keep fp16 (half the disk); otherwise fp32, which equals computing without a cache.
        progress: Called with images done and in all.

    Raises:
        OSError: If the disk has no room; the message says how much is needed and where.
    """
    dtype = np.dtype(np.float16 if half else np.float32)
    folder = cache / _key(clip, samples, weights_sha256, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = _record_shapes(clip)
    files = {name: folder / f"{name}.{dtype.name}" for name in shapes}
    if not all(file.exists() for file in files.values()):
        _encode_to_disk(clip, samples, files, shapes, dtype, progress)
    progress(len(samples), len(samples))
    return Features(
        **{name: np.memmap(files[name], dtype, "r", shape=(len(samples), *shapes[name])) for name in shapes}
    )


def _record_shapes(clip: CLIP) -> dict[str, tuple[int, ...]]:
    config, joint = clip.visual.config, clip.architecture.embed_dim
    width = clip.architecture.vision_width if config.learned_projection else joint
    patches: tuple[int, ...] = (len(config.layers), clip.visual.grid**2, width)
    if clip.visual.windows:
        patches = (1, sum(map(len, clip.visual.windows)), joint)
    return {"image_embeddings": (joint,), "patch_embeddings": patches}


def _key(clip: CLIP, samples: Sequence[Sample], weights_sha256: str, dtype: np.dtype) -> str:
    identity = {
        "weights": weights_sha256,
        "quick_gelu": clip.architecture.quick_gelu,
        "vision": asdict(clip.visual.config),
        "dtype": dtype.name,
        "images": [_identity(sample) for sample in samples],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _identity(sample: Sample) -> str:
    """What tells a picture from every other one: its file's bytes and, for a part of the file, its rows."""
    rows = "" if sample.rows is None else f"[{sample.rows[0]}:{sample.rows[1]}]"
    return sha256(sample.path) + rows


def _encode_to_disk(
    clip: CLIP,
    samples: Sequence[Sample],
    files: dict[str, Path],
    shapes: dict[str, tuple[int, ...]],
    dtype: np.dtype,
    progress: Progress,
) -> None:
    """Append records to `*.partial` files (plain writes: a full disk is an OSError, not a crash)."""
    sizes = {name: int(np.prod(shape)) * dtype.itemsize for name, shape in shapes.items()}
    partial = {name: file.with_suffix(file.suffix + ".partial") for name, file in files.items()}
    done = min(_records(partial[name], size) for name, size in sizes.items())
    _check_room(partial["patch_embeddings"].parent, (len(samples) - done) * sum(sizes.values()))
    for name, size in sizes.items():
        partial[name].touch()
        os.truncate(partial[name], done * size)  # a record that was cut short
    for start in range(done, len(samples), ENCODE_BATCH):
        progress(start, len(samples))
        images = load_images(samples[start : start + ENCODE_BATCH], image_size=clip.visual.config.image_size)
        for name, embeddings in zip(shapes, encode_images(clip, images), strict=True):
            with open(partial[name], "ab") as file:
                file.write(embeddings.cpu().numpy().astype(dtype).tobytes())
    for name, file_path in files.items():
        os.replace(partial[name], file_path)


def _records(path: Path, size: int) -> int:
    return path.stat().st_size // size if path.exists() else 0


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: the feature cache needs {needed / 1e6:,.1f} MB and the disk has {free / 1e6:,.1f}; "
            "pass --cache DIR on a larger disk"
        )

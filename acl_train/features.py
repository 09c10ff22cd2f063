"""The frozen vision tower's outputs, computed once per data set and kept on disk.

A cache is a folder, see `cache_files.py`. One process fills it, under a lock that goes with the process; others wait
for it. Processes that `torchrun` started fill it together: each takes shards, and the first puts them together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from acl_runtime.files.atomic import sha256
from acl_runtime.images.decode import ReadSettings
from acl_train.cache_files import ENCODE_BATCH, SHARD_IMAGES, SHARDS, CacheFiles, append, check_room
from acl_train.config import MEAN, STD
from acl_train.distributed import ALONE, Group
from acl_train.mosaics import Picture, load_picture, parts_of
from acl_train.weights import Network

LOG = logging.getLogger("acl")
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Features:
    """What prompt learning needs of N images.

    Attributes:
        image_embeddings: (N, D) fp16 or fp32, unit norm; (N, L, D) with a class token of each layer.
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


def load_images(
    samples: Sequence[Picture], *, image_size: int, reading: ReadSettings | None = None
) -> np.ndarray:
    """Pictures as the network takes them: (B, S, S, 3) uint8 RGB."""
    return np.stack([load_picture(each, image_size=image_size, reading=reading) for each in samples])


def encode_images(clip: Network, images: np.ndarray, *, in_full: bool = False) -> tuple[Tensor, Tensor]:
    """Run the frozen tower in float32.

    Args:
        clip: The network.
        images: (B, S, S, 3) uint8 RGB.
        in_full: See `VisionTower.forward`.

    Returns:
        `image_embeddings` (B, D) and `patch_embeddings` (B, L, G·G, D), float32, on the network's device.
    """
    pixels = torch.from_numpy(images).to(clip.device)
    # cuDNN would run the patch embedding in TF32, which costs three digits of the parity
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        outputs: tuple[Tensor, Tensor] = clip.visual(clip.visual.normalize(pixels), in_full=in_full)
    return outputs


def cached_features(
    clip: Network,
    samples: Sequence[Picture],
    *,
    weights_sha256: str,
    cache: Path,
    half: bool = True,
    reading: ReadSettings | None = None,
    progress: Progress = lambda done, total: None,
    group: Group = ALONE,
) -> Features:
    """Encode images, or read what an earlier call encoded.

    The folder's name is a digest of the weights, the read-out, the precision and the pictures (their files'
    bytes, which rows of them, and how they are read), so a change of any makes a new one. A call that was interrupted
    goes on where it stopped. What is not as its record says, or has none, is computed again, with a note. Several
    processes may call at once: one computes, the others wait.

    Args:
        clip: The frozen network, on the device that shall compute.
        samples: N pictures; labels and masks do not matter.
        weights_sha256: Identity of the network's weights.
        cache: Folder that holds the caches.
        half: Keep fp16 (half the disk); otherwise fp32, which equals computing without a cache.
        reading: How image files become pixels; None for the defaults.
        progress: Called with images done and in all.
        group: Processes that fill the cache together; the bytes are those that one of them alone would write.

    Raises:
        OSError: If the disk has no room; the message says how much is needed and where.
        InputError: The processes of the group were not given the same.
    """
    dtype = np.dtype(np.float16 if half else np.float32)
    reading = reading or ReadSettings()
    group.check_same(f"{len(samples)} pictures, weights {weights_sha256}")
    folder = cache / _key(clip, samples, weights_sha256, dtype, reading, group)
    group.check_same(folder.name)
    folder.mkdir(parents=True, exist_ok=True)
    group.check_shared(folder)
    files = CacheFiles(folder, _record_shapes(clip), dtype, len(samples))
    with _locked(folder) if group.is_first else nullcontext():
        if not group.said_by_first(group.is_first and files.are_complete()):
            if group.size > 1:
                _encode_shards(clip, samples, files, reading, progress, group)
            if group.is_first:
                _encode_to_disk(clip, samples, files, reading, progress)
        group.wait()
        progress(len(samples), len(samples))
        return Features(**files.open())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the cache for this process; the system lets go of it when the process ends, however it ends."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOG.info("%s: another process fills this feature cache; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _record_shapes(clip: Network) -> dict[str, tuple[int, ...]]:
    config, joint = clip.visual.config, clip.architecture.embed_dim
    images: tuple[int, ...] = (len(config.layers), joint) if config.class_layers else (joint,)
    width = clip.architecture.vision_width if config.learned_projection else joint
    patches: tuple[int, ...] = (len(config.layers), clip.visual.grid**2, width)
    if clip.visual.windows:
        patches = (1, sum(map(len, clip.visual.windows)), joint)
    return {"image_embeddings": images, "patch_embeddings": patches}


def _key(
    clip: Network,
    samples: Sequence[Picture],
    weights_sha256: str,
    dtype: np.dtype,
    reading: ReadSettings,
    group: Group,
) -> str:
    """The cache's name; each process of the group reads its part of the pictures for it."""
    identity = {
        "weights": weights_sha256,
        "quick_gelu": clip.architecture.quick_gelu,
        "vision": _facts(clip),
        "dtype": dtype.name,
        "images": group.gather([_identity(sample) for sample in samples[group.rank :: group.size]]),
    } | reading_facts(reading)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _facts(clip: Network) -> dict[str, Any]:
    """The read-out, and of what came later only what is not as it was for all."""
    facts, architecture = asdict(clip.visual.config), clip.architecture
    if not clip.visual.config.class_layers:
        del facts["class_layers"]
    if (architecture.mean, architecture.std) != (MEAN, STD):
        facts |= {"mean": architecture.mean, "std": architecture.std}
    return facts


def reading_facts(reading: ReadSettings) -> dict[str, Any]:
    """What of the reading changes pixels; nothing for the default."""
    return {name: value for name in ("bits", "exif") if (value := getattr(reading, name))}


def _identity(picture: Picture) -> str:
    """What tells a picture from every other one: its files' bytes and, for a part of a file, its rows."""
    rows = ["" if each.rows is None else f"[{each.rows[0]}:{each.rows[1]}]" for each in parts_of(picture)]
    return "+".join(sha256(each.path) + own for each, own in zip(parts_of(picture), rows, strict=True))


def _encode_shards(
    clip: Network,
    samples: Sequence[Picture],
    files: CacheFiles,
    reading: ReadSettings,
    progress: Progress,
    group: Group,
) -> None:
    """Fill this process's shards, and wait for the others; what is in the partial files already is left out."""
    done = group.said_by_first(files.done()[0] if group.is_first else 0)
    shards = range(done // SHARD_IMAGES, -(-len(samples) // SHARD_IMAGES))
    encoded = 0
    for number in shards[group.rank :: group.size]:
        shard, first = files.shard(number), number * SHARD_IMAGES
        shard.folder.mkdir(parents=True, exist_ok=True)

        def advance(images: int, total: int, before: int = done + group.size * encoded) -> None:
            progress(min(before + group.size * images, len(samples)), len(samples))

        if not shard.are_complete():
            _encode_to_disk(clip, samples[first : first + shard.images], shard, reading, advance)
        encoded += shard.images
    group.wait()


def _encode_to_disk(
    clip: Network, samples: Sequence[Picture], files: CacheFiles, reading: ReadSettings, progress: Progress
) -> None:
    """Append records to `*.partial` files (plain writes: a full disk is an OSError, not a crash)."""
    done, digests = files.done()
    check_room(files, len(samples) - done)
    for name in files.shapes:
        files.partial(name).touch()
        os.truncate(files.partial(name), done * files.size(name))  # what came after the last record of them
    shard: CacheFiles | None = None
    for start in range(done, len(samples), ENCODE_BATCH):
        progress(start, len(samples))
        batch = samples[start : start + ENCODE_BATCH]
        place = start % SHARD_IMAGES
        if place == 0 or start == done:
            shard = files.finished_shard(start // SHARD_IMAGES)
        if shard is None:
            images = load_images(batch, image_size=clip.visual.config.image_size, reading=reading)
            encoded = [each.cpu().numpy().astype(files.dtype) for each in encode_images(clip, images)]
        else:
            encoded = [array[place : place + len(batch)] for array in shard.open().values()]
        for name, array in zip(files.shapes, encoded, strict=True):
            data = array.tobytes()
            append(files.partial(name), data)
            digests[name].update(data)
        files.write_record(start + len(batch), digests)
        if shard is not None and place + len(batch) == shard.images:
            shutil.rmtree(shard.folder)
    for name in files.shapes:
        os.replace(files.partial(name), files.file(name))
    shutil.rmtree(files.folder / SHARDS, ignore_errors=True)  # those that were begun

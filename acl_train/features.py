"""The frozen vision tower's outputs, computed once per data set and kept on disk.

A cache is a folder: a file for each output, and `features.json` with how many images they hold and the digest of their
bytes, by which they are checked before they are read. While it is filled the files are called `*.partial`. One process
fills it, under a lock that goes with the process; others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_document
from acl_runtime.images.decode import ReadSettings
from acl_train.config import MEAN, STD
from acl_train.mosaics import Picture, load_picture, parts_of
from acl_train.weights import Network

ENCODE_BATCH = 8
FORMAT: Literal["anomalyclip-features"] = "anomalyclip-features"
RECORD = "features.json"
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

    Raises:
        OSError: If the disk has no room; the message says how much is needed and where.
    """
    dtype = np.dtype(np.float16 if half else np.float32)
    reading = reading or ReadSettings()
    folder = cache / _key(clip, samples, weights_sha256, dtype, reading)
    folder.mkdir(parents=True, exist_ok=True)
    files = CacheFiles(folder, _record_shapes(clip), dtype, len(samples))
    with _locked(folder):
        if not files.are_complete():
            _encode_to_disk(clip, samples, files, reading, progress)
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


@dataclass(frozen=True)
class Record:
    """The content of `features.json`: what of the files is done.

    Attributes:
        format: `anomalyclip-features`.
        format_version: 1.
        images: How many are encoded.
        sha256: Digest of the bytes of so many records, by the name of an output.
    """

    format: Literal["anomalyclip-features"]
    format_version: Literal[1]
    images: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class CacheFiles:
    """The files of one cache.

    Attributes:
        folder: Where they are.
        shapes: Of one image's record, by the name of an output.
        dtype: Of all of them.
        images: How many there are to be.
    """

    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtype: np.dtype
    images: int

    def file(self, name: str) -> Path:
        """The finished file of an output."""
        return self.folder / f"{name}.{self.dtype.name}"

    def partial(self, name: str) -> Path:
        """The same while it is filled."""
        return self.folder / f"{name}.{self.dtype.name}.partial"

    def size(self, name: str) -> int:
        """Bytes of one record."""
        return math.prod(self.shapes[name]) * self.dtype.itemsize

    def open(self) -> dict[str, np.ndarray]:
        """The finished outputs, (N, ...), left on disk."""
        return {
            name: np.memmap(self.file(name), self.dtype, "r", shape=(self.images, *shape))
            for name, shape in self.shapes.items()
        }

    def are_complete(self) -> bool:
        """Whether all outputs are there, as large as they must be and with the bytes that were written."""
        if not all(self.file(name).exists() for name in self.shapes):
            return False
        record = self.read_record()
        for name in self.shapes:
            wanted, found = self.images * self.size(name), self.file(name).stat().st_size
            if found != wanted:
                self._tell(f"{self.file(name).name} has {found:,} bytes, not {wanted:,}")
                return False
            if record is None or record.images != self.images:
                self._tell("it has no record of its bytes")
                return False
            if sha256(self.file(name)) != record.sha256.get(name):
                self._tell(f"{self.file(name).name} is not what was written")
                return False
        return True

    def done(self) -> tuple[int, dict[str, Any]]:
        """How many images of partial files can be trusted, and the digests so far, to go on with."""
        record = self.read_record()
        if record is None or not 0 <= record.images < self.images:
            return 0, {name: hashlib.sha256() for name in self.shapes}
        digests = {name: _digest(self.partial(name), record.images * self.size(name)) for name in self.shapes}
        if any(
            digest is None or digest.hexdigest() != record.sha256.get(name)
            for name, digest in digests.items()
        ):
            self._tell("what was encoded before is not as it was written")
            return 0, {name: hashlib.sha256() for name in self.shapes}
        return record.images, digests

    def read_record(self) -> Record | None:
        """None if there is none of this format."""
        path = self.folder / RECORD
        try:
            return read_document(  # type: ignore[no-any-return]
                path, Record, kind="record of features", format_name=FORMAT, newest=1, remedy="delete it"
            )
        except (FileNotFoundError, InputError):
            return None

    def write_record(self, images: int, digests: Mapping[str, Any]) -> None:
        """Say that so many images are encoded."""
        record = Record(FORMAT, 1, images, {name: digest.hexdigest() for name, digest in digests.items()})
        with atomic_file(self.folder / RECORD, durable=False) as temporary:
            temporary.write_text(json.dumps(asdict(record)))

    def _tell(self, problem: str) -> None:
        LOG.warning("%s: the feature cache is damaged (%s); it is computed again", self.folder, problem)


def _digest(path: Path, count: int) -> Any:
    """The running digest of a file's first `count` bytes; None if it has fewer."""
    digest, left = hashlib.sha256(), count
    if not path.exists():
        return digest if count == 0 else None
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return None if left else digest


def _record_shapes(clip: Network) -> dict[str, tuple[int, ...]]:
    config, joint = clip.visual.config, clip.architecture.embed_dim
    images: tuple[int, ...] = (len(config.layers), joint) if config.class_layers else (joint,)
    width = clip.architecture.vision_width if config.learned_projection else joint
    patches: tuple[int, ...] = (len(config.layers), clip.visual.grid**2, width)
    if clip.visual.windows:
        patches = (1, sum(map(len, clip.visual.windows)), joint)
    return {"image_embeddings": images, "patch_embeddings": patches}


def _key(
    clip: Network, samples: Sequence[Picture], weights_sha256: str, dtype: np.dtype, reading: ReadSettings
) -> str:
    identity = {
        "weights": weights_sha256,
        "quick_gelu": clip.architecture.quick_gelu,
        "vision": _facts(clip),
        "dtype": dtype.name,
        "images": [_identity(sample) for sample in samples],
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


def _encode_to_disk(
    clip: Network, samples: Sequence[Picture], files: CacheFiles, reading: ReadSettings, progress: Progress
) -> None:
    """Append records to `*.partial` files (plain writes: a full disk is an OSError, not a crash)."""
    done, digests = files.done()
    _check_room(files.folder, (len(samples) - done) * sum(map(files.size, files.shapes)))
    for name in files.shapes:
        files.partial(name).touch()
        os.truncate(files.partial(name), done * files.size(name))  # what came after the last record of them
    for start in range(done, len(samples), ENCODE_BATCH):
        progress(start, len(samples))
        batch = samples[start : start + ENCODE_BATCH]
        images = load_images(batch, image_size=clip.visual.config.image_size, reading=reading)
        for name, embeddings in zip(files.shapes, encode_images(clip, images), strict=True):
            data = embeddings.cpu().numpy().astype(files.dtype).tobytes()
            _append(files.partial(name), data)
            digests[name].update(data)
        files.write_record(start + len(batch), digests)
    for name in files.shapes:
        os.replace(files.partial(name), files.file(name))


def _append(path: Path, data: bytes) -> None:
    try:
        with open(path, "ab") as file:
            file.write(data)
    except OSError as error:  # a full disk does not say which file it is about
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: the feature cache needs {needed / 1e6:,.1f} MB and the disk has {free / 1e6:,.1f}; "
            "pass --cache DIR on a larger disk"
        )

"""The files of a feature cache: what lies in its folder, and how it is known to be whole.

A file for each output, and `features.json` with how many images they hold and the digest of their bytes, by which they
are checked before they are read. While it is filled the files are called `*.partial`. Several processes fill shards,
caches of their own in `shards/`, whose images are moved to the files in their order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import read_document

ENCODE_BATCH = 8
SHARD_IMAGES = 16 * ENCODE_BATCH  # that a process takes at a time; the same batches as without shards
SHARDS = "shards"
FORMAT: Literal["anomalyclip-features"] = "anomalyclip-features"
RECORD = "features.json"
LOG = logging.getLogger("acl")


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

    def shard(self, number: int) -> CacheFiles:
        """A cache of its own, of `SHARD_IMAGES` images from `number * SHARD_IMAGES` on."""
        images = min(SHARD_IMAGES, self.images - number * SHARD_IMAGES)
        return CacheFiles(self.folder / SHARDS / f"{number:06d}", self.shapes, self.dtype, images)

    def finished_shard(self, number: int) -> CacheFiles | None:
        """A shard that is complete; None if it is not there, or is not."""
        shard = self.shard(number)
        return shard if shard.folder.is_dir() and shard.are_complete() else None

    def in_shards(self) -> int:
        """How many images finished shards hold, by the names of their files."""
        shards = (self.shard(int(folder.name)) for folder in (self.folder / SHARDS).glob("[0-9]*"))
        return sum(shard.images for shard in shards if all(shard.file(name).exists() for name in self.shapes))

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


def append(path: Path, data: bytes) -> None:
    try:
        with open(path, "ab") as file:
            file.write(data)
    except OSError as error:  # a full disk does not say which file it is about
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_room(files: CacheFiles, images: int) -> None:
    """Raise OSError unless the disk has room for so many images more, of which shards hold some already."""
    held = files.in_shards()
    images = min(images, images - held + SHARD_IMAGES) if held else images
    needed, free = images * sum(map(files.size, files.shapes)), shutil.disk_usage(files.folder).free
    if needed > free:
        raise OSError(
            f"{files.folder}: the feature cache needs {needed / 1e6:,.1f} MB and the disk has {free / 1e6:,.1f}; "
            "pass --cache DIR on a larger disk"
        )

"""What an archive consists of: the list of its pictures, cut into shards whose content stays the same."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.parquet import ListReader, ListWriter
from acl_runtime.files.errors import InputError
from acl_runtime.text.names import shorten

LIST = "_pictures.pq"  # in the folder of the results: the column `path`, a row group per shard
SHARD = 500  # pictures, unless told otherwise; see docs/scale.md


@dataclass(frozen=True)
class Plan:
    """The pictures of an archive: shard k has those from k·shard_size on, in the order of the list."""

    pictures: int
    shard_size: int
    sha256: str  # of all paths, each with a zero byte after it, in order

    @property
    def shards(self) -> int:
        """How many; the last one may be shorter."""
        return -(-self.pictures // self.shard_size)

    def size(self, number: int) -> int:
        """Pictures of a shard."""
        return min(self.shard_size, self.pictures - number * self.shard_size)


@dataclass(frozen=True)
class Shard:
    """A piece of work."""

    number: int
    paths: tuple[bytes, ...]

    @property
    def sha256(self) -> str:
        """Digest of its paths, as of `Plan`."""
        return hashlib.sha256(b"".join(path + b"\0" for path in self.paths)).hexdigest()


def write_plan(folder: Folder, pictures: Iterable[str], shard_size: int) -> Plan:
    """Write the list of pictures; a shard and eight bytes a picture are in memory.

    Raises:
        InputError: There are no pictures, or one is named twice.
    """
    digest, keys = hashlib.sha256(), array("Q")
    paths = map(os.fsencode, pictures)
    with folder.new(LIST) as temporary:
        with open(temporary, "wb") as file, closing(ListWriter(file)) as writer:
            while shard := list(islice(paths, shard_size)):
                for path in shard:
                    digest.update(path + b"\0")
                    keys.append(_key(path))
                writer.add(shard)
        if not keys:
            raise InputError(
                "there are no pictures in what was named; name a folder, a list or a pattern with some"
            )
        if suspects := _repeated(keys):
            with open(temporary, "rb") as written:
                _refuse_repeated(chain.from_iterable(ListReader(written, LIST).shards()), suspects)
    return Plan(len(keys), shard_size, digest.hexdigest())


def digest_pictures(pictures: Iterable[str]) -> tuple[int, str]:
    """How many pictures, and their digest as of `Plan`; nothing is kept."""
    digest, count = hashlib.sha256(), 0
    for path in map(os.fsencode, pictures):
        digest.update(path + b"\0")
        count += 1
    return count, digest.hexdigest()


@contextmanager
def open_plan(folder: Folder, plan: Plan) -> Iterator[ListReader]:
    """Read the list of pictures, once it was found to be the plan's own: results name their pictures by it.

    Raises:
        InputError: It is another, as two runs that begin at once in object storage may leave it, or damaged.
    """
    name = f"{folder.name}/{LIST}"
    with folder.open(LIST) as file:
        reader = ListReader(file, name)
        if not _is_of(reader, plan):
            raise InputError(
                f"{name}: is not the list of pictures that was begun with; name another folder for the results"
            )
        yield reader


def _is_of(pictures: ListReader, plan: Plan) -> bool:
    digest = hashlib.sha256()
    for number, shard in enumerate(pictures.shards()):
        if len(shard) != plan.size(number):
            return False
        digest.update(b"".join(path + b"\0" for path in shard))
    return digest.hexdigest() == plan.sha256


def _key(path: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little")


def _repeated(keys: array[int]) -> set[int]:
    """Keys that are there more than once; of 10⁹ different paths one pair is alike by chance, once in 40 times."""
    ordered = np.sort(np.frombuffer(keys, np.uint64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _refuse_repeated(paths: Iterable[bytes], suspects: set[int]) -> None:
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for path in paths:
        if _key(path) in suspects:
            (twice if path in seen else seen).add(path)
    if twice:
        are = "picture is" if len(twice) == 1 else "pictures are"
        raise InputError(
            f"{len(twice)} {are} named more than once, such as {shorten(map(os.fsdecode, twice))}; name each once"
        )

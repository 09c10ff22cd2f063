"""Parquet files of an archive: the list of pictures, a row group per shard, and the results of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from acl_runtime.files.errors import InputError

COLUMNS = {  # of results; of a picture that could not be judged all but path and error are null
    "path": pa.string(),
    "score": pa.float64(),
    "peak": pa.float64(),
    "is_anomalous": pa.bool_(),
    "threshold": pa.float64(),
    "peak_threshold": pa.float64(),  # null where the peak does not decide
    "regions": pa.string(),  # JSON
    "unusual": pa.string(),  # JSON
    "error": pa.string(),
}
PATH = "path"
_AT_ONCE = 4096  # rows that are in memory when a column is read


@dataclass(frozen=True)
class Footer:
    """What a file of results says of itself."""

    rows: int
    metadata: Mapping[str, str]


def encode_rows(rows: Sequence[Mapping[str, object]], metadata: Mapping[str, str]) -> bytes:
    """A file of results, its columns as in `COLUMNS`."""
    schema = pa.schema(list(COLUMNS.items()), metadata=dict(metadata))
    table = pa.Table.from_pydict({name: [row[name] for row in rows] for name in COLUMNS}, schema=schema)
    target = BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def read_footer(file: IO[bytes]) -> Footer | None:
    """What a file of results says of itself; None if it is damaged.

    Raises:
        OSError: It cannot be read now, such as from a share that is away.
    """
    try:
        read = pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:  # of a file that ends too early, or is none
        if not _is_of_parquet(error):
            raise
        return None
    return Footer(
        read.num_rows, {key.decode(): value.decode() for key, value in (read.metadata or {}).items()}
    )


def iter_rows(file: IO[bytes], columns: Sequence[str], name: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a file of results, a few at a time in memory.

    Raises:
        InputError: It is damaged.
    """
    with _damage_told(name, "delete it, and acl archive makes it again"):
        for batch in pq.ParquetFile(file).iter_batches(_AT_ONCE, columns=list(columns), use_threads=False):
            yield from zip(*(batch.column(each).to_pylist() for each in columns), strict=True)


def iter_paths(file: IO[bytes], name: str) -> Iterator[str]:
    """The column `path` of a user's file.

    Raises:
        InputError: It is no Parquet file, has no such column of texts, or is damaged.
        OSError: It cannot be read now.
    """
    try:
        table = pq.ParquetFile(file)
        kind = table.schema_arrow.field(PATH).type
    except (pa.ArrowException, KeyError, OSError) as error:
        if not _is_of_parquet(error):
            raise
        raise InputError(f"{name}: is no Parquet file with one column {PATH!r}; write one") from error
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{name}: its column {PATH!r} must hold strings, got {kind}; write it anew")
    with _damage_told(name, "write it anew"):
        for batch in table.iter_batches(_AT_ONCE, columns=[PATH], use_threads=False):
            for path in batch.column(PATH).to_pylist():
                if path is None:
                    raise InputError(f"{name}: its column {PATH!r} has a null; leave such rows out")
                yield path


def _is_of_parquet(error: Exception) -> bool:
    """Whether an error is about what a file holds; pyarrow says OSError too, without a number, which systems give."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


@contextmanager
def _damage_told(name: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if not _is_of_parquet(error):
            raise
        raise InputError(
            f"{name}: is damaged ({' '.join(str(error).split()).rstrip('.')}); {remedy}"
        ) from error


class ListWriter:
    """Writes the list of pictures, shard by shard; nothing but the row groups' places stays in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin a file that is open; given a name, pyarrow would take "a:b" for an address."""
        self._schema = pa.schema([(PATH, pa.binary())])  # a name on a disk need not be text
        self._writer = pq.ParquetWriter(file, self._schema)

    def add(self, paths: Sequence[bytes]) -> None:
        """Write the next shard."""
        table = pa.Table.from_pydict({PATH: list(paths)}, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(paths))

    def close(self) -> None:
        """End the file, which is closed by whoever opened it."""
        self._writer.close()


class ListReader:
    """Reads the list of pictures, shard by shard, in any order."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Take an open file, which is closed by whoever opened it.

        Raises:
            InputError: It is damaged, as from every method.
        """
        self._name = name
        with self._damage_told():
            self._file = pq.ParquetFile(file)

    def shard(self, number: int) -> list[bytes]:
        """The paths of a shard, in order."""
        with self._damage_told():
            table = self._file.read_row_group(number, use_threads=False)
        paths: list[bytes] = table.column(PATH).to_pylist()
        return paths

    def shards(self) -> Iterator[list[bytes]]:
        """The paths of every shard, in order."""
        return map(self.shard, range(self._file.num_row_groups))

    def _damage_told(self) -> AbstractContextManager[None]:
        return _damage_told(self._name, "put it back from a copy, or name another folder for the results")

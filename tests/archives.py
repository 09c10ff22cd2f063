"""Archives of small pictures, and what was judged of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from watching import encoded, put

from acl_runtime.archive.begin import begin_run
from acl_runtime.archive.folder import open_folder
from acl_runtime.archive.plan import Shard, open_plan
from acl_runtime.archive.pool import Done, Event, Lost
from acl_runtime.archive.record import ArchiveRun, Judging, MapFolder
from acl_runtime.archive.run import find_done, judge_archive
from acl_runtime.archive.shard import ShardJudge

JUDGING = Judging(
    tiling=None,
    threshold=None,
    fast_resize=False,
    bits=None,
    exif=False,
    max_megapixels=1.0,
    backend="auto",
    provider="auto",
    batch=2,
)


def put_pictures(folder: Path, count: int, *, bad: Iterable[int] = ()) -> list[Path]:
    """Pictures 0.png ... of drawn frames; those in `bad` are no pictures."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        put(path, b"no picture" if number in set(bad) else encoded(seed=number))
    return paths


def begin(
    folder: Path | str,
    bundle: Path,
    *manifests: object,
    shard_size: int | None = None,
    judging: Judging = JUDGING,
    maps: MapFolder | None = None,
    again: bool = False,
) -> ArchiveRun:
    """Begin a run, or go on with it."""
    place = open_folder(str(folder))
    with place.held():
        return begin_run(
            place,
            bundle,
            tuple(map(str, manifests)),
            judging=judging,
            maps=maps,
            shard_size=shard_size,
            again=again,
        )


def judge(folder: Path | str, run: ArchiveRun, pool: HandPool, **settings: Any) -> list[int]:
    """Judge what is missing; the shards that were given up."""
    place = open_folder(str(folder))
    with place.held(), open_plan(place, run.plan) as pictures:
        done = set(find_done(place, run))
        return judge_archive(place, run, pictures, pool, done=done, **settings)


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the list."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("part-*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def left_over(folder: Path) -> list[str]:
    """Files that are neither results nor about them."""
    ours = {".lock", "_archive.json", "_pictures.pq"}
    return [
        path.name for path in folder.iterdir() if path.name not in ours and not path.match("part-*.parquet")
    ]


class HandPool:
    """One worker, in this process; it dies at the shards that it is told, as often as they are named."""

    def __init__(self, run: ArchiveRun, dies_at: Iterable[int] = ()) -> None:
        self._judge = ShardJudge(run, threads=1)
        self._dies_at = list(dies_at)
        self._given: deque[Shard] = deque()
        self.judged: list[int] = []

    def is_free(self) -> bool:
        return not self._given

    def give(self, shard: Shard) -> None:
        self._given.append(shard)

    def wait(self, seconds: float) -> list[Event]:
        shard = self._given.popleft()
        if shard.number in self._dies_at:
            self._dies_at.remove(shard.number)
            return [Lost(shard, "was killed by SIGKILL", 0)]
        self.judged.append(shard.number)
        return [Done(self._judge(shard))]

    def close(self) -> None:
        self._judge.close()


def descendants(process: int, command: bytes) -> list[int]:
    """Processes below one whose command line holds a text; Linux tells."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                if command in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
            found += descendants(child, command)
    return found


def children(process: int) -> list[int]:
    """The workers of a run."""
    return descendants(process, b"spawn_main")

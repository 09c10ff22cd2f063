"""Judge an archive: hand shards to workers, and write what comes back, each shard once and whole."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.parquet import ListReader, read_footer
from acl_runtime.archive.plan import Plan, Shard
from acl_runtime.archive.pool import Advanced, Done, Lost, Pool
from acl_runtime.archive.record import ArchiveRun, settings_text
from acl_runtime.archive.shard import ShardResult, clear_maps
from acl_runtime.files.errors import BackendError

LOG = logging.getLogger("acl")
TRIES = 3  # of a shard whose worker dies, before it is given up
MOST_DEATHS = 9  # in a row, with no shard judged between them; more is not a matter of pictures
_AT_ONCE = 16  # files whose ends are read together: object storage takes a while for each
_LOOK_S = 0.2  # between looks whether to stop


@dataclass
class Counts:
    """Of pictures that have a row."""

    pictures: int = 0
    anomalous: int = 0
    errors: int = 0

    def add(self, other: Counts) -> None:
        """Count those of another too."""
        self.pictures += other.pictures
        self.anomalous += other.anomalous
        self.errors += other.errors


@dataclass(frozen=True)
class DoneShard:
    """A shard whose results are there.

    Attributes:
        counts: Of its pictures.
        engine: What judged them, such as "onnxruntime CPUExecutionProvider fp32".
        version: Of the program that did.
    """

    counts: Counts
    engine: str
    version: str


def result_name(shard: int) -> str:
    """File with the results of a shard."""
    return f"part-{shard:07d}.parquet"


def find_done(folder: Folder, run: ArchiveRun) -> dict[int, DoneShard]:
    """The shards whose results are there, whole and of this very run."""
    names = set(folder.names())
    wanted = [number for number in range(run.plan.shards) if result_name(number) in names]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = threads.map(lambda number: _find(folder, run, number), wanted)
        return {number: done for number, done in zip(wanted, found, strict=True) if done is not None}


def judge_archive(
    folder: Folder,
    run: ArchiveRun,
    pictures: ListReader,
    pool: Pool,
    *,
    done: set[int],
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int], None] = lambda count: None,
) -> list[int]:
    """Judge the shards that are not done.

    Args:
        folder: Gets a file per shard, as soon as it is judged; it is held by the caller.
        run: What is judged, and with what.
        pictures: The run's list.
        pool: Does the work; closed at the end.
        done: Shards that are passed over.
        stopped: Asked again and again whether to end; what is under way is then dropped.
        advance: Called with a number of pictures once they are judged; a negative one if that was in vain.

    Returns:
        Shards that were given up, each after `TRIES` deaths of its worker.

    Raises:
        UserError: A worker cannot work.
        OSError: A disk is full or away; the same command goes on.
    """
    again: deque[Shard] = deque()
    fresh = _shards(run.plan, pictures, done)
    tries: Counter[int] = Counter()
    under_way: dict[int, Shard] = {}
    given_up: list[int] = []
    deaths = 0  # since a shard was judged
    try:
        while not stopped():
            # A shard again comes last, or a few pictures that kill every worker would keep all others from their turn.
            while pool.is_free() and (shard := next(fresh, None) or (again.popleft() if again else None)):
                under_way[shard.number] = shard
                pool.give(shard)
            if not under_way:
                break
            for event in pool.wait(_LOOK_S):
                if isinstance(event, Advanced):
                    advance(event.pictures)
                elif isinstance(event, Done):
                    del under_way[event.result.number]
                    _write(folder, event.result)
                    deaths = 0
                else:
                    _again(event, under_way, again, tries, given_up)
                    advance(-event.pictures)
                    deaths += 1
                    _check_lives(deaths)
    finally:
        pool.close()  # before what it was writing is removed
        for number in under_way:
            clear_maps(run.maps, number)
    return given_up


def _shards(plan: Plan, pictures: ListReader, done: set[int]) -> Iterator[Shard]:
    for number in range(plan.shards):
        if number not in done:
            yield Shard(number, tuple(pictures.shard(number)))


def _again(
    lost: Lost, under_way: dict[int, Shard], again: deque[Shard], tries: Counter[int], given_up: list[int]
) -> None:
    number = lost.shard.number
    del under_way[number]
    tries[number] += 1
    if tries[number] < TRIES:
        again.append(lost.shard)
        LOG.warning("a worker %s; shard %d is judged again", lost.how, number, extra={"again": True})
    else:
        given_up.append(number)
        LOG.warning(
            "shard %d is left out: its worker died %d times (%s); its pictures begin with %s",
            number,
            TRIES,
            lost.how,
            lost.shard.paths[0].decode("utf-8", "backslashreplace"),
            extra={"again": True},
        )


def _check_lives(deaths: int) -> None:
    if deaths == MOST_DEATHS:
        raise BackendError(
            f"workers die again and again, {MOST_DEATHS} in a row by now; give fewer --workers or a smaller --batch "
            "if the memory does not suffice, and the same command goes on"
        )


def _write(folder: Folder, result: ShardResult) -> None:
    for message in result.notes:
        LOG.info("%s", message)
    with folder.new(result_name(result.number)) as temporary:
        temporary.write_bytes(result.data)


def _find(folder: Folder, run: ArchiveRun, number: int) -> DoneShard | None:
    """What the results of a shard say, if they are whole and of this run."""
    with folder.open(result_name(number)) as file:
        footer = read_footer(file)
    if footer is None or footer.rows != run.plan.size(number):
        return None
    told = footer.metadata
    wanted = {
        "acl.plan_sha256": run.plan.sha256,
        "acl.shard": str(number),
        "acl.shard_size": str(run.plan.shard_size),  # or a shard of this number and length has other pictures
        "acl.bundle_sha256": run.bundle_sha256,
        "acl.judging": settings_text(run),
    }
    if any(told.get(key) != value for key, value in wanted.items()):
        return None
    counts = Counts(*(int(told[f"acl.{name}"]) for name in ("pictures", "anomalous", "errors")))
    engine = " ".join(
        told[f"acl.{name}"] for name in ("backend", "provider", "precision") if told[f"acl.{name}"]
    )
    return DoneShard(counts, engine, told["acl.version"])

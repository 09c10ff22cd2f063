"""What an executor of shards is, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from acl_runtime.archive.plan import Shard
from acl_runtime.archive.record import ArchiveRun
from acl_runtime.archive.shard import ShardResult


@dataclass(frozen=True)
class Advanced:
    """So many pictures more were judged, of shards that are not done yet."""

    pictures: int


@dataclass(frozen=True)
class Done:
    """A shard was judged."""

    result: ShardResult


@dataclass(frozen=True)
class Lost:
    """A shard was not judged: its worker died."""

    shard: Shard
    how: str  # such as "was killed by signal 9"
    pictures: int  # of it that were told of as judged


Event = Advanced | Done | Lost


class Pool(Protocol):
    """Workers with an engine each. That a shard is judged once is not its business: a shard may be given again."""

    def is_free(self) -> bool:
        """Whether a shard would be begun at once."""
        ...

    def give(self, shard: Shard) -> None:
        """Let a free worker judge a shard."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What happened, once something has; nothing after so many seconds.

        Raises:
            UserError, OSError: A worker cannot work, and another could not either.
        """
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a worker opens.

    Attributes:
        run: What it judges with.
        threads: CPU threads that it computes with.
        version: Of the program that gives the shards.
    """

    run: ArchiveRun
    threads: int
    version: str

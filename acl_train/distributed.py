"""Several processes that do one piece of work, as `torchrun` starts them on one machine or many.

`torchrun --nproc-per-node 8 --no-python acl train ...` is all: there is no launcher of our own. What is shared is the
feature cache, whose folder all machines must see, and the learning of VAND's projections. Prompts are one small text
tower on cached features and are learned by one process.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from acl_runtime.files.errors import InputError

Said = TypeVar("Said")
PATIENCE = timedelta(days=30)  # for one another: the features of a large data set take days


@dataclass(frozen=True)
class Group:
    """The processes that work together.

    Attributes:
        rank: Number of this one; the first is 0, and writes what there is to write once.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()

    def check_same(self, facts: str) -> None:
        """See that all processes were given the same.

        Args:
            facts: What this process was given, in any words that are equal where it is.

        Raises:
            InputError: Some process was given something else; raised in all of them.
        """
        if self.size == 1:
            return
        found: list[str | None] = [None] * self.size
        dist.all_gather_object(found, facts)
        if odd := [str(rank) for rank, other in enumerate(found) if other != found[0]]:
            raise InputError(
                f"the processes were not given the same: rank {', '.join(odd)} has other data, weights, settings or "
                "another cache folder than rank 0; start all with one command, on folders that all machines share"
            )

    def check_shared(self, folder: Path) -> None:
        """See that a folder that is there is one and the same for all processes, on whatever machines.

        Raises:
            InputError: It is not; raised in all of them.
        """
        if self.size == 1:
            return
        token = folder / f".shared-{self.said_by_first(secrets.token_hex(8))}"
        if self.is_first:
            for left in folder.glob(".shared-*"):  # by processes that were killed
                left.unlink()
            token.touch()
        self.wait()
        blind = [str(rank) for rank, is_seen in enumerate(self.gather([token.exists()])) if not is_seen]
        if self.is_first:
            token.unlink()
        if blind:
            raise InputError(
                f"{folder}: is another folder for rank {', '.join(blind)} than for rank 0; pass --cache DIR on a disk "
                "that all machines share"
            )

    def said_by_first(self, value: Said) -> Said:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, mine: Sequence[Said]) -> list[Said]:
        """The values of all: process r has those at r, r + size, and so on; all of them, in order."""
        if self.size == 1:
            return list(mine)
        parts: list[Sequence[Said]] = [()] * self.size
        dist.all_gather_object(parts, mine)
        longest = max(map(len, parts))
        return list(
            chain.from_iterable((part[turn] for part in parts if turn < len(part)) for turn in range(longest))
        )

    def share(self, indices: Tensor) -> Tensor:
        """Those of (B,) indices that this process takes; perhaps none."""
        return indices[self.rank :: self.size]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)


ALONE = Group()


@contextmanager
def join_group() -> Iterator[Group]:
    """The processes that `torchrun` started, while the block runs; this one alone where it did not.

    Blocks inside this one use the same group: PyTorch cannot be relied on to make another after one has ended.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    if dist.is_initialized():
        yield Group(dist.get_rank(), dist.get_world_size())
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def local_device(device: str) -> str:
    """The GPU of this process among those of its machine, where `torchrun` started several."""
    if device != "cuda" or not dist.is_torchelastic_launched():
        return device
    number = dist.get_node_local_rank()
    if number >= torch.cuda.device_count():
        raise InputError(
            f"there are {torch.cuda.device_count()} GPUs for more processes than that; start torchrun with "
            f"--nproc-per-node {torch.cuda.device_count()}"
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}"

"""Workers on a Ray cluster: actors that hold an engine. Of Ray it uses no more than running a task, and who died."""

from __future__ import annotations

import os
import socket
from typing import Any

import ray

from acl_runtime.archive.plan import Shard
from acl_runtime.archive.pool import Advanced, Done, Engine, Event, Lost
from acl_runtime.archive.record import program_version
from acl_runtime.archive.shard import ShardJudge, ShardResult
from acl_runtime.archive.worker import set_environment
from acl_runtime.files.errors import BackendError, UserError

LOCAL = "local"  # Ray's word for a cluster of this machine, for as long as the run lasts
MOST_THREADS = 4  # CPU threads of an actor, unless told otherwise
_DEATHS = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError)
_PATIENCE_S = 10.0
_USAGE = "RAY_USAGE_STATS_ENABLED"


class RayPool:
    """As of `Pool`; an actor that died is replaced when there is work for it."""

    def __init__(
        self, engine: Engine, address: str, *, workers: int | None, threads: int | None, on_gpu: bool
    ) -> None:
        """Connect to a cluster; its nodes have this program, the bundle and the pictures in the same places.

        Args:
            engine: What each actor opens; its `threads` are not looked at.
            address: As Ray has it, such as "10.0.0.1:6379" or "auto"; `LOCAL` for a cluster of this machine alone.
            workers: How many; None for as many as the cluster has room for, one CPU left free.
            threads: CPU threads of each; None for `MOST_THREADS`, or fewer where there are not as many.
            on_gpu: Whether each takes a GPU.

        Raises:
            BackendError: There is no cluster, or no room for a worker.
        """
        _check_answers(address)
        os.environ.setdefault(_USAGE, "0")  # a cluster of ours tells nobody that it is there
        try:
            ray.init(
                address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                configure_logging=False,
            )
        except Exception as error:  # of a node that does not start in time it says no more than this
            if type(error) not in (Exception, ConnectionError, RuntimeError, ValueError):
                raise
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise BackendError(f"{address}: no Ray cluster answers ({reason}); see ray status") from error
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        each = threads or max(1, min(MOST_THREADS, cores - 1))
        room = (cores - 1) // each if not on_gpu else min(gpus, (cores - 1) // each)
        self._count = min(room, workers or room)
        if self._count < 1:
            self.close()
            raise BackendError(
                f"{address}: the cluster has {cores} CPUs and {gpus} GPUs, too few for a worker of {each} threads "
                "beside the CPU that stays free; add a node, or give fewer --threads"
            )
        self._engine = Engine(run=engine.run, threads=each, version=engine.version)
        options: dict[str, Any] = {"num_cpus": each, "num_gpus": int(on_gpu), "max_restarts": 0}
        self._remote = ray.remote(**options)(_Worker)
        self._actors: list[Any] = []  # those that are free
        self._begun: dict[Any, tuple[Any, Shard]] = {}  # reference to a result -> actor, shard

    def is_free(self) -> bool:
        """As of `Pool`."""
        return len(self._begun) < self._count

    def give(self, shard: Shard) -> None:
        """As of `Pool`."""
        actor = self._actors.pop() if self._actors else self._remote.remote(self._engine)
        self._begun[actor.judge.remote(shard)] = (actor, shard)

    def wait(self, seconds: float) -> list[Event]:
        """As of `Pool`."""
        ready, _ = ray.wait(list(self._begun), num_returns=1, timeout=seconds)
        return [event for reference in ready for event in self._hear(reference)]

    def close(self) -> None:
        """As of `Pool`; a cluster that is not ours stays."""
        ray.shutdown()

    def _hear(self, reference: Any) -> list[Event]:
        actor, shard = self._begun.pop(reference)
        try:
            answer = ray.get(reference)
        except _DEATHS as death:
            return [Lost(shard, f"is gone ({type(death).__name__})", 0)]
        if isinstance(answer, ShardResult):
            self._actors.append(actor)
            return [Advanced(answer.pictures), Done(answer)]
        assert isinstance(answer, BaseException)
        raise answer


def _check_answers(address: str) -> None:
    """Raise BackendError where nobody listens: Ray itself would try for ever."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise BackendError(f"{address}: no Ray cluster answers ({error}); see ray status") from error


class _Worker:
    """An actor: an engine, opened with the first shard."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._judge: ShardJudge | None = None

    def judge(self, shard: Shard) -> ShardResult | BaseException:
        """The result of a shard, or an error that ends the run."""
        try:
            return self._open()(shard)
        except UserError as error:
            return UserError(str(error))
        except (OSError, MemoryError) as error:
            return error

    def _open(self) -> ShardJudge:
        if self._judge is None:
            if self._engine.version != (here := program_version()):
                raise BackendError(
                    f"a node of the cluster has version {here}, the run is of {self._engine.version}; install one "
                    "version everywhere"
                )
            set_environment(self._engine.threads, "")
            self._judge = ShardJudge(self._engine.run, threads=self._engine.threads)
        return self._judge

"""Workers on this machine, each a process with an engine of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from acl_runtime.archive.plan import Shard
from acl_runtime.archive.pool import Advanced, Done, Engine, Event, Lost
from acl_runtime.archive.shard import ShardResult
from acl_runtime.archive.worker import work

MOST_WORKERS = 4  # on CPUs, unless told otherwise: each has the weights in memory
_PATIENCE_S = 5.0  # for a process whose connection has ended to end too
_SPAWN = multiprocessing.get_context("spawn")  # threads of ONNX Runtime do not survive a fork


class LocalPool:
    """As of `Pool`; a worker that died is replaced when there is work for it."""

    def __init__(self, engine: Engine, *, workers: int, gpus: Sequence[str] = ()) -> None:
        """Begin with no process.

        Args:
            engine: What each opens.
            workers: How many.
            gpus: Each worker sees one of these, in turn; all where there are none.
        """
        self._engine, self._count = engine, workers
        self._gpus = list(gpus) or [""]
        self._workers: dict[int, _Worker] = {}

    @property
    def processes(self) -> list[int]:
        """Ids of the workers' processes."""
        return [worker.process.pid or 0 for worker in self._workers.values()]

    def is_free(self) -> bool:
        """As of `Pool`."""
        return sum(worker.shard is not None for worker in self._workers.values()) < self._count

    def give(self, shard: Shard) -> None:
        """As of `Pool`; a worker that just died is found out by `wait`."""
        slot = next(
            slot
            for slot in range(self._count)
            if slot not in self._workers or self._workers[slot].shard is None
        )
        if slot not in self._workers:
            self._workers[slot] = _Worker(self._engine, self._gpus[slot % len(self._gpus)])
        self._workers[slot].give(shard)

    def wait(self, seconds: float) -> list[Event]:
        """As of `Pool`."""
        workers = {worker.connection: slot for slot, worker in self._workers.items()}
        events: list[Event] = []
        for connection in wait(list(workers), seconds):
            assert isinstance(connection, Connection)
            slot = workers[connection]
            events += self._hear(slot, self._workers[slot])
        return events

    def close(self) -> None:
        """As of `Pool`."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def _hear(self, slot: int, worker: _Worker) -> list[Event]:
        """What a worker has to say, or that it died."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):  # Windows says that the pipe is broken
            del self._workers[slot]
            how = worker.died()
            return [] if worker.shard is None else [Lost(worker.shard, how, worker.advanced)]
        if isinstance(message, int):
            worker.advanced += message
            return [Advanced(message)]
        if isinstance(message, ShardResult):
            worker.shard = None
            return [Advanced(message.pictures - worker.advanced), Done(message)]
        assert isinstance(message, BaseException)
        raise message


class _Worker:
    """A process, and what it is at."""

    def __init__(self, engine: Engine, gpu: str) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process: SpawnProcess = _SPAWN.Process(target=work, args=(theirs, engine, gpu), daemon=True)
        with _signals_blocked():
            self.process.start()
        theirs.close()  # so that the connection ends with the process
        self.shard: Shard | None = None
        self.advanced = 0

    def give(self, shard: Shard) -> None:
        self.shard, self.advanced = shard, 0
        with suppress(OSError):  # it died, as `wait` will find
            self.connection.send(shard)

    def died(self) -> str:
        """How it ended, after its connection did.

        Raises:
            RuntimeError: By an error of the program, which stands on stderr.
        """
        self.process.join(_PATIENCE_S)
        code = self.process.exitcode
        self.end()
        if code is not None and code > 0:
            raise RuntimeError("a worker ended with an error of the program, which stands above")
        return f"was killed by {signal.Signals(-code).name}" if code else "ended"

    def end(self) -> None:
        """Kill it if it lives."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """What a process that is begun meanwhile inherits: a terminal, and systemd, send signals to all; we decide."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def visible_gpus() -> list[str]:
    """The GPUs that workers may be given, as CUDA_VISIBLE_DEVICES names them; empty where nothing tells."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def divide_cores(workers: int | None, threads: int | None, gpus: int) -> tuple[int, int]:
    """Workers and CPU threads of each: never more threads than cores together, unless both are given.

    Args:
        workers: Given by the user, or None.
        threads: Given by the user, or None.
        gpus: That the engine uses; 0 for none.
    """
    cores = usable_cores()
    count = workers or gpus or max(1, min(MOST_WORKERS, cores // (threads or 1)))
    return count, threads or max(1, cores // count)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

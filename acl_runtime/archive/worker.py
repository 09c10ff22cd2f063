"""A process that judges shards, one after the other, until its parent has no more or is gone.

Nothing heavy is imported at the top: the number of threads must stand in the environment before numpy is loaded.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acl_runtime.archive.plan import Shard
    from acl_runtime.archive.pool import Engine
    from acl_runtime.archive.shard import ShardResult

_TELL_S = 0.5
GONE = 3  # exit code where nobody is there to take the result
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def work(connection: Connection, engine: Engine, gpu: str) -> None:
    """Receive shards and send their results, an int for pictures that were judged, or an error that ends the run.

    Args:
        connection: To the parent.
        engine: What to judge with.
        gpu: The one that is to be seen, as CUDA_VISIBLE_DEVICES has it; empty for all.
    """
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a terminal, and systemd, send them to all; the parent decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_environment(engine.threads, gpu)
    from acl_runtime.archive.shard import ShardJudge
    from acl_runtime.files.errors import UserError

    try:
        with ShardJudge(engine.run, threads=engine.threads) as judge:
            serve(connection, judge)
    except UserError as error:
        connection.send(UserError(str(error)))
    except (OSError, MemoryError) as error:
        connection.send(error)


def serve(connection: Connection, judge: Callable[[Shard, Callable[[int], None]], ShardResult]) -> None:
    """Judge what is received, until the parent closes the connection."""
    while True:
        try:
            shard: Shard = connection.recv()
        except EOFError:
            return
        connection.send(judge(shard, _seldom(connection.send)))


def _seldom(tell: Callable[[int], None]) -> Callable[[int], None]:
    """Tell of pictures together, every half a second."""
    told, waiting = time.monotonic(), 0

    def advance(pictures: int) -> None:
        nonlocal told, waiting
        waiting += pictures
        if time.monotonic() - told > _TELL_S:
            tell(waiting)
            told, waiting = time.monotonic(), 0

    return advance


def set_environment(threads: int, gpu: str) -> None:
    """Let numpy and OpenCV compute with no more threads than the engine, on one GPU."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import cv2

    cv2.setNumThreads(threads)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(GONE)

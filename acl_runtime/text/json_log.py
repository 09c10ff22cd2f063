"""The log of a service: one JSON object a line on stdout, repeats counted and not repeated."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LOG = logging.getLogger("acl")
_REMEMBERED = 1000  # messages whose repeats are counted


class JsonLog(logging.Handler):
    """Writes each record as `{"level": ..., "message": ...}`; the journal adds the time.

    The same message comes once in `repeat_s` seconds; the next time it says how often it was left out, as `repeats`.
    """

    def __init__(
        self, *, repeat_s: float, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to a stream; None for stdout."""
        super().__init__()
        self.repeat_s, self._stream, self._clock = repeat_s, stream, clock
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, and how often left out since

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        message, now = record.getMessage(), self._clock()
        said_at, repeats = self._said.get(message, (-float("inf"), 0))
        if now - said_at < self.repeat_s:
            self._said[message] = (said_at, repeats + 1)
            return
        self._said[message] = (now, 0)
        self._said.move_to_end(message)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        line: dict[str, object] = {"level": record.levelname.lower(), "message": message}
        if repeats:
            line["repeats"] = repeats
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        print(json.dumps(line, ensure_ascii=False), file=self._stream or sys.stdout, flush=True)


@contextmanager
def json_log(*, level: str, repeat_s: float) -> Iterator[JsonLog]:
    """Let the notes of `acl` go to stdout as JSON, and nowhere else."""
    log, before, old_level = JsonLog(repeat_s=repeat_s), LOG.handlers[:], LOG.level
    LOG.handlers[:] = [log]
    LOG.setLevel(level.upper())
    try:
        yield log
    finally:
        LOG.handlers[:] = before
        LOG.setLevel(old_level)

"""Watched folders: files that arrive, and a watch that goes on beside the test."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from graphs import drawn_frame

from acl_runtime.detection.verdict import Result
from acl_runtime.inspection.watch import Inspect, Pace, watch
from acl_runtime.sources.journal import open_journal

PACE = Pace(poll=0.02, settle=0.1, patience=0.6)


def encoded(suffix: str = ".png", seed: int = 0) -> bytes:
    """A drawn picture."""
    return bytes(cv2.imencode(suffix, drawn_frame(seed))[1].tobytes())


def put(path: Path | str, data: bytes | None = None) -> None:
    """Let a file appear, at once and complete."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    hidden = os.path.join(os.path.dirname(path), f".{random.random()}")
    with open(hidden, "wb") as file:
        file.write(encoded() if data is None else data)
    os.replace(hidden, path)


def lines(journal: Path) -> list[dict[str, Any]]:
    """What the JSON lines say."""
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def judged(journal: Path) -> list[str]:
    """The files that the JSON lines are about, as paths below the folder."""
    return [line["path"] for line in lines(journal)]


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Watching(logging.Handler):
    """A watch that goes on beside the test until the test leaves the block."""

    def __init__(self, folder: Path, journal: Path, inspect: Inspect, **settings: Any) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.results: list[Result] = []
        self._error: BaseException | None = None
        self._stop = False
        self._settings = {"pace": PACE, **settings}
        self._thread = threading.Thread(target=self._run, args=(folder, journal, inspect))

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append(record.getMessage())

    def __enter__(self) -> Watching:
        logger = logging.getLogger("acl")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()
        logging.getLogger("acl").removeHandler(self)
        if self._error is not None:
            raise self._error

    def wait_for(self, count: int, *, seconds: float = 10) -> None:
        """Until so many are judged, and a little longer, so that one too many would be seen."""
        self.wait_until(lambda: len(self.results) >= count, seconds=seconds)
        time.sleep(3 * PACE.settle)
        assert len(self.results) == count

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 10) -> None:
        """Wait until it holds, or the watch ends."""
        end = time.monotonic() + seconds
        while not condition() and self._error is None:
            assert time.monotonic() < end, (len(self.results), self.notes)
            time.sleep(0.01)

    def _run(self, folder: Path, journal: Path, inspect: Inspect) -> None:
        rotate_bytes = self._settings.pop("rotate_bytes", None)
        try:
            with open_journal(journal, rotate_bytes=rotate_bytes) as opened:
                for result in watch(folder, opened, inspect, stopped=lambda: self._stop, **self._settings):
                    self.results.append(result)
        except BaseException as error:  # raised again in the test
            self._error = error

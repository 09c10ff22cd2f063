"""Judge every picture that arrives in a folder, once, for ever, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import FrameType

from acl_runtime.detection.verdict import Result
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import IMAGES
from acl_runtime.images.frame import BadFrame
from acl_runtime.outputs.json_lines import json_line
from acl_runtime.sources.arrivals import Arrivals, is_whole, scan, version_of
from acl_runtime.sources.files import Source
from acl_runtime.sources.journal import Journal, Version, open_journal

_REST = 4  # a pause is at least this many times as long as the look at the folder before it
_NAP = 0.2  # seconds after which a pause asks whether to end


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    poll: float = 0.5  # between two looks at the folder
    settle: float = 1.0  # a file whose size and mtime stay the same for so long is taken for complete
    patience: float = 30.0  # a file that stays the same for so long and cannot be read is reported


PACE = Pace()


def watch_folder(
    folder: Path,
    journal: Path,
    inspect: Callable[[Sequence[Source]], Iterable[Result]],
    *,
    batch: int,
    note: Callable[[str], None],
) -> Iterator[Result]:
    """Watch until Ctrl-C or SIGTERM, with a file as the journal; see `watch` and `stop_signals`."""
    check_journal(journal, folder)
    with open_journal(journal) as opened, stop_signals() as stopped:
        note(f"watching {folder} until Ctrl-C or SIGTERM; the same command goes on from {journal}")
        yield from watch(folder, opened, inspect, batch=batch, note=note, stopped=stopped)


def watch(
    folder: Path,
    journal: Journal,
    inspect: Callable[[Sequence[Source]], Iterable[Result]],
    *,
    pace: Pace = PACE,
    batch: int = 1,
    note: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Judge the images below a folder that the journal does not hold, then those that arrive.

    A file is known by its path below the folder, its size and its mtime, so a picture saved anew under an
    old name is judged too. mtime is never compared with a clock. Nothing is written to the folder, and where
    it cannot be listed for a while, as a network share, it is waited for.

    Args:
        folder: Looked at again and again, since the system reports no arrivals from other machines.
        journal: Gets a line per file: what `json_line` gives, with the path below the folder as `source`,
            `size` and `mtime_ns`.
        inspect: Gives one result per source, in order, its files saved; see `inspect`.
        pace: How often to look and how long to wait.
        batch: Files to hand to `inspect` together, at most.
        note: Called with a sentence on what a person should know.
        stopped: Asked between batches and during pauses whether to end.

    Returns:
        The results one by one, each once the disk has its line.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {problem}; name the folder to watch")
    watched = _Watched(folder, journal, pace, note)
    while not stopped():
        group = watched.due(batch)
        yield from _judge(watched, journal, inspect, group)
        if not group:
            time.sleep(min(watched.pause(), _NAP))


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or SIGTERM came; a second one ends the process at once.

    On leaving, a Ctrl-C that came becomes the KeyboardInterrupt that it else would have been.
    """
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in came:
        raise KeyboardInterrupt


def check_journal(path: Path, folder: Path) -> None:
    """Raise ValueError if the watch would take its own journal for a picture."""
    if path.suffix.lower() in IMAGES and folder.resolve() in path.resolve().parents:
        raise InputError(f"{path}: is named as a picture of the watched folder; name it .jsonl")


class _Watched:
    """The folder: looks at it when it is time, and knows what is due."""

    def __init__(self, folder: Path, journal: Journal, pace: Pace, note: Callable[[str], None]) -> None:
        self._folder, self._journal, self._pace, self._note = folder, journal, pace, note
        self.arrivals = Arrivals(settle=pace.settle, patience=pace.patience)
        self._queue: deque[str] = deque()
        self._problems: dict[str, str] = {}
        self._read_with: int | None = None  # files that were there when the journal was read
        self._next_look = time.monotonic()

    def due(self, most: int) -> list[str]:
        """The next files to judge, as paths below the folder."""
        if self.pause() == 0:
            self._look()
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next_look - time.monotonic())

    def full(self, path: str) -> str:
        """Where a file is."""
        return os.path.join(self._folder, path)

    def _look(self) -> None:
        started = time.monotonic()
        found, problems = scan(str(self._folder))
        self._tell(problems)
        if self._read_with is None or (found and self._read_with == 0):  # what of it matters is what is there
            self.arrivals.known, self._read_with = self._journal.versions(found), len(found)
        for path in self.arrivals.observe(found, tuple(problems), started):
            self._note(
                f"{self.full(path)}: was deleted before it was judged; leave files in place for longer"
            )
        self._queue = deque(path for path in self.arrivals.due(started) if path in found)
        finished = time.monotonic()
        self._next_look = finished + max(self._pace.poll, _REST * (finished - started))

    def _tell(self, problems: dict[str, str]) -> None:
        for path in sorted(problems.keys() - self._problems.keys()):
            self._note(f"{self.full(path)}: cannot be looked at ({problems[path]}); waiting for it")
        for path in sorted(self._problems.keys() - problems.keys()):
            self._note(f"{self.full(path)}: no longer a problem")
        self._problems = problems


def _judge(
    watched: _Watched,
    journal: Journal,
    inspect: Callable[[Sequence[Source]], Iterable[Result]],
    group: Sequence[str],
) -> Iterator[Result]:
    arrivals, now = watched.arrivals, time.monotonic()
    last = {path: arrivals.is_last_try(path, now) for path in group}
    ready = [path for path in group if last[path] or _can_be_tried(watched, path)]
    sources = [Source(watched.full(path), PurePath(path)) for path in ready]
    judged: dict[str, Result] = {}
    for path, result in zip(ready, inspect(sources), strict=True):
        version = version_of(watched.full(path))
        if version is None:  # the next look says what became of it
            continue
        if version != arrivals.version(path):  # what was read may be half of the new
            arrivals.restart(path, time.monotonic())
        elif isinstance(result, BadFrame) and not last[path]:
            arrivals.put_off(path)
        else:
            judged[path] = result
    if judged:
        journal.append([_record(result, path, arrivals.version(path)) for path, result in judged.items()])
    for path in judged:
        arrivals.done(path)
    yield from judged.values()


def _can_be_tried(watched: _Watched, path: str) -> bool:
    try:
        whole = is_whole(watched.full(path))
    except OSError:  # locked by its writer, or gone: if it stays so, the last try says why
        whole = False
    if not whole:
        watched.arrivals.put_off(path)
    return whole


def _record(result: Result, path: str, version: Version) -> dict[str, object]:
    size, mtime_ns = version
    return {**json.loads(json_line(result)), "source": path, "size": size, "mtime_ns": mtime_ns}

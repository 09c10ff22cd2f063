"""Judge every picture that arrives in a folder, once, for ever, whatever happens in between."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import FrameType

from acl_runtime.detection.verdict import Result
from acl_runtime.files.clutter import count_words
from acl_runtime.files.errors import BackendError, BundleError, InputError, UserError
from acl_runtime.images.decode import IMAGES
from acl_runtime.images.frame import BadFrame
from acl_runtime.outputs.json_lines import json_line
from acl_runtime.sources.arrivals import Arrivals, WatchedFolder, is_whole, version_of
from acl_runtime.sources.files import Source
from acl_runtime.sources.journal import Journal, open_journal
from acl_runtime.sources.known import Version

LOG = logging.getLogger("acl")
Inspect = Callable[[Sequence[Source]], Iterable[Result]]
_REST = 4  # a pause is at least this many times as long as the look before it
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
    lines: Path,
    inspect: Inspect,
    *,
    batch: int = 1,
    rotate_bytes: int | None = None,
) -> Iterator[Result]:
    """Watch until Ctrl-C or SIGTERM, with a file as the journal; see `watch`, `stop_signals` and `open_journal`."""
    check_places(folder, lines)
    with open_journal(lines, rotate_bytes=rotate_bytes) as journal, stop_signals() as stopped:
        _note(f"watching {folder} until Ctrl-C or SIGTERM; the same command goes on from {lines}")
        yield from watch(folder, journal, inspect, batch=batch, stopped=stopped)


def watch(
    folder: Path,
    journal: Journal,
    inspect: Inspect,
    *,
    pace: Pace = PACE,
    batch: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Judge the images below a folder that the journal does not know, then those that arrive.

    A file is known by its path below the folder, its size and its mtime, so a picture saved anew under an
    old name is judged too. mtime is never compared with a clock. Nothing is written to the folder, and where
    it cannot be listed for a while, as a network share, it is waited for.

    A file for which `inspect` fails is bad, and stops nothing; where it fails for all files, they wait. A full disk,
    a damaged bundle and a backend that is away end the watch: what came is judged after a restart.

    Args:
        folder: Looked at again and again, since the system reports no arrivals from other machines.
        journal: Gets a line per frame: what `json_line` gives, with the `path` below the folder, `size` and
            `mtime_ns` of its file.
        inspect: Gives the results of sources, by the source's path, their pictures saved; see `inspection.run.inspect`.
        pace: How often to look and how long to wait.
        batch: Files to hand to `inspect` together, at most.
        stopped: Asked between batches and during pauses whether to end.

    Returns:
        The results one by one, each once the disk has its line.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {problem}; name the folder to watch")
    waiting = _Waiting(folder, journal, pace)
    guarded = _Guarded(inspect)
    while not stopped():
        group = waiting.due(batch)
        yield from _judge(waiting, journal, guarded, group)
        if not group:
            time.sleep(min(waiting.pause(), _NAP))
    journal.keep()


@contextmanager
def stop_signals(
    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or SIGTERM came; a second one ends the process at once.

    On leaving, a Ctrl-C that came becomes the KeyboardInterrupt that it else would have been.
    """
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in numbers}
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


@contextmanager
def reload_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGHUP came since it was asked last."""
    came: list[int] = []
    number = getattr(signal, "SIGHUP", None)  # Windows has none
    before = None if number is None else signal.signal(number, lambda *_: came.append(1))

    def has_come() -> bool:
        waiting = bool(came)
        came.clear()
        return waiting

    try:
        yield has_come
    finally:
        if number is not None:
            signal.signal(number, before)


def check_places(folder: Path, lines: Path, pictures: Path | None = None) -> None:
    """Raise InputError if the watch would take for a part what it writes itself.

    Args:
        folder: That is watched.
        lines: File for the JSON lines.
        pictures: Folder for pictures that are saved, named like the parts.
    """
    watched = folder.resolve()
    if lines.suffix.lower() in IMAGES and lines.resolve().is_relative_to(watched):
        raise InputError(f"{lines}: is named as a picture of the watched folder; name it .jsonl")
    if pictures is None:
        return
    target = pictures.resolve()
    if target.is_relative_to(watched) or watched.is_relative_to(target):
        raise InputError(
            f"{pictures}: pictures saved there may come to lie in {folder}, and be judged as parts; name a folder "
            "beside it"
        )


class _Waiting:
    """What of the folder waits to be judged: looks when it is time, and knows what is due."""

    def __init__(self, folder: Path, journal: Journal, pace: Pace) -> None:
        self._folder, self._pace = folder, pace
        self._watched = WatchedFolder(str(folder), journal.known, own=journal.name)
        self.arrivals = Arrivals(journal.known, settle=pace.settle, patience=pace.patience)
        self._queue: deque[str] = deque()
        self._problems: dict[str, str] = {}
        self._passed_over: set[str] = set()  # endings that were noted
        self._seen = self._next_look = self._next_poll = time.monotonic()

    def due(self, most: int) -> list[str]:
        """The next files to judge, as paths below the folder."""
        now = time.monotonic()
        if now >= self._next_look:
            self._look()
        elif now >= self._next_poll:
            self._poll(now)
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(0.0, min(self._next_look, self._next_poll) - time.monotonic())

    def full(self, path: str) -> str:
        """Where a file is."""
        return os.path.join(self._folder, path)

    def _look(self) -> None:
        """See what is new in the folder."""
        started = time.monotonic()
        look = self._watched.look(self.arrivals)
        now = time.monotonic()  # no version is older
        self._tell(look.problems)
        self._tell_passed_over(self._watched.passed_over)
        for path in self.arrivals.observe(look.found, tuple(look.problems), now):
            _note(f"{self.full(path)}: was deleted before it was judged; leave files in place for longer")
        self._queue = deque(path for path in self.arrivals.due(now) if path in look.found)
        self._seen, self._next_look = now, self._rest(started)
        self._next_poll = now + self._pace.settle

    def _poll(self, now: float) -> None:
        """See whether the new files have settled; in a large folder a look takes long."""
        versions = {path: version_of(self.full(path)) for path in self.arrivals.settling(self._seen)}
        found = {path: version for path, version in versions.items() if version is not None}
        if found:
            self.arrivals.update(found, now)
            self._queue.extend(path for path in self.arrivals.due(now) if path in found)
        self._seen, self._next_poll = now, self._rest(now)

    def _rest(self, started: float) -> float:
        finished = time.monotonic()
        return finished + max(self._pace.poll, _REST * (finished - started))

    def _tell(self, problems: dict[str, str]) -> None:
        for path in sorted(problems.keys() - self._problems.keys()):
            _note(f"{self.full(path)}: cannot be looked at ({problems[path]}); waiting for it")
        for path in sorted(self._problems.keys() - problems.keys()):
            _note(f"{self.full(path)}: no longer a problem")
        self._problems = problems

    def _tell_passed_over(self, endings: Counter[str]) -> None:
        if endings.keys() - self._passed_over:
            _note(
                f"{self._folder}: files that are not read are passed over: {count_words(endings)}; save pictures as "
                "PNG or JPEG"
            )
            self._passed_over = set(endings)


class _Guarded:
    """Inspects; a file for which that fails becomes a bad frame."""

    def __init__(self, inspect: Inspect) -> None:
        self._inspect = inspect
        self._judged = 0  # files so far
        self._failed: dict[str, int] = {}  # files for which inspecting failed -> how many were judged before

    def __call__(self, sources: Sequence[Source]) -> dict[str, list[Result]]:
        """The results by the path of their source."""
        try:
            return self._results(sources)
        except (BackendError, BundleError, OSError):  # not a file's fault
            raise
        except Exception as error:
            if len(sources) > 1:
                return {path: results for source in sources for path, results in self([source]).items()}
            path = sources[0].path
            self._failed.setdefault(path, self._judged)
            return {path: [BadFrame(path, 0, _problem(path, error))]}

    def may_be_to_blame(self, path: str) -> bool:
        """Whether others were judged after inspecting this file had failed; otherwise it may be no file's fault."""
        return self._failed.get(path, -1) < self._judged

    def done(self, path: str) -> None:
        """It is not asked about any more."""
        self._failed.pop(path, None)

    def _results(self, sources: Sequence[Source]) -> dict[str, list[Result]]:
        results: dict[str, list[Result]] = {source.path: [] for source in sources}
        for result in self._inspect(sources):
            path = result.source if isinstance(result, BadFrame) else result.frame.source
            results[path].append(result)
        if unanswered := [path for path, made in results.items() if not made]:
            raise RuntimeError(f"{unanswered[0]}: no result came")
        self._judged += sum(not _is_bad(made) for made in results.values())
        return results


def _judge(waiting: _Waiting, journal: Journal, inspect: _Guarded, group: Sequence[str]) -> Iterator[Result]:
    arrivals, now = waiting.arrivals, time.monotonic()
    last = {path: arrivals.is_last_try(path, now) for path in group}
    ready = [path for path in group if last[path] or _can_be_tried(waiting, path)]
    results = inspect([Source(waiting.full(path), PurePath(path)) for path in ready]) if ready else {}
    judged: dict[str, list[Result]] = {}
    for path in ready:
        full = waiting.full(path)
        made, version = results[full], version_of(full)
        if version is None:  # the next look says what became of it
            continue
        if version != arrivals.version(path):  # what was read may be half of the new
            arrivals.restart(path, time.monotonic())
        elif _is_bad(made) and not last[path]:
            arrivals.put_off(path)
        elif _is_bad(made) and not inspect.may_be_to_blame(full):
            _note(f"{_first_problem(made)}; nothing else was judged since, so it is tried again")
            arrivals.restart(path, time.monotonic())
        else:
            judged[path] = made
    if judged:
        journal.append(
            [_record(each, path, arrivals.version(path)) for path, made in judged.items() for each in made]
        )
    for path, made in judged.items():
        arrivals.done(path)
        inspect.done(waiting.full(path))
        yield from made


def _is_bad(results: Sequence[Result]) -> bool:
    return any(isinstance(result, BadFrame) for result in results)


def _first_problem(results: Sequence[Result]) -> str:
    return next(result.problem for result in results if isinstance(result, BadFrame))


def _problem(path: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, UserError) and said.startswith(path):
        return said
    return f"{path}: cannot be judged ({type(error).__name__}: {said}); save the image again"


def _can_be_tried(waiting: _Waiting, path: str) -> bool:
    try:
        whole = is_whole(waiting.full(path))
    except OSError:  # locked by its writer, or gone: if it stays so, the last try says why
        whole = False
    if not whole:
        waiting.arrivals.put_off(path)
    return whole


def _record(result: Result, path: str, version: Version) -> dict[str, object]:
    size, mtime_ns = map(int, version.split())
    return {**json.loads(json_line(result)), "path": path, "size": size, "mtime_ns": mtime_ns}


def _note(message: str) -> None:
    """Say what a person should know, even if it was said before."""
    LOG.info("%s", message, extra={"again": True})

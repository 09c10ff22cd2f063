"""What remains of a station: records of all parts, pictures of those that matter, and what people said of them."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import InputError, SourceError
from acl_runtime.outputs.delivery import PAUSES_S
from acl_runtime.outputs.evidence.changes import note_change
from acl_runtime.outputs.evidence.files import Which
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.evidence.record import Mark, check_review, evidence_of, is_kept
from acl_runtime.outputs.evidence.writer import EvidenceWriter, Item, Review, Room
from acl_runtime.outputs.station import (
    PartResult,
    StationControl,
    StationEvent,
    StationStatus,
    ThresholdsChange,
    WebRecord,
)

LOG = logging.getLogger("acl")
GROUP_S = 0.1  # what comes within this time is one commit
MOST_GROUP = 500
MOST_ROWS_WAITING = 20_000
CHECK_S = 1.0  # between two looks whether the index is still there, while nothing comes
REVIEW_S = 10.0  # longest that a review waits for the disk


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "evidence"`.

    Attributes:
        folder: Of this output alone; made if absent.
        sample_every: Of every so many parts of a camera one is kept with its picture, whatever its verdict; 0 for none.
        picture: "png", or "jpg", which is smaller; thresholds should be set from "png" only.
        overlays: Whether the frame under its anomaly map is kept too, as JPEG.
        quota_gb: Size that all files may have together; beyond it the oldest good ones go, then the oldest others.
        keep_free_gb: Size that stays free on the disk.
        most_rows: Records that the index has; beyond it the oldest without pictures go, good ones first.
        most_waiting: Pictures that wait for the disk, in memory; a further part is kept without one.
    """

    folder: Path
    sample_every: int = 100
    picture: Literal["png", "jpg"] = "png"
    overlays: bool = True
    quota_gb: float = 20.0
    keep_free_gb: float = 2.0
    most_rows: int = 2_000_000
    most_waiting: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.sample_every < 0:
            raise InputError(f"sample_every must be 0 or more, got {self.sample_every}")
        if not self.quota_gb > 0:
            raise InputError(f"quota_gb must be above 0, got {self.quota_gb:g}")
        if not self.keep_free_gb >= 0:
            raise InputError(f"keep_free_gb must be 0 or more, got {self.keep_free_gb:g}")
        if not 1 <= self.most_rows <= 100_000_000:
            raise InputError(f"most_rows must be 1 to 100000000, got {self.most_rows}")
        if not 1 <= self.most_waiting <= 1000:
            raise InputError(f"most_waiting must be 1 to 1000, got {self.most_waiting}")


def open_output(options: Options, control: StationControl, name: str) -> EvidenceStore:
    """Keep evidence, once the disk takes it; see `StationOutput`."""
    return EvidenceStore(options, name)


class EvidenceStore:
    """An output with a thread that writes; see `StationOutput`. Whoever tells or asks never waits for the disk."""

    def __init__(self, options: Options, name: str = "evidence") -> None:
        """Start the thread; it opens the folder, and waits for it where it is away."""
        self.name, self.folder = name, options.folder
        self.reader = EvidenceReader(options.folder)
        self._options = options
        self._room = Room(
            quota_gb=options.quota_gb, keep_free_gb=options.keep_free_gb, most_rows=options.most_rows
        )
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._reviews: list[tuple[Review, Future[None]]] = []
        self._in_flight = self._pictures = self._dropped = 0
        self._seen = Counter[str]()  # parts by camera
        self._bundle = ""
        self._problem = "is being opened"
        self._failures, self._is_suspect = 0, False
        self._end_at: float | None = None
        self._thread = threading.Thread(target=self._guard, name=f"output {name}", daemon=True)
        self._thread.start()

    def __call__(self, event: StationEvent, /) -> None:
        """Take an event, at once."""
        if isinstance(event, StationStatus):
            self._bundle = event.bundle
        elif is_kept(event):
            item = self._make_item(event)
            with self._changed:
                self._add(item)

    def _make_item(self, event: PartResult | WebRecord) -> Item:
        if isinstance(event, WebRecord):
            return self._with_picture(Item(evidence=evidence_of(event, bundle=self._bundle)), event)
        every, seen = self._options.sample_every, self._seen[event.camera]
        self._seen[event.camera] += 1
        is_sample = every > 0 and seen % every == 0
        item = Item(evidence=evidence_of(event, bundle=self._bundle, is_sample=is_sample))
        return self._with_picture(item, event) if is_sample or event.verdict != "ok" else item

    def _with_picture(self, item: Item, event: PartResult | WebRecord) -> Item:
        """The item with its picture, if there is one."""
        result = (
            event.result if isinstance(event, PartResult) and isinstance(event.result, Inspected) else None
        )
        picture = (
            event.picture if isinstance(event, WebRecord) else None if result is None else result.frame.frame
        )
        if picture is None:
            return item
        drawn = result if self._options.overlays else None
        return Item(
            evidence=item.evidence, picture=picture, result=drawn, picture_format=self._options.picture
        )

    def _add(self, item: Item) -> None:
        if self._end_at is not None:
            self._dropped += 1
            return
        if item.picture is not None and self._pictures >= self._options.most_waiting:
            item = Item(evidence=item.evidence)
            self._dropped += 1
        self._items.append(item)
        self._pictures += item.picture is not None
        if len(self._items) > MOST_ROWS_WAITING:
            self._pictures -= self._items[self._in_flight].picture is not None
            del self._items[self._in_flight]
            self._dropped += 1
        self._changed.notify_all()

    @property
    def problem(self) -> str:
        """Why something is not kept, in a sentence; empty while all is well."""
        return self._problem

    @property
    def dropped(self) -> int:
        """Records and pictures that were given up so far."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Records that wait."""
        return len(self._items)

    def review(self, number: int, mark: Mark, by: str) -> None:
        """Write what a person says of a record; from any thread, returns once the disk has it.

        Raises:
            InputError: There is no such record or mark, or nobody's name.
            SourceError: The disk is away, full or too slow.
        """
        check_review(mark, by)
        answer: Future[None] = Future()
        with self._changed:
            if self._end_at is not None or self._problem.startswith("ended"):
                raise SourceError(f"{self.folder}: takes no reviews; the station stops")
            self._reviews.append((Review(number, mark, by), answer))
            self._changed.notify_all()
        try:
            answer.result(REVIEW_S)
        except FutureTimeoutError as error:
            answer.cancel()
            raise SourceError(f"{self.folder}: the review waits for the disk; try again later") from error

    def note_thresholds(self, change: ThresholdsChange) -> None:
        """Write down who changed thresholds, at once; where the disk refuses, the log and the bundle have it."""
        try:
            note_change(self.folder, change)
        except (OSError, InputError) as error:
            LOG.error("output %s: who changed thresholds is in the log only (%s)", self.name, error)

    def picture_path(self, number: int, which: Which = "picture") -> Path | None:
        """The file of a record's picture or overlay; None where there is none, or the index cannot be read now."""
        try:
            return self.reader.picture_path(number, which)
        except InputError:  # `problem` says why
            return None

    def close(self, within_s: float) -> None:
        """Write what waits, for so many seconds at most, and end."""
        with self._changed:
            self._end_at = time.monotonic() + within_s
            self._changed.notify_all()
        self._thread.join(within_s + 0.1)
        with self._changed:
            self._dropped += len(self._items)
            self._items.clear()

    # The thread

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:  # a bug; it must be seen, and must not stop the station
            LOG.exception("output %s: ended by an error", self.name)
            self._problem = f"ended by an error that is a bug ({error!r}); restart the station"
            self._end_at = 0.0
        finally:
            self._answer_all(f"{self.folder}: takes no reviews; the station stops")

    def _run(self) -> None:
        is_last = False
        while True:
            try:
                with closing(EvidenceWriter(self.folder, self._room, is_suspect=self._is_suspect)) as writer:
                    self._be_well()
                    self._work(writer)
                    return
            except (OSError, InputError, sqlite3.Error) as error:
                self._fail(error)
            if is_last:
                return
            with self._changed:
                pause = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
                is_last = self._changed.wait_for(lambda: self._end_at is not None, pause)

    def _work(self, writer: EvidenceWriter) -> None:
        while self._await():
            with self._changed:
                items, reviews = list(islice(self._items, MOST_GROUP)), self._reviews
                self._in_flight, self._reviews = len(items), []
            if not (items or reviews):
                writer.check()
                continue
            given_up = writer.given_up
            try:
                problems = writer.write(items, [review for review, _ in reviews])
            except BaseException as error:  # it ends this attempt, or the thread; nobody waits for an answer
                _answer(reviews, [SourceError(f"{self.folder}: {error}; try again later")] * len(reviews))
                raise
            self._problem, self._failures = writer.note, 0
            self._take_off(len(items), writer.given_up - given_up)
            _answer(reviews, [InputError(problem) if problem else None for problem in problems])

    def _await(self) -> bool:
        """Wait for something to do, then for what belongs to the same commit; false once nothing is left, ever."""
        with self._changed:
            self._changed.wait_for(self._is_due, CHECK_S)
            if self._items and self._end_at is None and not self._reviews:
                self._changed.wait_for(self._is_urgent, GROUP_S)
            if self._end_at is None:
                return True
            return bool(self._items or self._reviews) and time.monotonic() < self._end_at

    def _is_due(self) -> bool:
        return bool(self._items or self._reviews) or self._end_at is not None

    def _is_urgent(self) -> bool:
        return bool(self._reviews) or self._end_at is not None or len(self._items) >= MOST_GROUP

    def _take_off(self, count: int, given_up: int) -> None:
        with self._changed:
            for _ in range(min(count, len(self._items))):  # `close` may have given up waiting
                self._pictures -= self._items.popleft().picture is not None
            self._in_flight, self._dropped = 0, self._dropped + given_up

    def _be_well(self) -> None:
        if self._failures:
            LOG.warning("output %s: is back", self.name)
        self._problem, self._failures, self._is_suspect = "", 0, False

    def _fail(self, error: Exception) -> None:
        problem = str(error) or type(error).__name__
        if not isinstance(error, (OSError, InputError)):
            problem = f"{self.folder}: the index cannot be written ({problem})"
            self._is_suspect = not isinstance(error, sqlite3.OperationalError)
        if not self._failures:
            LOG.warning("output %s: %s; it is tried again", self.name, problem)
        self._failures += 1
        with self._changed:
            self._problem, self._in_flight = problem, 0

    def _answer_all(self, why: str) -> None:
        with self._changed:
            reviews, self._reviews = self._reviews, []
        _answer(reviews, [SourceError(why)] * len(reviews))


def _answer(
    reviews: list[tuple[Review, Future[None]]], errors: list[SourceError] | list[InputError | None]
) -> None:
    for (_, answer), error in zip(reviews, errors, strict=True):
        if not answer.set_running_or_notify_cancel():
            continue
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

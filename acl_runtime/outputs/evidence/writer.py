"""Write evidence: files first, then their rows in one commit, within a quota; the one writer of a folder."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from acl_runtime.detection.verdict import Inspected
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import locked_folder
from acl_runtime.outputs.evidence.files import (
    encode,
    file_of,
    files_of,
    remove,
    sync,
    write_file,
    write_sidecar,
)
from acl_runtime.outputs.evidence.rebuild import open_index
from acl_runtime.outputs.evidence.record import Evidence, Mark
from acl_runtime.outputs.pictures import draw_overlay

LOG = logging.getLogger("acl")
GB = 1_000_000_000
INDEX_ROOM = 8_000_000  # bytes that stay free for the index, whatever keep_free_gb says
_QUOTA = (
    "pictures are not kept: quota_gb is reached, and only reviewed ones are left, which are never deleted; raise it, "
    "or move some elsewhere and run acl evidence rebuild"
)
_FULL = "pictures are not kept: less than keep_free_gb is free on the disk, and nothing is left to delete; make room"
HELD = "review on the station's page, or stop its service first"


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much a store may take.

    Attributes:
        quota_gb: Size that all files may have together.
        keep_free_gb: Size that stays free on the disk.
        most_rows: Rows of the index.
    """

    quota_gb: float = 20.0
    keep_free_gb: float = 2.0
    most_rows: int = 2_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """What waits to be written.

    Attributes:
        evidence: The record, without files.
        picture: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16, to be kept.
        result: What is drawn under its map, to be kept too.
        picture_format: Of the picture; what JPEG cannot hold is PNG.
    """

    evidence: Evidence
    picture: np.ndarray | None = None
    result: Inspected | None = None
    picture_format: Literal["png", "jpg"] = "png"


@dataclass(frozen=True)
class Review:
    """What a person said of a record."""

    number: int
    mark: Mark
    by: str


class EvidenceWriter:
    """Holds a folder and writes it; to be used by one thread."""

    def __init__(self, folder: Path, room: Room = Room(), *, is_suspect: bool = False) -> None:
        """Open the index, and take what the files have and it has not.

        Raises:
            InputError: Another process writes the folder, or the index is of a newer version.
            OSError: The disk is full or away.
            sqlite3.Error: The same.
        """
        self._folder, self._room = folder, room
        self.note = ""  # why something was not kept, in a sentence; empty since a picture was
        self.given_up = 0  # records and pictures that were not kept
        self._closing = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._closing.enter_context(locked_folder(folder, HELD))
            self._index = open_index(folder, is_suspect=is_suspect)
            self._closing.callback(self._index.close)
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._closing.close()

    def check(self) -> None:
        """Raise OSError if the index was moved or deleted meanwhile."""
        if not self._index.is_there():
            raise OSError(
                f"{self._index.path}: was replaced while it was written; it is made again from the files"
            )

    def write(self, items: Sequence[Item], reviews: Sequence[Review] = ()) -> list[str]:
        """Write records and reviews; when this returns they last.

        Returns:
            For each review why it cannot be, empty where it was written.

        Raises:
            OSError: Nothing was written, the disk is full or away; write the same again.
            sqlite3.Error: The same, or the index is damaged.
        """
        given_up = self.given_up
        written: list[Path] = []
        self._index.begin()
        try:
            if not self._make_room(0):  # first: a disk without any room takes no row either
                self._say(self._why_no_room(0))
            for item in items:
                self._take(item, written)
            problems = [self._review(review, written) for review in reviews]
            self._index.thin_rows(self._room.most_rows)
            sync(path for path in written if path.exists())  # the quota may have taken some again
            self.check()
            self._index.commit()
        except BaseException:
            self.given_up = given_up
            self._index.roll_back()
            raise
        return problems

    def _take(self, item: Item, written: list[Path]) -> None:
        number = item.evidence.number
        before = self._index.find(number)
        if before is not None:
            self._say_if_other(before, item.evidence)
            return
        try:
            evidence = self._with_files(item, written)
            self._index.add(evidence)
        except (ValueError, TypeError) as error:  # what is no JSON
            self._give_up(f"number {number} cannot be kept ({error})")

    def _say_if_other(self, before: Evidence, now: Evidence) -> None:
        """A part may be told twice, when a service was killed; another part of that number is a mistake."""
        if before.time != now.time and now.verdict != "not judged":
            self._give_up(
                f"the station's numbers began again ({now.number} is there already); give the evidence a new folder"
            )

    def _with_files(self, item: Item, written: list[Path]) -> Evidence:
        """Write the files of a record, the sidecar last; the record with what it has now."""
        evidence, files = item.evidence, dict[Path, bytes]()
        if item.picture is not None:
            suffix = (
                "png"
                if item.picture.dtype == np.uint16 or item.picture.shape[2:] == (4,)
                else item.picture_format
            )
            try:
                evidence = replace(evidence, picture=suffix)
                files[file_of(self._folder, evidence, "picture")] = encode(item.picture, suffix)
                if item.result is not None:
                    evidence = replace(evidence, has_overlay=True)
                    drawn = draw_overlay(item.result.frame.frame, item.result.verdict)
                    files[file_of(self._folder, evidence, "overlay")] = encode(drawn, "jpg")
            except ValueError as error:
                self._give_up(f"the picture of number {evidence.number} {error}")
                evidence, files = item.evidence, {}
        size = sum(map(len, files.values()))
        if files and not self._make_room(size):
            self._give_up(self._why_no_room(size))
            evidence, files = item.evidence, {}
        for path, data in files.items():
            write_file(path, data)
            written.append(path)
            self.note = ""
        return self._with_sidecar(evidence, written) if files or evidence.verdict == "ng" else evidence

    def _with_sidecar(self, evidence: Evidence, written: list[Path]) -> Evidence:
        written.append(write_sidecar(self._folder, evidence))
        return replace(evidence, size=sum(path.stat().st_size for path in files_of(self._folder, evidence)))

    def _review(self, review: Review, written: list[Path]) -> str:
        before = self._index.find(review.number)
        if before is None:
            return f"number {review.number} is not in {self._folder}; acl evidence list shows what is"
        marked = replace(before, review=review.mark, reviewed_by=review.by, reviewed_at=time.time())
        self._index.put(self._with_sidecar(marked, written))
        return ""

    def _make_room(self, size: int) -> bool:
        """Delete what may be deleted until so many bytes fit; false if they never do."""
        while not self._fits(size):
            spare = self._index.next_spare()
            if spare is None:
                return False
            remove(self._folder, spare)
            self._index.forget_files(spare)
        return True

    def _fits(self, size: int) -> bool:
        _, used = self._index.size()
        return used + size <= self._room.quota_gb * GB and self._has_free(size)

    def _has_free(self, size: int) -> bool:
        free = shutil.disk_usage(self._folder).free - size
        return free >= max(INDEX_ROOM, self._room.keep_free_gb * GB)

    def _why_no_room(self, size: int) -> str:
        return _QUOTA if self._has_free(size) else _FULL

    def _give_up(self, note: str) -> None:
        self._say(note)
        self.given_up += 1

    def _say(self, note: str) -> None:
        if note != self.note:
            LOG.error("evidence: %s", note)
        self.note = note


def write_reviews(folder: Path, reviews: Sequence[Review]) -> None:
    """Write reviews where no service does.

    Raises:
        InputError: A number is not there, the service runs, or the disk refuses; what was there is written.
    """
    try:
        with closing(EvidenceWriter(folder, Room(most_rows=sys.maxsize))) as writer:
            problems = [problem for problem in writer.write((), reviews) if problem]
    except sqlite3.Error as error:
        raise InputError(f"{folder}: the index cannot be written ({error}); look at the disk") from error
    if problems:
        raise InputError("; ".join(problems))

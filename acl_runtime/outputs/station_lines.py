"""A station's parts, records and states as JSON lines in files, one a day, of which the oldest go."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from acl_runtime.files.errors import InputError
from acl_runtime.outputs.delivery import Delivery, Limits, PeerError
from acl_runtime.outputs.line_file import LineFile
from acl_runtime.outputs.station import StationControl
from acl_runtime.outputs.station_json import encode, event_record, utc

_OWN = "[0-9]" * 4 + "-" + "[0-9]" * 2 + "-" + "[0-9]" * 2 + ".jsonl"
_SAME = (
    "event",
    "state",
    "faults",
    "warnings",
    "cameras",
    "bundle",
)  # a status that differs in these is written


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keys of `kind = "json-lines"`.

    Attributes:
        folder: Holds a file for each day (UTC), such as 2026-11-27.jsonl; made if absent.
        keep_days: Files of the newest so many days stay.
        most_waiting: Lines that wait while the disk is full or away.
    """

    folder: Path
    keep_days: int = 90
    most_waiting: int = 10_000

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.keep_days <= 100_000:
            raise InputError(f"keep_days must be 1 to 100000, got {self.keep_days}")
        if not 1 <= self.most_waiting <= 1_000_000:
            raise InputError(f"most_waiting must be 1 to 1000000, got {self.most_waiting}")


def open_output(options: Options, control: StationControl, name: str) -> Delivery:
    """Write lines, once the disk takes them; see `StationOutput`."""
    return Delivery(name, partial(DayFiles, options), event_record, Limits(most_waiting=options.most_waiting))


class DayFiles:
    """A file a day; see `Peer`."""

    def __init__(self, options: Options) -> None:
        """Take the file of this day.

        Raises:
            PeerError: Another process writes it.
            OSError: The disk is away.
        """
        self._options, self._status = options, dict[str, Any]()
        self._day = ""
        self._file: LineFile | None = None
        self._turn_page()

    def deliver(self, item: dict[str, Any]) -> None:
        """Write a line; of states only those that say something new."""
        if item["event"] == "status":
            status = {key: item[key] for key in _SAME}
            if status == self._status:
                return
            self._status, item = status, {**item, "at": utc(time.time())}
        self._turn_page()
        assert self._file is not None
        self._file.write(encode(item).decode())

    def idle(self) -> None:
        """Do nothing: a disk that is full is known when it is written to."""

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()

    def _turn_page(self) -> None:
        day = utc(time.time())[:10]
        if day == self._day:
            return
        self.close()
        self._file = None
        try:
            self._file = LineFile(self._options.folder / f"{day}.jsonl", append=True)
        except InputError as error:
            raise PeerError(str(error)) from error
        self._day = day
        for old in sorted(self._options.folder.glob(_OWN))[: -self._options.keep_days]:
            with suppress(FileNotFoundError):
                old.unlink()

"""Everything that `acl web` writes of a roll; a disk that is full does not stop the inspection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from acl_runtime.files.errors import InputError
from acl_runtime.inspection.web_files import Roll, WebCsv, WebJsonLines, WebOutput
from acl_runtime.web.records import Event
from acl_runtime.web.rules import Alarm
from acl_runtime.web.summary import Summary


class WebOutputs:
    """The outputs of a roll, each of which may fail without the others."""

    def __init__(
        self,
        roll: Roll,
        *,
        json: Path | None = None,
        csv: Path | None = None,
        log: WebOutput | None = None,
        resume: bool = False,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Take the files; a disk that is full already is an error.

        Args:
            roll: What the records rest on.
            json: File of `WebJsonLines`; None for none.
            csv: File of `WebCsv`.
            log: A further output, such as a `RollLog`.
            resume: Whether the files hold the roll that goes on.
            say: Told when something cannot be written, and when it can again.

        Raises:
            InputError: A file is taken, see `LineFile`.
            OSError: It cannot be written.
        """
        self._lines = None if json is None else WebJsonLines(json, roll, resume=resume)
        try:
            self._table = None if csv is None else WebCsv(csv, resume=resume)
        except BaseException:
            if self._lines is not None:
                self._lines.close()
            raise
        outputs: list[WebOutput | None] = [self._lines, self._table, log]
        self._outputs = [each for each in outputs if each is not None]
        self._say, self._failing = say, set[int]()
        self.failed = 0  # records and pictures that could not be written

    def __call__(self, event: Event | Alarm) -> None:
        """Write an event; what cannot be written is counted."""
        for number, output in enumerate(self._outputs):
            try:
                output(event)
            except OSError as error:
                self.failed += 1
                if number not in self._failing:
                    self._failing.add(number)
                    self._say(
                        f"{error.filename}: {error.strerror}; the inspection goes on without its records"
                    )
            else:
                if number in self._failing:
                    self._failing.remove(number)
                    self._say("records are written again; those in between are missing")

    def end(self, summary: Summary) -> None:
        """Write what the roll adds up to, as the last of the JSON lines.

        Raises:
            OSError: Not even that.
        """
        if self._lines is not None:
            self._lines.end(summary.as_dict())

    def check(self) -> None:
        """Raise InputError where records or pictures are missing."""
        if self.failed:
            raise InputError(f"{self.failed} records or pictures could not be written; make room on the disk")

    def close(self) -> None:
        """Let the files go; what was kept is written."""
        try:
            if self._lines is not None:
                self._lines.close()
        finally:
            if self._table is not None:
                self._table.close()

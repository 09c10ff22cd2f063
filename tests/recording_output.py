"""An output for tests that writes a line of JSON for each event at once; as a module it has what a kind must have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.outputs.line_file import LineFile
from acl_runtime.outputs.station import PartResult, StationControl, StationEvent, StationStatus


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where to write."""

    path: Path


class Recording:
    """Writes lines, and keeps events where a test asks for them."""

    problem, dropped = "", 0

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name, self.events = name, list[StationEvent]()
        self._file = None if path is None else LineFile(path, append=True)

    def __call__(self, event: StationEvent) -> None:
        if self._file is None:
            self.events.append(event)
            return
        fields = {key: value for key, value in vars(event).items() if key not in ("result", "picture")}
        self._file.write(json.dumps({"kind": type(event).__name__, **fields}))

    def close(self, within_s: float) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def parts(self) -> list[PartResult]:
        return [event for event in self.events if isinstance(event, PartResult)]

    @property
    def statuses(self) -> list[StationStatus]:
        return [event for event in self.events if isinstance(event, StationStatus)]


def open_output(options: Options, control: StationControl, name: str) -> Recording:
    """As the module of a kind has it."""
    return Recording(name, options.path)

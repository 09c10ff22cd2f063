"""Stations for tests: cameras whose frames a test pushes, and what a station needs around them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from graphs import drawn_frame
from recording_output import Recording

from acl_runtime.files.errors import SourceError
from acl_runtime.inspection.station.station_file import CameraSection, StationFile, load_station
from acl_runtime.outputs.station import PartResult
from acl_runtime.sources.block import Block

GOOD_FOR_S = 30.0  # longest that anything may take on a busy machine


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds, at most `GOOD_FOR_S`."""
    until = time.monotonic() + GOOD_FOR_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.002)


@dataclass
class PushedCamera:
    """A camera that gives what it is given: blocks, and errors, which break it; see `LineSource`."""

    name: str = "pushed"
    width: int = 120
    height: int = 90
    numbers: range | None = None
    is_live: bool = True
    is_away: bool = False
    opened: int = 0
    number: int = 0
    items: queue.Queue[Block | Exception] = field(default_factory=queue.Queue)

    def open(self, section: CameraSection) -> PushedCamera:
        """What a station calls to open it."""
        if self.is_away:
            raise SourceError("pushed: is not connected; connect it")
        self.opened += 1
        return self

    def push(
        self,
        *,
        complete: bool = True,
        skip: int = 0,
        exposed_ns: int | None = None,
        encoder: int | None = None,
    ) -> None:
        """Give a frame; `skip` others never come before it."""
        self.number += 1 + skip
        self.items.put(
            Block(
                lines=drawn_frame(self.number),
                number=self.number,
                complete=complete,
                first_encoder=encoder,
                exposed_ns=exposed_ns,
                received_ns=time.monotonic_ns(),
            )
        )

    def break_down(self) -> None:
        """Break, and be away until `is_away` is False."""
        self.is_away = True
        self.items.put(SourceError("pushed: the cable is out; plug it in"))

    def read(self, timeout_s: float) -> Block | None:
        try:
            item = self.items.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class TakenParts:
    """A line that keeps what a camera tells."""

    exposures: list[object] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    lost_places: int = 0
    has_room: bool = True

    def expose(self, exposure: object) -> None:
        self.exposures.append(exposure)

    def move(self, camera: str, counts: int) -> None:
        self.counts.append(counts)

    def lose_place(self, camera: str) -> None:
        self.lost_places += 1


def write_station(folder: Path, bundle: Path, text: str, *, station: str = "", mode: str = "part") -> Path:
    """A station's file beside its data, with further keys of `[station]` and further sections."""
    path = folder / "station.toml"
    path.write_text(f'[station]\nbundle = "{bundle}"\nmode = "{mode}"\ndata = "data"\n{station}\n{text}\n')
    return path


def load(folder: Path, bundle: Path, text: str, *, station: str = "") -> StationFile:
    """The same, read."""
    return load_station(write_station(folder, bundle, text, station=station))


def numbers_of(parts: list[PartResult]) -> list[int]:
    return [part.number for part in parts]


def verdicts_of(output: Recording) -> list[tuple[int, str, str]]:
    return [(part.number, part.verdict, part.reason) for part in output.parts]

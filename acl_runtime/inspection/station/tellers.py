"""The outputs of a station that are open: who is told of what, and how they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence

from acl_runtime.inspection.station.outputs import OutputEntry, open_output
from acl_runtime.outputs.station import (
    MeetsOutputs,
    NotesThresholds,
    PartResult,
    StationControl,
    StationEvent,
    StationOutput,
    ThresholdsChange,
)


class Tellers:
    """Hands events to outputs; those at the gate are told of a part when it is there."""

    def __init__(self, at_gate: Collection[str] = ()) -> None:
        """Begin without outputs; `at_gate` has the names of those at the gate."""
        self._at_gate = frozenset(at_gate)
        self._outputs: list[StationOutput] = []

    def open(self, entries: Sequence[OutputEntry], control: StationControl) -> None:
        """Open the outputs of a file; `close` closes those that were opened, whatever this raises."""
        for entry in entries:
            self._outputs.append(open_output(entry, control))
        for output in self._outputs:
            if isinstance(output, MeetsOutputs):
                output.meet(self._outputs)

    def add(self, output: StationOutput) -> None:
        """Add one that is open, such as that of a program."""
        self._outputs.append(output)

    def tell(self, event: StationEvent) -> None:
        """Tell everybody; of a part not those at the gate."""
        for output in self._outputs:
            if not (isinstance(event, PartResult) and output.name in self._at_gate):
                output(event)

    def tell_gate(self, part: PartResult) -> None:
        """Tell those at the gate of a part that is there."""
        for output in self._outputs:
            if output.name in self._at_gate:
                output(part)

    def note_thresholds(self, change: ThresholdsChange) -> None:
        """Tell those that keep who changed thresholds; may wait for the disk."""
        for output in self._outputs:
            if isinstance(output, NotesThresholds):
                output.note_thresholds(change)

    @property
    def problems(self) -> tuple[str, ...]:
        """Outputs whose other side is away, a sentence each."""
        return tuple(f"{output.name}: {output.problem}" for output in self._outputs if output.problem)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Events that each gave up, by its name."""
        return {output.name: output.dropped for output in self._outputs}

    def close(self, within_s: float) -> None:
        """Deliver what waits, all at the same time, and end."""
        threads = [
            threading.Thread(target=output.close, args=(within_s,), daemon=True) for output in self._outputs
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + within_s + 1
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._outputs = []

"""Inspect an endless web: lines go in, what is known of them comes out, and nothing depends on how they came.

Tiles, the calls of the network and the stretches in which regions are looked for follow from line numbers and gaps
alone, so that blocks of any height give the same result, bit for bit. There is no clock in here: time comes with the
lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from acl_runtime.files.errors import FrameError
from acl_runtime.images.preprocess import to_uint8
from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.light import STATES, line_states
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Defect, Event, Judged, RollState, State, StateChange
from acl_runtime.web.settings import WebSettings
from acl_runtime.web.strip import Judge, SeeLines, SeeMap, Strips


class WebEngine:
    """The inspection of one roll.

    Memory: of T lines of a tile, steps of D lines, R rows that share calls and a run of r lines, it holds
    2 · (2 T + R D + MARGIN) lines of the camera's, for pictures of what just ended too, and r more that may turn out to
    be dark; and six tiles' heights of map lines, four bytes a map pixel. Regions that are open are
    `most` at most, and one row of labels. Nothing grows with the roll.
    """

    def __init__(
        self,
        plan: WebPlan,
        judge: Judge,
        settings: WebSettings,
        *,
        see_map: SeeMap | None = None,
        see_lines: SeeLines | None = None,
        begin: RollState | None = None,
    ) -> None:
        """Begin a roll at line 0, or go on with one.

        Args:
            plan: Where the tiles lie.
            judge: Judges tiles.
            settings: All else.
            see_map: Shown the map, see `SeeMap`.
            see_lines: Shown the lines that are judged, see `SeeLines`.
            begin: Where a roll stood that goes on; its account and its defects' numbers go on too.
        """
        begin = begin or RollState()
        self.plan, self.settings, self.tally = plan, settings, begin.tally
        self._strip = Strips(
            plan, judge, settings, see_map=see_map, see_lines=see_lines, line=begin.line, number=begin.number
        )
        self._shape: tuple[int, ...] | None = None  # of a line, until the first says whether it is grey
        self._run: list[npt.NDArray[np.uint8]] = []  # lines of one state, too few yet to count
        self._run_state = 0
        self._lost: Lost | None = None  # that may go on
        self._skips = 0  # lines to come that are not judged, after a standstill
        self._received_ns: int | None = None
        self.state: StateChange = StateChange(line=begin.line, state="running")

    @property
    def exposed(self) -> int:
        """Lines that passed the camera so far."""
        return self._strip.stop + sum(map(len, self._run))

    @property
    def pending(self) -> int:
        """Lines that wait: `exposed` is `tally.accounted` and these."""
        return self.exposed - self._strip.final

    @property
    def nbytes(self) -> int:
        """Memory for lines and maps."""
        return self._strip.nbytes

    def add(self, item: Lines | Lost) -> Iterator[Event]:
        """Take what comes next, and tell what is known by then.

        Raises:
            FrameError: The lines do not follow those before, or are of another width or colour.
        """
        if item.first != self.exposed:
            raise FrameError(f"lines must go on at {self.exposed}, got {item.first}")
        if isinstance(item, Lost):
            yield from self._end_run()
            yield from self._end_strip()
            yield from self._lose(item)
        else:
            yield from self.wait(item.received_ns)  # nobody was there to wait while lines before were judged
            self._received_ns = item.received_ns
            pixels = self._checked(item.pixels)
            for start in range(0, len(pixels), self.plan.step):
                yield from self._add(pixels[start : start + self.plan.step])

    def wait(self, now_ns: int) -> Iterator[Event]:
        """Say that nothing came up to a time of the clock that lines are received by: the web may stand still."""
        received = self._received_ns
        if received is None or now_ns - received < self.settings.flush_after_s * 1e9:
            return
        self._received_ns = None
        yield from self._end_run()
        yield from self._end_strip()
        yield from self._change("standstill")
        self._skips = self.settings.after_standstill

    def finish(self) -> Iterator[Event]:
        """End the roll: judge what waits, and tell all that is open."""
        yield from self._end_run()
        yield from self._end_strip()
        yield from self._tell_lost()

    def abandon(self) -> Iterator[Event]:
        """End the roll without judging what waits: it is lost as too slow."""
        stop = self.exposed
        self._run, self._run_state = [], 0
        yield from self._pass_on(self._strip.abandon())
        if self._strip.final < stop:
            yield from self._lose(Lost(first=self._strip.final, stop=stop, reason="too slow"))
        yield from self._tell_lost()

    # Lines and their states

    def _checked(self, pixels: np.ndarray) -> npt.NDArray[np.uint8]:
        lines = to_uint8(pixels)
        self._shape = self._shape or lines.shape[1:]
        if lines.shape[1:] != self._shape or lines.shape[1] != self.plan.width:
            wanted = (self.plan.width, *self._shape[1:])
            raise FrameError(
                f"lines must be {wanted} as planned, got {lines.shape[1:]}; begin a new roll with these settings"
            )
        return lines

    def _add(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Event]:
        if self._skips:
            count = min(self._skips, len(pixels))
            self._skips -= count
            first = self._strip.stop
            yield from self._lose(Lost(first=first, stop=first + count, reason="standstill"))
            pixels = pixels[count:]
            if not len(pixels):
                return
        states = line_states(pixels, self.settings.light)
        if not self._run_state and not states.any():
            yield from self._extend(pixels)
            return
        edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
        for start, stop in itertools.pairwise(edges):
            yield from self._add_alike(pixels[start:stop], int(states[start]))

    def _add_alike(self, pixels: npt.NDArray[np.uint8], state: int) -> Iterator[Event]:
        """Lines of one state: a short run of another state than "running" is judged, a long one is not."""
        if state != self._run_state:
            yield from self._end_run()
            self._run_state = state
        if state == 0:
            yield from self._extend(pixels)
            return
        reason = STATES[state]
        assert reason is not None
        waiting = sum(map(len, self._run))
        if self.state.state != reason and waiting + len(pixels) < self.settings.light.run:
            self._run.append(np.array(pixels))
            return
        self._run = []
        if self.state.state != reason:
            yield from self._end_strip()
            yield from self._change(reason)
        first = self._strip.stop
        yield from self._lose(Lost(first=first, stop=first + waiting + len(pixels), reason=reason))

    def _end_run(self) -> Iterator[Event]:
        """Judge lines that were too few to be a state."""
        run, self._run, self._run_state = self._run, [], 0
        for pixels in run:
            yield from self._extend(pixels)

    def _extend(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Event]:
        """Judge lines, at most a step of them."""
        if self._strip.first == self._strip.stop:
            yield from self._tell_lost()
            yield from self._change("running")
        yield from self._pass_on(self._strip.extend(pixels))

    def _change(self, state: State) -> Iterator[Event]:
        if self.state.state != state:
            self.state = StateChange(line=self._strip.stop, state=state)
            yield self.state

    def _pass_on(self, events: Iterable[Event]) -> Iterator[Event]:
        """Count what a strip tells."""
        for event in events:
            if isinstance(event, Lost):
                yield from self._count_lost(event)
                continue
            if isinstance(event, Judged):
                yield from self._tell_lost()
                self.tally.judged += event.stop - event.first
            elif isinstance(event, Defect) and event.part == 1:
                self.tally.defects += 1
            yield event

    # Gaps

    def _lose(self, lost: Lost) -> Iterator[Event]:
        """Count lines behind a strip that are not judged."""
        yield from self._count_lost(lost)
        self._strip.begin(lost.stop)

    def _count_lost(self, lost: Lost) -> Iterator[Event]:
        """Count lines; intervals of one reason that meet are told as one, once something else follows."""
        before = self._lost
        if before is not None and (before.stop, before.reason) == (lost.first, lost.reason):
            lost = Lost(first=before.first, stop=lost.stop, reason=lost.reason, estimated=lost.estimated)
            self.tally.lose(lost.reason, lost.stop - before.stop)
        else:
            yield from self._tell_lost()
            self.tally.lose(lost.reason, lost.stop - lost.first)
        self._lost = lost

    def _tell_lost(self) -> Iterator[Event]:
        lost, self._lost = self._lost, None
        if lost is not None:
            yield lost

    def _end_strip(self) -> Iterator[Event]:
        yield from self._pass_on(self._strip.end())
        self._strip.begin(self._strip.stop)

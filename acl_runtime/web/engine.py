"""Inspect an endless web: lines go in, what is known of them comes out, and nothing depends on how they came.

Tiles, the calls of the network and the stretches in which regions are looked for follow from line numbers and gaps
alone, so that blocks of any height give the same result, bit for bit. There is no clock in here: time comes with the
lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acl_runtime.detection.stages import Answer
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.preprocess import to_uint8
from acl_runtime.images.tiles import Span
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.regions import HOTTEST
from acl_runtime.scoring.rule import Rule
from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.blend import Floats, WebBlend
from acl_runtime.web.buffer import LineBuffer
from acl_runtime.web.light import STATES, Light, find_edges, line_states
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import (
    DecidedBy,
    Defect,
    DefectBegun,
    Event,
    Judged,
    Lane,
    Pictures,
    Scale,
    StateChange,
    Tally,
    lanes_of,
)
from acl_runtime.web.regions import Levels, Region, WebRegions

MARGIN = 32  # pixels and lines around a defect in its picture, where there are such
WIDEST = 2048  # pixels of a picture

Judge = Callable[[Sequence[np.ndarray]], list[Answer]]
"""From pictures, (h, w) or (h, w, 3) uint8, to the log-odds and the map of each, or why there are none; see
`TileJudge`."""


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """How a web is inspected.

    Attributes:
        rule: From which score and which peak on there is a defect.
        region_threshold: Smallest map value that belongs to a defect, in [0, 1].
        scale: How large lines and pixels are.
        light: What lines must look like to be judged.
        lanes: Parts of the width that defects are told for.
        edge_margin: Pixels beside the web's edges, inside, on which nothing is told; for a background that is known.
        max_batch: Most tiles of a call of the network.
        rows: Rows of tiles that share calls: more fill batches of a narrow web, and each costs a step of latency.
        longest: Lines after which a defect is told in part.
        most: Defects of a row beyond which they are told as one, a flood.
        flush_after_s: Time without lines after which the web is said to stand, and what waits is judged.
        after_standstill: Lines that are not judged when it moves again, because the exposure was another.
        keeps_pictures: Whether defects come with pictures.
    """

    rule: Rule
    region_threshold: float
    scale: Scale
    light: Light = field(default_factory=Light)
    lanes: tuple[Lane, ...] = ()
    edge_margin: int = 0
    max_batch: int = 1
    rows: int = 1
    longest: int = 20_000
    most: int = 500
    flush_after_s: float = 2.0
    after_standstill: int = 16
    keeps_pictures: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in ("max_batch", "rows", "longest", "most"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        for name in ("edge_margin", "after_standstill"):
            if (value := getattr(self, name)) < 0:
                raise InputError(f"{name} must not be negative, got {value}")
        if not self.flush_after_s > 0:
            raise InputError(f"flush_after_s must be above 0, got {self.flush_after_s}")


@dataclass(frozen=True)
class _Mark:
    """Where a tile that is anomalous by its score is hottest, of the lines that are not final yet."""

    first: int  # map line
    left: int  # map pixel
    pixels: npt.NDArray[np.bool_]


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
        see_map: Callable[[int, Floats], None] | None = None,
        see_lines: Callable[[int, npt.NDArray[np.uint8]], None] | None = None,
    ) -> None:
        """Begin a roll at line 0.

        Args:
            plan: Where the tiles lie.
            judge: Judges tiles.
            settings: All else.
            see_map: Called with the number of a map line and the map lines from there on, (n, map width) float32, once
                they are final; it must not keep them.
            see_lines: Called with the number of a line and the lines from there on, (n, W) or (n, W, 3) uint8, before
                they are told as judged; it must not keep them either.
        """
        self._see_map, self._see_lines = see_map, see_lines
        self.plan, self.settings, self.tally = plan, settings, Tally()
        self._judge = judge
        self._lines: LineBuffer | None = None  # until the first line says whether it is grey
        self._blend = WebBlend(plan, keep=plan.map_tile)
        rule = settings.rule
        self._regions = WebRegions(
            plan.map_width,
            Levels(region=settings.region_threshold, peak=rule.peak_threshold),
            longest=max(1, plan.map_line(settings.longest)),
            most=settings.most,
        )
        self._begin(0)
        self._run: list[np.ndarray] = []  # lines of one state, too few yet to count
        self._run_state = 0
        self._lost: Lost | None = None  # that may go on
        self._skips = 0  # lines to come that are not judged, after a standstill
        self._received_ns: int | None = None
        self._edges = (0, plan.width)
        self.state: StateChange = StateChange(line=0, state="running")

    @property
    def exposed(self) -> int:
        """Lines that passed the camera so far."""
        return self._line + sum(map(len, self._run))

    @property
    def pending(self) -> int:
        """Lines that wait: `exposed` is `tally.judged`, `tally.all_lost` and these."""
        return self.exposed - self._final

    @property
    def nbytes(self) -> int:
        """Memory for lines and maps."""
        return self._blend.nbytes + (0 if self._lines is None else self._lines.nbytes)

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
        for region in self._regions.begin(self.plan.map_line(stop)):
            yield self._defect(region)
        if self._final < stop:
            yield from self._lose(Lost(first=self._final, stop=stop, reason="too slow"))
        yield from self._tell_lost()

    # Lines and their states

    def _checked(self, pixels: np.ndarray) -> npt.NDArray[np.uint8]:
        lines = to_uint8(pixels)
        if self._lines is None:
            hold = 2 * self.plan.tile + self.settings.rows * self.plan.step + MARGIN
            self._lines = LineBuffer(hold, lines.shape[1:], np.uint8)
            self._lines.begin(self._line)
            self._line_shape = lines.shape[1:]
        if lines.shape[1:] != self._line_shape or lines.shape[1] != self.plan.width:
            wanted = (self.plan.width, *self._line_shape[1:])
            raise FrameError(
                f"lines must be {wanted} as planned, got {lines.shape[1:]}; begin a new roll with these settings"
            )
        return lines

    def _add(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Event]:
        if self._skips:
            count = min(self._skips, len(pixels))
            self._skips -= count
            yield from self._lose(Lost(first=self._line, stop=self._line + count, reason="standstill"))
            pixels = pixels[count:]
        states = line_states(pixels, self.settings.light)
        if not self._run_state and not states.any():
            yield from self._extend(pixels)
            return
        edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
        for start, stop in itertools.pairwise(edges):
            if start < stop:
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
        yield from self._lose(Lost(first=self._line, stop=self._line + waiting + len(pixels), reason=reason))

    def _end_run(self) -> Iterator[Event]:
        """Judge lines that were too few to be a state."""
        run, self._run, self._run_state = self._run, [], 0
        for pixels in run:
            yield from self._extend(pixels)

    def _change(self, state: str) -> Iterator[Event]:
        if self.state.state != state:
            self.state = StateChange(line=self._line, state=state)  # type: ignore[arg-type]
            yield self.state

    # Gaps

    def _lose(self, lost: Lost) -> Iterator[Event]:
        """Count lines behind a strip that are not judged."""
        yield from self._count_lost(lost)
        self._begin(lost.stop)

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

    def _begin(self, line: int) -> None:
        """Begin a strip."""
        self._strip = self._row = self._line = self._final = line
        self._waiting: list[int] = []  # rows that share calls and are not judged yet
        self._marks: list[_Mark] = []
        self._scores: list[
            tuple[int, int, int, float]
        ] = []  # of tiles that show lines to come: their stop, edges, score
        self._bad_until = line  # lines before it were seen by a tile without an answer
        self._blend.begin(line)
        if self._lines is not None:
            self._lines.begin(line)

    def _end_strip(self) -> Iterator[Event]:
        """Judge what waits: the last row is moved back, so that it ends with the strip."""
        strip, stop = self._strip, self._line
        if strip == stop:
            return
        yield from self._judge_waiting()
        if stop - strip < self.plan.tile:
            yield from self._lose(Lost(first=strip, stop=stop, reason="short strip"))
            return
        if self._blend_stop < stop:
            yield from self._judge_rows([stop - self.plan.tile], is_moved=True)
        else:
            yield from self._finalise(stop)
        for region in self._regions.begin(self.plan.map_line(stop)):
            yield self._defect(region)
        self._begin(stop)

    # Rows of tiles

    def _extend(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Event]:
        """Take lines that are to be judged, at most a step of them."""
        if not len(pixels):
            return
        assert self._lines is not None
        if self._line == self._strip:
            yield from self._tell_lost()
            yield from self._change("running")
            self._regions.begin(self.plan.map_line(self._strip))  # nothing is open behind a gap
            self._blend_stop = self._strip
        self._lines.append(pixels)
        self._line += len(pixels)
        while self._line >= self._row + self.plan.tile:
            self._waiting.append(self._row)
            group, self._row = self._group(self._row), self.plan.next_row(self._row)
            if self._group(self._row) != group:
                yield from self._judge_waiting()

    def _group(self, row: int) -> int:
        """Which rows share calls of the network: always the same ones, wherever the strip began."""
        return row // self.plan.step // self.settings.rows

    def _judge_waiting(self) -> Iterator[Event]:
        rows, self._waiting = self._waiting, []
        if rows:
            yield from self._judge_rows(rows)

    def _judge_rows(self, rows: Sequence[int], *, is_moved: bool = False) -> Iterator[Event]:
        """Judge rows, by their first lines, and tell what is final with each."""
        columns, answers = len(self.plan.columns.spans), self._answer(rows)
        for index, row in enumerate(rows):
            own = answers[index * columns : (index + 1) * columns]
            self._take(row, own, is_moved=is_moved)
            yield from self._finalise(row + self.plan.tile if is_moved else self.plan.next_row(row))

    def _answer(self, rows: Sequence[int]) -> list[Answer]:
        """What the network says to the tiles of rows, in calls whose make-up follows from the rows alone."""
        assert self._lines is not None
        tiles = [
            self._lines.view(row, row + self.plan.tile)[:, span.pixels]
            for row in rows
            for span in self.plan.columns.spans
        ]
        most = self.settings.max_batch
        answers: list[Answer] = []
        for start in range(0, len(tiles), most):
            answers += self._judge(tiles[start : start + most])
        return answers

    def _take(self, row: int, answers: Sequence[Answer], *, is_moved: bool) -> None:
        """Add a row's answers to the map, and remember what its scores say until that is final."""
        plan = self.plan
        size = plan.map_tile
        maps = []
        self._score, self._row_stop = 0.0, row + plan.tile
        self._scores = [each for each in self._scores if each[0] > self._final]
        for span, answer in zip(plan.columns.spans, answers, strict=True):
            if isinstance(answer, FrameError):
                self._bad_until = self._row_stop
                maps.append(np.zeros((size, span.map_stop - span.map_start), np.float32))
                continue
            logit, tile_map = answer
            maps.append(tile_map)
            score = float(sigmoid(np.float64(logit)))
            self._score = max(self._score, score)
            self._scores.append((self._row_stop, span.map_start, span.map_stop, score))
            if score >= self.settings.rule.score_threshold:
                self._mark(row, self._blend.fit(tile_map, span), span)
        self._blend.add(row, maps, is_moved=is_moved)
        self._blend_stop = self._row_stop

    def _mark(self, row: int, fitted: np.ndarray, span: Span) -> None:
        """Mark where a tile that is anomalous by its score is hottest, on the web and not final yet."""
        assert self._lines is not None
        fresh = max(0, self._blend.final - self.plan.map_line(row))
        seen = np.asarray(self._lines.view(row, row + self.plan.tile), np.uint8)
        left, right = self._inside(find_edges(seen, self.settings.light))
        left, right = max(left, span.map_start), min(right, span.map_stop)
        if left < right:
            hot = fitted[fresh:, left - span.map_start : right - span.map_start]
            level = np.float32(min(self.settings.region_threshold, HOTTEST * float(hot.max())))
            self._marks.append(_Mark(self._blend.final, left, hot >= level))

    # Lines that are final

    def _finalise(self, stop: int) -> Iterator[Event]:
        """Tell what is known of the lines up to one: no tile that is still to come shows them."""
        if self._final < (bad := min(stop, self._bad_until)):
            self._blend.take(bad)
            for region in self._regions.begin(self.plan.map_line(bad)):
                yield self._defect(region)
            yield from self._count_lost(Lost(first=self._final, stop=bad, reason="not finite"))
            self._final = bad
        if self._final >= stop:
            return
        first, map_first = self._final, self._blend.final
        assert self._lines is not None
        lines = self._blend.take(stop)
        seen = np.asarray(self._lines.view(first, stop), np.uint8)
        self._edges = find_edges(seen, self.settings.light)
        if self._see_lines is not None:
            self._see_lines(first, seen)
        self._hide_outside(lines)
        self._final = stop
        self.tally.judged += stop - first
        peak = float(lines.max()) if lines.size else 0.0
        if peak > 1:  # rounding only, as in `Blend.finish`
            np.minimum(lines, 1, out=lines)
            peak = 1.0
        if self._see_map is not None:
            self._see_map(map_first, lines)
        left, right = self._edges
        yield from self._tell_lost()
        yield Judged(
            first=first,
            stop=stop,
            row_stop=self._row_stop,
            score=self._score,
            peak=peak,
            left=left,
            right=right,
        )
        if not lines.size:  # of a map much smaller than the web, where a strip ends
            return
        marked = self._marked(map_first, self._blend.final)
        if marked is not None:
            self._hide_outside(marked)
        scores = [each[1:] for each in self._scores]
        began, ended = self._regions.add(lines, peak=peak, scores=scores, marked=marked)
        for region in began:
            yield self._begun(region)
        for region in ended:
            yield self._defect(region)

    def _inside(self, edges: tuple[int, int]) -> tuple[int, int]:
        """Map pixels between the web's edges in which something may be told; all where no background is known."""
        width, map_width = self.plan.width, self.plan.map_width
        if self.settings.light.background is None:
            return 0, map_width
        (left, right), margin = edges, self.settings.edge_margin
        return -(-(left + margin) * map_width // width), max(0, right - margin) * map_width // width

    def _hide_outside(self, values: np.ndarray) -> None:
        """Say nothing of what lies beside the web: zero in map lines or marks, (n, map width)."""
        left, right = self._inside(self._edges)
        values[:, :left] = 0
        values[:, right:] = 0

    def _marked(self, first: int, stop: int) -> npt.NDArray[np.bool_] | None:
        """What tiles that are anomalous by their scores mark of map lines; None for nothing."""
        marked: npt.NDArray[np.bool_] | None = None
        for mark in self._marks:
            height, width = mark.pixels.shape
            begin, end = max(first, mark.first), min(stop, mark.first + height)
            if begin < end:
                if marked is None:
                    marked = np.zeros((stop - first, self.plan.map_width), np.bool_)
                here = marked[begin - first : end - first, mark.left : mark.left + width]
                here |= mark.pixels[begin - mark.first : end - mark.first]
        self._marks = [mark for mark in self._marks if mark.first + len(mark.pixels) > stop]
        return marked

    # Records

    def _begun(self, region: Region) -> DefectBegun:
        first, _ = self.plan.lines_of(region.first, region.stop)
        left, right = self.plan.pixels_of(region.left, region.right)
        scale = self.settings.scale
        return DefectBegun(
            number=region.number,
            first=first,
            left=left,
            right=right,
            along_mm=first * scale.mm_per_line,
            across_mm=(left - self._edges[0]) * scale.mm_per_pixel,
            peak=region.peak,
        )

    def _defect(self, region: Region) -> Defect:
        plan, scale = self.plan, self.settings.scale
        first, stop = plan.lines_of(region.first, region.stop)
        first, stop = max(first, self._strip), min(stop, self._final)
        left, right = plan.pixels_of(region.left, region.right)
        peak_line, _ = plan.lines_of(region.peak_at[0], region.peak_at[0] + 1)
        peak_pixel, _ = plan.pixels_of(region.peak_at[1], region.peak_at[1] + 1)
        map_pixel_mm2 = (plan.tile / plan.map_tile * scale.mm_per_line) * (
            plan.width / plan.map_width * scale.mm_per_pixel
        )
        across = (left - self._edges[0]) * scale.mm_per_pixel
        width = (right - left) * scale.mm_per_pixel
        if region.part == 1:
            self.tally.defects += 1
        return Defect(
            number=region.number,
            part=region.part,
            continues=region.continues,
            joined=region.joined,
            first=first,
            stop=stop,
            left=left,
            right=right,
            along_mm=first * scale.mm_per_line,
            across_mm=across,
            length_mm=(stop - first) * scale.mm_per_line,
            width_mm=width,
            area_mm2=region.area * map_pixel_mm2,
            peak=region.peak,
            peak_line=max(peak_line, self._strip),
            peak_pixel=peak_pixel,
            score=region.score,
            decided_by=self._decided_by(region),
            lanes=lanes_of(self.settings.lanes, across, across + width),
            is_flood=region.is_flood,
            pictures=self._pictures(first, stop, left, right) if self.settings.keeps_pictures else None,
        )

    def _decided_by(self, region: Region) -> DecidedBy:
        peak = self.settings.rule.peak_threshold
        by_peak = peak is not None and region.peak >= peak
        return "both" if by_peak and region.is_marked else "peak" if by_peak else "score"

    def _pictures(self, first: int, stop: int, left: int, right: int) -> Pictures | None:
        """What is still held of a place."""
        assert self._lines is not None
        plan = self.plan
        oldest = self._row_stop - 2 * plan.tile  # what is held whatever the blocks' height
        top = max(first - MARGIN, self._strip, oldest, plan.lines_of(self._blend.kept, self._blend.kept)[1])
        bottom = min(stop + MARGIN, self._final)
        if bottom - top < 1:
            return None
        left, right = max(0, left - MARGIN), min(plan.width, right + MARGIN, left - MARGIN + WIDEST)
        map_top, map_bottom = plan.map_line(top), max(plan.map_line(top) + 1, plan.map_line(bottom))
        columns = slice(left * plan.map_width // plan.width, -(-right * plan.map_width // plan.width))
        return Pictures(
            first=top,
            left=left,
            pixels=np.array(self._lines.view(top, bottom)[:, left:right]),
            anomaly_map=np.array(self._blend.view(map_top, min(map_bottom, self._blend.final))[:, columns]),
        )

"""Judge a web between two gaps: rows of tiles, map lines that are final once, and the defects on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acl_runtime.detection.brief import Answer
from acl_runtime.files.errors import FrameError
from acl_runtime.images.tiles import Span
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.regions import HOTTEST
from acl_runtime.web.account import Lost
from acl_runtime.web.blend import Floats, WebBlend
from acl_runtime.web.buffer import LineBuffer
from acl_runtime.web.describe import to_begun, to_defect
from acl_runtime.web.light import find_edges
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Defect, Event, Judged, Pictures
from acl_runtime.web.regions import Levels, Region, WebRegions
from acl_runtime.web.settings import WebSettings

MARGIN = 32  # pixels and lines around a defect in its picture, where there are such
WIDEST = 2048  # pixels of a picture

Judge = Callable[[Sequence[np.ndarray]], list[Answer]]
"""From pictures, (h, w) or (h, w, 3) uint8, to the log-odds and the map of each, or why there are none; see
`TileJudge`."""

SeeMap = Callable[[int, Floats], None]
"""Called with the number of a map line and the map lines from there on, (n, map width) float32, once they are final; it
must not keep them."""
SeeLines = Callable[[int, npt.NDArray[np.uint8]], None]
"""Called with the number of a line and the lines from there on, (n, W) or (n, W, 3) uint8, before they are told as
judged; it must not keep them either."""


@dataclass(frozen=True)
class _Mark:
    """Where a tile that is anomalous by its score is hottest, of the lines that are not final yet."""

    first: int  # map line
    left: int  # map pixel
    pixels: npt.NDArray[np.bool_]


class Strips:
    """One strip after the other, with the same memory and running numbers of defects."""

    def __init__(
        self,
        plan: WebPlan,
        judge: Judge,
        settings: WebSettings,
        *,
        see_map: SeeMap | None,
        see_lines: SeeLines | None,
        line: int = 0,
        number: int = 0,
    ) -> None:
        """Take memory for maps; that for lines is taken with the first.

        The first strip begins at `line`; `number` is that of the defect before the first.
        """
        self.plan, self.settings, self._judge = plan, settings, judge
        self._see_map, self._see_lines = see_map, see_lines
        self._blend = WebBlend(plan, keep=plan.map_tile)
        self._regions = WebRegions(
            plan.map_width,
            Levels(region=settings.region_threshold, peak=settings.rule.peak_threshold),
            longest=max(1, plan.map_line(settings.longest)),
            most=settings.most,
            number=number,
        )
        self._edges = (0, plan.width)
        self._buffer: LineBuffer | None = None
        self.begin(line)

    @property
    def nbytes(self) -> int:
        """Memory for lines and maps."""
        return self._blend.nbytes + (0 if self._buffer is None else self._buffer.nbytes)

    def begin(self, line: int) -> None:
        """Begin a strip at a line; the one before was ended."""
        self.first = self.stop = self.final = self._row = line
        self._waiting: list[int] = []  # rows that share calls and are not judged yet
        self._marks: list[_Mark] = []
        self._scores: list[
            tuple[int, int, int, float]
        ] = []  # of tiles that show lines to come: their stop, edges, score
        self._seen_until = line  # by a tile
        self._bad_until = line  # by a tile without an answer
        self._blend.begin(line)
        self._regions.begin(self.plan.map_line(line))
        if self._buffer is not None:
            self._buffer.begin(line)

    def extend(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Event]:
        """Take lines, (n, W) or (n, W, 3), at most a step of them, and tell what is final with them."""
        if self._buffer is None:
            hold = 2 * self.plan.tile + self.settings.rows * self.plan.step + MARGIN
            self._buffer = LineBuffer(hold, pixels.shape[1:], np.uint8)
            self._buffer.begin(self.stop)
        self._buffer.append(pixels)
        self.stop += len(pixels)
        while self.stop >= self._row + self.plan.tile:
            self._waiting.append(self._row)
            group, self._row = self._group(self._row), self.plan.next_row(self._row)
            if self._group(self._row) != group:
                yield from self._judge_waiting()

    def end(self) -> Iterator[Event]:
        """Judge what waits: the last row is moved back, so that it ends with the strip, and defects end there."""
        yield from self._judge_waiting()
        if self.stop - self.first < self.plan.tile:
            if self.first < self.stop:
                yield Lost(first=self.first, stop=self.stop, reason="short strip")
            return
        if self._seen_until < self.stop:
            yield from self._judge_rows([self.stop - self.plan.tile], is_moved=True)
        else:
            yield from self._finalise(self.stop)
        yield from self.abandon()

    def abandon(self) -> Iterator[Event]:
        """End the defects that are open, and judge nothing more."""
        for region in self._regions.begin(self.plan.map_line(self.final)):
            yield self._defect(region)

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
        self._scores = [each for each in self._scores if each[0] > self.final]
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
        self._seen_until = self._row_stop

    def _mark(self, row: int, fitted: np.ndarray, span: Span) -> None:
        """Mark where a tile that is anomalous by its score is hottest, on the web and not final yet."""
        fresh = max(0, self._blend.final - self.plan.map_line(row))
        seen = np.asarray(self._lines.view(row, row + self.plan.tile), np.uint8)
        edges = find_edges(seen, self.settings.light)
        left, right = self._inside(edges)
        left, right = max(left, span.map_start), min(right, span.map_stop)
        if left >= right:
            return
        hot = fitted[fresh:, left - span.map_start : right - span.map_start].copy()
        for columns in self._ignored(edges):
            hot[:, max(0, columns.start - left) : max(0, columns.stop - left)] = 0
        if hot.any() or not self.settings.ignored:
            level = np.float32(min(self.settings.region_threshold, HOTTEST * float(hot.max())))
            self._marks.append(_Mark(self._blend.final, left, hot >= level))

    def _finalise(self, stop: int) -> Iterator[Event]:
        """Tell what is known of the lines up to one: no tile that is still to come shows them."""
        if self.final < (bad := min(stop, self._bad_until)):
            self._blend.take(bad)
            for region in self._regions.begin(self.plan.map_line(bad)):
                yield self._defect(region)
            yield Lost(first=self.final, stop=bad, reason="not finite")
            self.final = bad
        if self.final >= stop:
            return
        first, map_first = self.final, self._blend.final
        lines = self._blend.take(stop)
        seen = np.asarray(self._lines.view(first, stop), np.uint8)
        self._edges = find_edges(seen, self.settings.light)
        if self._see_lines is not None:
            self._see_lines(first, seen)
        self._hide_outside(lines)
        self.final = stop
        peak = float(lines.max()) if lines.size else 0.0
        if peak > 1:  # rounding only, as in `Blend.finish`
            np.minimum(lines, 1, out=lines)
            peak = 1.0
        if self._see_map is not None:
            self._see_map(map_first, lines)
        left, right = self._edges
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
            yield to_begun(region, self.plan, self.settings.scale, edge=left)
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
        """Say nothing of what lies beside the web or is ignored: zero in map lines or marks, (n, map width)."""
        left, right = self._inside(self._edges)
        values[:, :left] = 0
        values[:, right:] = 0
        for columns in self._ignored(self._edges):
            values[:, columns] = 0

    def _ignored(self, edges: tuple[int, int]) -> Iterator[slice]:
        """Map pixels of what is ignored, of a web between these edges."""
        pixels_per_mm = self.plan.map_width / self.plan.width / self.settings.scale.mm_per_pixel
        edge = edges[0] * self.plan.map_width / self.plan.width
        for lane in self.settings.ignored:
            first, stop = (edge + mm * pixels_per_mm for mm in (lane.left_mm, lane.right_mm))
            yield slice(max(0, math.floor(first)), max(0, math.ceil(stop)))

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

    def _defect(self, region: Region) -> Defect:
        edge, strip = self._edges[0], (self.first, self.final)
        defect = to_defect(region, self.plan, self.settings, edge=edge, strip=strip)
        if not self.settings.keeps_pictures:
            return defect
        return replace(defect, pictures=self._pictures(defect.first, defect.stop, defect.left, defect.right))

    def _pictures(self, first: int, stop: int, left: int, right: int) -> Pictures | None:
        """What is still held of a place."""
        plan = self.plan
        oldest = self._row_stop - 2 * plan.tile  # what is held whatever the blocks' height
        top = max(first - MARGIN, self.first, oldest, plan.lines_of(self._blend.kept, self._blend.kept)[1])
        bottom = min(stop + MARGIN, self.final)
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

    @property
    def _lines(self) -> LineBuffer:
        assert self._buffer is not None, "lines were taken"
        return self._buffer

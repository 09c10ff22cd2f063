"""Connected defects of an endless web: final map lines go in, each defect comes out once, however the lines were cut.

What is held between calls is one row of labels and what is known of each defect that reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """From where on a map shows a defect.

    Attributes:
        region: Smallest map value that belongs to a region, in [0, 1].
        peak: Smallest map value that makes a region a defect; None: only what is marked does.
    """

    region: float
    peak: float | None


@dataclass(kw_only=True)
class Region:
    """A connected part of the map, in map lines from the roll's start and map pixels; `stop` and `right` lie behind it.

    Attributes:
        first: Map line where it begins.
        stop: Map line behind it.
        left: Map pixel where it begins.
        right: Map pixel behind it.
        area: Map pixels of the region itself, not of its box.
        peak: Largest value inside, in [0, 1].
        peak_at: Map line and map pixel of that.
        score: Largest probability of a tile that lies over it, in [0, 1].
        is_marked: Whether a part of it was marked.
        number: Of the defect, from 1; 0 while it is none.
        part: From 1, of a defect that is told in parts.
        continues: Whether another part follows.
        joined: Numbers of defects that had begun apart and turned out to be this one.
        is_flood: Whether it stands for more regions than anybody could look at.
    """

    first: int
    stop: int
    left: int
    right: int
    area: int
    peak: float
    peak_at: tuple[int, int]
    score: float = 0.0
    is_marked: bool = False
    number: int = 0
    part: int = 1
    continues: bool = False
    joined: tuple[int, ...] = ()
    is_flood: bool = False


class WebRegions:
    """Regions of a map that comes in stretches, merged over their seams."""

    def __init__(self, width: int, levels: Levels, *, longest: int, most: int, number: int = 0) -> None:
        """Begin without any.

        Args:
            width: Pixels of a map line.
            levels: What belongs to a region, and what makes it a defect.
            longest: Map lines after which a region is told in part, when the stretch ends that it goes on behind.
            most: Regions of a stretch beyond which all that is hot in it is one region, a flood.
            number: Of the defect before the first.
        """
        self._levels, self._longest, self._most = levels, longest, most
        self._from = np.float32(levels.region)  # as `find_regions` compares
        self._seam = np.zeros(
            width, np.int64
        )  # which open region each pixel of the last line is of, from 1; 0 for none
        self._open: list[Region] = []
        self._numbers = number
        self.line = 0  # that comes next

    def begin(self, line: int) -> list[Region]:
        """Begin anew at a map line, behind a gap; what was open ends there."""
        ended = self._sorted(self._open)
        self._open, self.line = [], line
        self._seam[:] = 0
        return ended

    def add(
        self,
        lines: Floats,
        *,
        peak: float | None = None,
        scores: Sequence[tuple[int, int, float]] = (),
        marked: np.ndarray | None = None,
    ) -> tuple[list[Region], list[Region]]:
        """Add final map lines.

        Args:
            lines: (n, W) float32, n at least 1, in [0, 1].
            peak: Largest of them; None to look for it.
            scores: Left and right map pixel of each tile that lies over them, and its probability.
            marked: (n, W) bool, pixels that belong to a defect whatever their value; None for none.

        Returns:
            Defects that began, and defects that ended, in the order of their first lines; regions that are no defect
            are dropped. What began and ended at once is among both.
        """
        hot = None
        if marked is not None or (lines.max() if peak is None else peak) >= self._from:
            hot = lines >= self._from
            if marked is not None:
                hot |= marked
        if hot is None and not self._open:
            self.line += len(lines)
            return [], []
        found, top, bottom = self._find(lines, hot, scores, marked)
        merged, told = self._merge(found, top)
        self.line += len(lines)
        began = self._number(merged)
        lookup = np.zeros(1 + len(found), np.int64)
        kept: list[Region] = []
        for region, labels in merged:
            if region.stop == self.line and labels:
                kept.append(region)
                lookup[labels] = len(kept)
            else:
                told.append(region)
        self._seam, self._open = lookup[bottom], kept
        return began, self._sorted(told)

    @property
    def open(self) -> int:
        """How many regions may go on."""
        return len(self._open)

    def _find(
        self,
        lines: Floats,
        hot: np.ndarray | None,
        scores: Sequence[tuple[int, int, float]],
        marked: np.ndarray | None,
    ) -> tuple[list[Region], np.ndarray, np.ndarray]:
        """The regions of a stretch, and which of them, from 1, the pixels of its first and last line are of."""
        top, bottom = np.zeros((2, lines.shape[1]), np.int64)
        if hot is None:
            return [], top, bottom
        found: list[Region] = []
        for rows, columns in _hot_boxes(hot):
            count, labels, stats, _ = cv2.connectedComponentsWithStats(
                hot[rows, columns].view(np.uint8), connectivity=8
            )
            if len(found) + count - 1 > self._most:
                whole = self._flood(lines, hot, scores)
                whole.is_marked = marked is not None
                return [whole], hot[0].astype(np.int64), hot[-1].astype(np.int64)
            for label, (x, y, width, height, area) in enumerate(stats.tolist()):
                if label == 0:  # what is not hot
                    continue
                box = slice(y, y + height), slice(x, x + width)
                inside = labels[box] == label
                place = rows.start + y, columns.start + x
                region = self._measure(lines, inside, place, area)
                if marked is not None:
                    here = marked[rows, columns][box]
                    region.is_marked = bool((here & inside).any())
                region.score = _score_over(scores, region.left, region.right)
                found.append(region)
            for line, edge in ((0, top), (len(lines) - 1, bottom)):
                if rows.start <= line < rows.stop:
                    row = labels[line - rows.start]
                    edge[columns] = np.where(row, row + (len(found) - count + 1), 0)
        return found, top, bottom

    def _measure(self, lines: Floats, inside: np.ndarray, place: tuple[int, int], area: int) -> Region:
        """A region out of its box's pixels, `inside` (h, w) bool."""
        (y, x), (height, width) = place, inside.shape
        values = np.where(inside, lines[y : y + height, x : x + width], -1)
        row, column = divmod(int(values.argmax()), width)
        return Region(
            first=self.line + y,
            stop=self.line + y + height,
            left=x,
            right=x + width,
            area=area,
            peak=float(values[row, column]),
            peak_at=(self.line + y + row, x + column),
        )

    def _flood(self, lines: Floats, hot: np.ndarray, scores: Sequence[tuple[int, int, float]]) -> Region:
        """All that is hot as one region."""
        rows, columns = (np.flatnonzero(hot.any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        place = int(rows[0]), int(columns[0])
        whole = self._measure(lines, hot[box], place, int(np.count_nonzero(hot)))
        whole.is_flood, whole.score = True, _score_over(scores, whole.left, whole.right)
        return whole

    def _merge(
        self, found: list[Region], top: np.ndarray
    ) -> tuple[list[tuple[Region, list[int]]], list[Region]]:
        """Regions that touch over the seam as one each, with their labels; and parts that are told now."""
        before = len(self._open)
        parent = list(range(before + len(found)))  # open regions from 0, then those that were found

        def root(node: int) -> int:
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        for old, new in self._touching(top):
            a, b = root(old), root(before + new)
            parent[max(a, b)] = min(a, b)
        groups: dict[int, list[int]] = {}
        for node in range(before + len(found)):
            groups.setdefault(root(node), []).append(node)
        merged, told = [], []
        for nodes in groups.values():
            olds, news = ([node for node in nodes if (node < before) is old] for old in (True, False))
            held = [self._open[node] for node in olds]
            if news:
                held, parts = self._tell_long(held)
                told += parts
            regions = [*held, *(found[node - before] for node in news)]
            merged.append((_join(regions), [node - before + 1 for node in news]))
        return merged, told

    def _touching(self, top: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of an open region and one that was found, from 0, that touch over the seam, corners included."""
        if not self._open or not top.any():
            return
        width = len(top)
        for shift in (-1, 0, 1):
            here = slice(max(0, shift), width + min(0, shift))
            above = slice(max(0, -shift), width - max(0, shift))
            pairs = np.column_stack([self._seam[above], top[here]])
            for old, new in np.unique(pairs[(pairs > 0).all(axis=1)], axis=0).tolist():
                yield old - 1, new - 1

    def _tell_long(self, held: list[Region]) -> tuple[list[Region], list[Region]]:
        """Open regions that go on, long ones replaced by an empty rest; and the parts that are told now."""
        kept, parts = [], []
        for region in held:
            if self.line - region.first < self._longest:
                kept.append(region)
                continue
            if region.number:
                region.continues = True
                parts.append(region)
            empty = replace(region, first=self.line, area=0, peak=-1.0, score=0.0, joined=(), continues=False)
            empty.part += bool(region.number)
            kept.append(empty)
        return kept, parts

    def _number(self, merged: list[tuple[Region, list[int]]]) -> list[Region]:
        """Give numbers to regions that became defects."""
        began = []
        for region in self._sorted([region for region, _ in merged], with_all=True):
            peak = self._levels.peak
            if not region.number and (region.is_marked or (peak is not None and region.peak >= peak)):
                self._numbers += 1
                region.number = self._numbers
                began.append(region)
        return [replace(region) for region in began]

    def _sorted(self, regions: list[Region], *, with_all: bool = False) -> list[Region]:
        chosen = [region for region in regions if region.number or with_all]
        return sorted(chosen, key=lambda region: (region.first, region.left, region.stop, region.number))


def _hot_boxes(hot: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Boxes that hold all that is hot, each between columns that hold nothing: no region lies in two."""
    columns = np.concatenate([[False], hot.any(axis=0), [False]])
    edges = np.flatnonzero(columns[1:] != columns[:-1])
    for left, right in edges.reshape(-1, 2).tolist():
        rows = np.flatnonzero(hot[:, left:right].any(axis=1))
        yield slice(int(rows[0]), int(rows[-1]) + 1), slice(left, right)


def _join(regions: Sequence[Region]) -> Region:
    """One region out of several that touch; the defect that began first gives the number."""
    if len(regions) == 1:
        return regions[0]
    numbers = sorted({region.number for region in regions} - {0})
    known = {number for region in regions for number in region.joined}
    hottest = max(regions, key=lambda region: (region.peak, -region.peak_at[0], -region.peak_at[1]))
    number = numbers[0] if numbers else 0
    return Region(
        first=min(region.first for region in regions),
        stop=max(region.stop for region in regions),
        left=min(region.left for region in regions if region.area),
        right=max(region.right for region in regions if region.area),
        area=sum(region.area for region in regions),
        peak=hottest.peak,
        peak_at=hottest.peak_at,
        score=max(region.score for region in regions),
        is_marked=any(region.is_marked for region in regions),
        number=number,
        part=max(region.part for region in regions if region.number == number),
        joined=tuple(sorted((known | set(numbers[1:])) - {number})),
        is_flood=any(region.is_flood for region in regions),
    )


def _score_over(scores: Sequence[tuple[int, int, float]], left: int, right: int) -> float:
    return max((score for start, stop, score in scores if start < right and left < stop), default=0.0)

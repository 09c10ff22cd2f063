"""How well an inspection found the defects of a drawn web, which are known to the pixel."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from acl_runtime.sources.drawn_web import DrawnWeb
from acl_runtime.web.records import Defect


@dataclass(frozen=True)
class Box:
    """Where a defect lies, in mm: across from the web's left edge, along from the roll's start."""

    left: float
    right: float
    start: float
    stop: float

    def is_near(self, other: Box, reach: float) -> bool:
        """Whether the two touch, or lie closer together than `reach` in both directions."""
        across = self.left - reach < other.right and other.left - reach < self.right
        return across and self.start - reach < other.stop and other.start - reach < self.stop


@dataclass(frozen=True)
class Comparison:
    """What was told of a web beside what was drawn on it.

    Attributes:
        truth: Defects that were drawn.
        missed: Those of them that nothing was told of.
        false: What was told where none was drawn.
        errors_mm: Of the places that were found: how far the middle of what was told lies from the middle of what was
            drawn there, along or across, whichever is more. Defects that touch, or were told as one, are one place; of
            a long one of which a part was told, it is that part that counts.
    """

    truth: tuple[Box, ...]
    missed: tuple[Box, ...]
    false: tuple[Box, ...]
    errors_mm: tuple[float, ...]

    @property
    def found(self) -> int:
        """Number of drawn defects that were told."""
        return len(self.truth) - len(self.missed)

    @property
    def worst_mm(self) -> float | None:
        """The largest error; None where nothing was found."""
        return max(self.errors_mm, default=None)

    @property
    def median_mm(self) -> float | None:
        """The error in the middle; None where nothing was found."""
        return statistics.median(self.errors_mm) if self.errors_mm else None


def drawn_boxes(web: DrawnWeb, lines: int) -> list[Box]:
    """The defects on so many lines, as far as they lie there."""
    pitch = web.options.pitch
    boxes = []
    for each in web.defects(0, lines):
        edge, _ = web.edges(each.first)
        left, right = (each.left - edge) * pitch, (each.right - edge) * pitch
        boxes.append(Box(left, right, each.first * pitch, min(each.last, lines) * pitch))
    return boxes


def told_boxes(defects: Iterable[Defect]) -> list[Box]:
    """Where records say that defects lie; parts of one are one."""
    boxes: dict[int, Box] = {}
    for each in defects:
        box = Box(each.x_mm, each.x_mm + each.width_mm, each.y_mm, each.y_mm + each.length_mm)
        boxes[each.number] = _around([box, *([boxes[each.number]] if each.number in boxes else [])])
    return list(boxes.values())


def compare(truth: Sequence[Box], told: Sequence[Box], *, reach_mm: float) -> Comparison:
    """Compare what was told with what was drawn; they belong together where they are closer than `reach_mm`."""
    groups = _group(truth, told, reach_mm)
    return Comparison(
        truth=tuple(truth),
        missed=tuple(box for drawn, found in groups if not found for box in drawn),
        false=tuple(box for drawn, found in groups if not drawn for box in found),
        errors_mm=tuple(
            _distance(_around(found), _around(drawn), reach_mm) for drawn, found in groups if drawn and found
        ),
    )


def _group(truth: Sequence[Box], told: Sequence[Box], reach: float) -> list[tuple[list[Box], list[Box]]]:
    """Drawn and told boxes that are near each other, directly or by way of others of the other kind."""
    groups: list[tuple[list[Box], list[Box]]] = [([box], []) for box in truth]
    for box in told:
        near = [group for group in groups if any(box.is_near(each, reach) for each in group[0])]
        groups = [group for group in groups if not any(group is each for each in near)]
        groups.append(
            ([each for group in near for each in group[0]], [box, *(each for g in near for each in g[1])])
        )
    return groups


def _around(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.left for box in boxes),
        max(box.right for box in boxes),
        min(box.start for box in boxes),
        max(box.stop for box in boxes),
    )


def _distance(told: Box, drawn: Box, reach: float) -> float:
    """Between middles, of what was told and of what was drawn within reach of it."""
    left, right = max(drawn.left, told.left - reach), min(drawn.right, told.right + reach)
    start, stop = max(drawn.start, told.start - reach), min(drawn.stop, told.stop + reach)
    return max(abs(told.left + told.right - left - right), abs(told.start + told.stop - start - stop)) / 2

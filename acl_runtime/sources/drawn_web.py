"""An endless web drawn from a seed, whose defects are known: every line follows from its number alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from acl_runtime.files.errors import InputError
from acl_runtime.sources.address import check_range

_PERIOD = 1024  # lines of the drawn cloth, which comes again shifted sideways
_THREAD = 8  # pixels and lines between threads of the weave
_SHIFTS = 64  # threads by which it may be shifted
_CELL = 4096  # lines in which defects are drawn together; none is longer
_MM_PER_M = 1000.0
_BESIDE = 12  # grey level beside the web, of 255
FORMATS = ("mono8", "mono16", "bgr8")
KINDS = ("hole", "spot", "stain", "scratch", "thread")
NEP = "nep"


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """What the web looks like.

    Attributes:
        width: Pixels of a line.
        pitch: Millimetres per line and per pixel, which `defects_per_m` counts by.
        defects_per_m: Defects per metre of web, on average.
        neps_per_m: Neps per metre of web, on average: small knots of the yarn, which good cloth has and which are no
            defects.
        roller: Lines between the marks of a damaged roller, all at one place across; 0 for no such marks.
        margin: Pixels beside the web, on each side, which are nearly black.
        wander: Pixels by which the web moves sideways, to and fro within 20000 lines; at most `margin`.
        format: `mono8`, `mono16` or `bgr8`.
    """

    width: int = 2048
    pitch: float = 0.1
    defects_per_m: float = 1.0
    neps_per_m: float = 0.0
    roller: int = 0
    margin: int = 0
    wander: int = 0
    format: str = "mono8"

    def check(self, text: str) -> None:
        """Raise InputError unless every value is in its range."""
        largest = float("inf")
        ranges: dict[str, tuple[float, float]] = {"width": (16, 65536), "pitch": (1e-4, 100)}
        ranges |= {"defects_per_m": (0, 1e4), "neps_per_m": (0, 1e4), "roller": (0, largest)}
        ranges |= {"margin": (0, self.width // 2 - 4), "wander": (0, self.margin)}
        check_range(text, self, ranges)
        if self.format not in FORMATS:
            raise InputError(f"{text}: format must be one of {', '.join(FORMATS)}, got {self.format}")
        if self.roller and self.roller < 2 * _THREAD:
            raise InputError(f"{text}: roller must be 0 or {2 * _THREAD} lines or more, got {self.roller}")


@dataclass(frozen=True, kw_only=True, order=True)
class DrawnDefect:
    """A defect of the web: lines from `first` to before `last`, pixels from `left` to before `right`."""

    first: int
    last: int
    left: int
    right: int
    kind: str  # one of KINDS, "roller", or "nep", which is none
    depth: int  # grey levels of 255 by which it is brighter than the web; darker where negative


class DrawnWeb:
    """The web of a seed."""

    def __init__(self, seed: int, options: WebOptions) -> None:
        """Draw the cloth.

        Args:
            seed: 0 or more; another is another web.
            options: What it looks like.
        """
        self.options, self._seed = options, seed
        self.shape: tuple[int, ...] = (options.width, 3) if options.format == "bgr8" else (options.width,)
        self.dtype = np.dtype(np.uint16 if options.format == "mono16" else np.uint8)
        self._cloth = _draw_cloth(seed, options.width + _THREAD * _SHIFTS)
        self._cells: dict[int, list[DrawnDefect]] = {}  # what is drawn on the last lines that were asked for

    def lines(self, first: int, out: np.ndarray) -> None:
        """Draw lines.

        Args:
            first: Number of the first, 0 or more.
            out: (n, W) uint8 or uint16, or (n, W, 3) uint8, as `shape` and `dtype` say; is overwritten.
        """
        grey = out if out.dtype == np.uint8 and out.ndim == 2 else np.empty(out.shape[:2], np.uint8)
        count = len(grey)
        for start in range(first - first % _PERIOD, first + count, _PERIOD):
            begin, end = max(first, start), min(first + count, start + _PERIOD)
            shift = _THREAD * self._hash(start // _PERIOD) % (_THREAD * _SHIFTS)
            rows = self._cloth[begin - start : end - start, shift : shift + self.options.width]
            grey[begin - first : end - first] = rows
        for defect in self._drawn(first, first + count):
            _draw_defect(grey, first, defect)
        self._draw_sides(grey, first)
        if out.ndim == 3:
            cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR, dst=out)
        elif out.dtype == np.uint16:
            np.multiply(grey, 257, out=out, dtype=np.uint16)

    def defects(self, first: int, last: int) -> list[DrawnDefect]:
        """The defects that touch a line from `first` to before `last`, in order."""
        return [each for each in self._drawn(first, last) if each.kind != NEP]

    def _drawn(self, first: int, last: int) -> list[DrawnDefect]:
        """The same, and neps."""
        cells = range(max(0, (first - _CELL + 1) // _CELL), -(-last // _CELL))
        if len(self._cells) > 64:
            self._cells.clear()
        for cell in cells:
            if cell not in self._cells:
                self._cells[cell] = self._draw_cell(cell)
        found = (each for cell in cells for each in self._cells[cell])
        return sorted(each for each in found if each.first < last and each.last > first)

    def edges(self, line: int) -> tuple[int, int]:
        """First pixel of the web and the one after its last, in a line."""
        left = int(self._left(np.array([line]))[0])
        return left, self.options.width - 2 * self.options.margin + left

    def _left(self, lines: np.ndarray) -> np.ndarray:
        swing = np.sin(lines * (2 * np.pi / 20000)) * self.options.wander
        left: np.ndarray = self.options.margin + np.rint(swing).astype(np.int64)
        return left

    def _draw_sides(self, grey: np.ndarray, first: int) -> None:
        margin, wander = self.options.margin, self.options.wander
        if not margin:
            return
        most = margin + wander
        left = self._left(np.arange(first, first + len(grey)))[:, None]  # (n, 1)
        across = np.arange(most)[None]
        grey[:, :most][across < left] = _BESIDE
        grey[:, ::-1][:, :most][across < 2 * margin - left] = _BESIDE

    def _draw_cell(self, cell: int) -> list[DrawnDefect]:
        rng = np.random.default_rng((self._seed, 0, cell))
        options = self.options
        made = []
        for _ in range(rng.poisson(options.defects_per_m * _CELL * options.pitch / _MM_PER_M)):
            made.append(self._place(rng, cell * _CELL + int(rng.integers(_CELL))))
        if options.roller:
            place, size = options.margin + options.wander + (options.width - 2 * options.margin) // 3, 12
            begin = -(-cell * _CELL // options.roller) * options.roller
            for line in range(begin, (cell + 1) * _CELL, options.roller):
                box = {"first": line, "last": line + size, "left": place, "right": place + size}
                made.append(DrawnDefect(**box, kind="roller", depth=-70))
        return [*made, *self._draw_neps(cell)]

    def _draw_neps(self, cell: int) -> list[DrawnDefect]:
        rng = np.random.default_rng((self._seed, 3, cell))
        count = int(rng.poisson(self.options.neps_per_m * _CELL * self.options.pitch / _MM_PER_M))
        sizes = rng.integers(4, 8, (count, 2)).tolist()
        depths = (rng.integers(25, 35, count) * rng.choice((-1, 1), count)).tolist()
        places = rng.integers(0, (_CELL, self.options.width - 8), (count, 2)).tolist()
        return [
            DrawnDefect(
                first=cell * _CELL + line,
                last=cell * _CELL + line + long,
                left=left,
                right=left + wide,
                kind=NEP,
                depth=depth,
            )
            for (line, left), (long, wide), depth in zip(places, sizes, depths, strict=True)
        ]

    def _place(self, rng: np.random.Generator, first: int) -> DrawnDefect:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        long, wide = _size(kind, rng)
        room = self.options.width - 2 * (self.options.margin + self.options.wander)
        wide = min(wide, room)
        left = self.options.margin + self.options.wander + int(rng.integers(room - wide + 1))
        depth = int(rng.integers(50, 90)) * (-1 if kind in ("hole", "spot") or rng.random() < 0.5 else 1)
        return DrawnDefect(
            first=first, last=first + long, left=left, right=left + wide, kind=kind, depth=depth
        )

    def _hash(self, period: int) -> int:
        """A number from 0 on that looks random; Knuth, TAOCP 3, 6.4, multiplicative hashing."""
        return ((period + 1) * 2654435761 + self._seed * 40503) % 2**32 >> 13


def _size(kind: str, rng: np.random.Generator) -> tuple[int, int]:
    """Lines and pixels of a defect."""
    if kind == "scratch":
        return int(rng.integers(200, 3000)), int(rng.integers(3, 7))
    if kind == "thread":
        return int(rng.integers(3, 7)), int(rng.integers(60, 300))
    least, most = {"hole": (8, 40), "spot": (12, 30), "stain": (60, 200)}[kind]
    return int(rng.integers(least, most)), int(rng.integers(least, most))


def _draw_cloth(seed: int, width: int) -> np.ndarray:
    """(_PERIOD, width) uint8: a plain weave with noise, which fits on to itself in both directions."""
    rng = np.random.default_rng((seed, 2))
    warp, weft = (np.sin(np.arange(side) * (2 * np.pi / _THREAD)) for side in (width, _PERIOD))
    cloth = rng.standard_normal((_PERIOD, width), np.float32)
    cloth *= 4.0
    cloth += (120 + 8 * warp[None] * weft[:, None]).astype(np.float32)
    return np.clip(np.rint(cloth), 0, 255).astype(np.uint8)


def _draw_defect(grey: np.ndarray, first: int, defect: DrawnDefect) -> None:
    """Add a defect's part to lines; boxes are filled for scratch and thread, ellipses for the others."""
    begin, end = max(first, defect.first), min(first + len(grey), defect.last)
    place = grey[begin - first : end - first, defect.left : defect.right]
    if defect.kind in ("scratch", "thread"):
        shape = np.ones(place.shape, np.float32)
    else:
        down, across = (
            (np.arange(low, high, dtype=np.float32) + 0.5 - (from_ + to) / 2) * 2 / (to - from_)
            for low, high, from_, to in (
                (begin, end, defect.first, defect.last),
                (defect.left, defect.right, defect.left, defect.right),
            )
        )
        distance = down[:, None] ** 2 + across[None] ** 2  # 1 on the ellipse
        shape = np.clip(1 - distance, 0, 1) if defect.kind == "stain" else (distance <= 1).astype(np.float32)
    place[:] = np.clip(np.rint(place + defect.depth * shape), 0, 255).astype(np.uint8)

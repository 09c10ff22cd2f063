"""Webs for tests: lines that are drawn from a seed, and a network that answers at once from the pixels themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from acl_runtime.detection.brief import Answer
from acl_runtime.files.errors import SourceError
from acl_runtime.images.tiles import cut_axis
from acl_runtime.scoring.rule import Rule
from acl_runtime.sources.block import Block
from acl_runtime.web.account import Lines, Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Defect, Event, Scale
from acl_runtime.web.settings import WebSettings

SCALE = Scale(mm_per_line=0.1, mm_per_pixel=0.2)
RULE = Rule(1.0, 0.5)  # the peak decides
LINE_NS = 100_000  # 10 kHz


def make_plan(width: int = 100, *, tile: int = 48, overlap: int = 12, image_size: int = 48) -> WebPlan:
    """A plan like `plan_web`'s, for any sizes."""
    across = min(tile, width)
    columns = cut_axis(width, across, min(overlap, across // 2), image_size=image_size)
    return WebPlan(tile, tile - overlap, columns, min(tile, image_size))


def draw_web(lines: int, width: int = 100, *, defects: int = 6, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(lines, width) uint8: grey noise with bright defects of all shapes, some long."""
    rng = np.random.default_rng(seed)
    web = rng.integers(90, 110, (lines, width), dtype=np.uint8)
    for _ in range(defects):
        y, x = int(rng.integers(0, lines)), int(rng.integers(0, width))
        height, breadth = (int(value) for value in rng.integers(3, (120, 30)[int(rng.integers(2))], 2))
        angle = int(rng.integers(0, 180))
        cv2.ellipse(web, (x, y), (breadth // 2 + 1, height // 2 + 1), angle, 0, 360, 220, -1)
    return web


@dataclass
class Brightness:
    """A network that answers at once: its map is the tile's own brightness, smoothed, and it remembers its calls.

    What it says of a pixel depends on the whole tile a little, as a network's answer does, so that another tiling is
    another map.
    """

    image_size: int = 48
    low: int = 100  # grey level of a map value of 0
    high: int = 240  # of 1
    calls: list[int] = field(default_factory=list)

    def __call__(self, tiles: Sequence[np.ndarray]) -> list[Answer]:
        self.calls.append(len(tiles))
        return [self.judge(tile) for tile in tiles]

    def judge(self, tile: np.ndarray) -> tuple[float, npt.NDArray[np.float32]]:
        size = (self.image_size, self.image_size)
        grey = tile if tile.ndim == 2 else tile.mean(axis=2)
        seen = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        seen = cv2.GaussianBlur(seen, (0, 0), 1.0)
        shift = np.float32((float(grey.mean()) - self.low) / 20)
        values = np.clip((seen - self.low + shift) / (self.high - self.low), 0, 1)
        return float(values.max() * 10 - 5), np.asarray(values, np.float32)


def settings(**changes: object) -> WebSettings:
    """Settings whose peak decides, with the defaults elsewhere."""
    given: dict[str, object] = {"rule": RULE, "region_threshold": 0.5, "scale": SCALE, "max_batch": 2}
    return WebSettings(**(given | changes))  # type: ignore[arg-type]


def cut_randomly(lines: int, rng: np.random.Generator, *, most: int = 90) -> list[int]:
    """Heights that add up to `lines`."""
    heights: list[int] = []
    while (left := lines - sum(heights)) > 0:
        heights.append(min(left, int(rng.integers(1, most + 1))))
    return heights


def as_items(web: np.ndarray, gaps: Iterable[Lost], heights: Sequence[int]) -> Iterator[Lines | Lost]:
    """A web in blocks of these heights, over and over, without its gaps, whose lines are never given."""
    at, turn = 0, 0
    for gap in [*gaps, None]:
        stop = len(web) if gap is None else gap.first
        while at < stop:
            height = min(heights[turn % len(heights)], stop - at)
            turn += 1
            yield Lines(first=at, pixels=web[at : at + height], received_ns=(at + height) * LINE_NS)
            at += height
        if gap is not None:
            yield gap
            at = gap.stop


def inspect(engine: WebEngine, items: Iterable[Lines | Lost]) -> list[Event]:
    """All that an engine tells."""
    events = [event for item in items for event in engine.add(item)]
    return [*events, *engine.finish()]


def defects_of(events: Iterable[Event]) -> list[Defect]:
    return [event for event in events if isinstance(event, Defect)]


def comparable(event: Event) -> object:
    """An event as something that is equal for equal events, bit for bit, pictures included."""
    fields = dict(vars(event))
    pictures = fields.pop("pictures", None)
    if pictures is not None:
        parts = (pictures.pixels, pictures.anomaly_map)
        fields["pictures"] = (
            pictures.first,
            pictures.left,
            *((each.shape, each.tobytes()) for each in parts),
        )
    return type(event).__name__, tuple(sorted(fields.items(), key=lambda item: item[0]))


def make_defect(number: int = 1, **changes: object) -> Defect:
    """A defect's record, without pictures."""
    given: dict[str, object] = {
        **{"number": number, "part": 1, "continues": False, "joined": (), "first": 100, "stop": 110},
        **{"left": 20, "right": 30, "y_mm": 10.0, "x_mm": 4.0, "length_mm": 1.0, "width_mm": 2.0},
        **{
            "area_mm2": 1.5,
            "peak": 0.9,
            "peak_line": 105,
            "peak_px": 25,
            "score": 0.8,
            "decided_by": "peak",
        },
        **{"lanes": (), "is_flood": False, "pictures": None},
    }
    return Defect(**(given | changes))  # type: ignore[arg-type]


@dataclass
class ArraySource:
    """A line camera over an array; each block's fate is "seen", "packets" (incomplete), "blocks" or "breaks"; one that
    "dies" takes all that reads it with it.

    One that is live never waits, and begins with the first `read`.
    """

    web: np.ndarray
    height: int = 32
    fates: dict[int, str] = field(default_factory=dict)  # by index of the block
    is_live: bool = False
    line_ns: int = LINE_NS  # between lines, by the blocks' own times
    pauses_s: dict[int, float] = field(default_factory=dict)  # before a block, by its index
    name: str = "array:"
    numbers: range | None = range(1, 65536)
    index: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self.width = int(self.web.shape[1])

    def read(self, timeout_s: float) -> Block | None:
        """The next block."""
        if self.index * self.height >= len(self.web):
            raise EOFError
        if (pause := self.pauses_s.get(self.index, 0.0)) > 0:
            waited = min(pause, timeout_s)
            time.sleep(waited)
            self.pauses_s[self.index] -= waited
            return None
        index, fate = self.index, self.fates.get(self.index, "seen")
        self.index += 1
        if fate == "dies":
            raise ZeroDivisionError("a bug")
        if fate == "breaks":
            raise SourceError("array: the cable was pulled out")
        if fate == "blocks":
            return self.read(timeout_s)
        lines = self.web[index * self.height : (index + 1) * self.height]
        return Block(
            lines=lines if fate == "seen" else np.zeros_like(lines),
            number=1 + (65530 + index) % 65535,
            complete=fate == "seen",
            received_ns=(index + 1) * self.height * self.line_ns if self.line_ns else time.monotonic_ns(),
        )

    def close(self) -> None:
        self.closed += 1

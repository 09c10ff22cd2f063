"""Everything about an endless web but the network: lines per second, and memory as the roll goes on.

    python -m benchmarks.web
    python -m benchmarks.web --lines 10000000 --only-memory

Blocks of drawn pixels, as a line camera with 4096 of them delivers, go through account, flat field, states and edges,
tiles as the network takes them, blending, regions and records; a stand-in for the network answers at once, with maps
that hold as many defects as are asked for. One thread; a defect's pictures are cut too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
import typer

from acl_runtime.bundle.manifest import Tiling
from acl_runtime.detection.brief import Answer
from acl_runtime.detection.stages import Stages
from acl_runtime.images.preprocess import resize_by_pillow
from acl_runtime.images.tiles import cut_axis
from acl_runtime.scoring.rule import Rule
from acl_runtime.sources.block import Block
from acl_runtime.web.account import LineAccount, Lines, Lost
from acl_runtime.web.engine import WebEngine
from acl_runtime.web.flat_field import FlatField
from acl_runtime.web.judge import TileJudge
from acl_runtime.web.light import Light
from acl_runtime.web.plan import WebPlan
from acl_runtime.web.records import Scale
from acl_runtime.web.reference import Reference, ReferenceFacts
from acl_runtime.web.settings import WebSettings
from benchmarks.machine import describe_machine, machine_line

WIDTH, HEIGHT = 4096, 64
IMAGE_SIZE, MAX_BATCH = 518, 8
SCALE = Scale(mm_per_line=0.1, mm_per_pixel=0.1)
LINES_PER_M = 10_000
TILES = (Tiling(518, 64, None), Tiling(1036, 128, None))
DEFECTS = (0.0, 1.0, 20.0)  # per metre
BLOCKS = 32  # that are drawn, and come over and over
SPOT = 24  # side of a defect, in map pixels
LOSS_EVERY = 997  # blocks, one of which is incomplete, where losses are asked for


@dataclass(frozen=True)
class Row:
    """What was measured on one kind of web."""

    tile: int
    overlap: int
    defects_per_m: float
    lines: int
    defects: int  # that were told
    seconds: float  # of the processor
    resize_s: float  # of these, for tiles that are larger than the network's input

    @property
    def lines_per_s(self) -> float:
        """By the processor's time, without the resizing, which is the network's input."""
        return self.lines / (self.seconds - self.resize_s)


class StandIn:
    """Stages whose network answers at once, with maps that hold as many defects as are asked for."""

    def __init__(self, plan: WebPlan, defects_per_m: float) -> None:
        rng = np.random.default_rng(0)
        good = np.full((IMAGE_SIZE, IMAGE_SIZE), 0.01, np.float32)
        self._maps = [good]
        for _ in range(8):
            y, x = rng.integers(IMAGE_SIZE // 4, IMAGE_SIZE * 3 // 4 - SPOT, 2)
            spotted = good.copy()
            spotted[y : y + SPOT, x : x + SPOT] = 0.9
            self._maps.append(spotted)
        self._per_tile = defects_per_m * plan.step / LINES_PER_M / len(plan.columns.spans)
        self._due, self._turn = 0.0, 0
        self.manifest = SimpleNamespace(frame_size=None, image_size=IMAGE_SIZE, max_batch=MAX_BATCH)
        self.resize_s = 0.0  # of the processor, so far

    def resize(self, pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """As Pillow, timed."""
        began = time.thread_time()  # of this one of the threads that resize
        resized = resize_by_pillow(pixels, size)
        self.resize_s += time.thread_time() - began
        return resized

    def session(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def read(self, outputs: object, count: int) -> list[Answer]:
        """Maps of so many tiles, every so often one with a defect."""
        return [(-5.0, self._next_map()) for _ in range(count)]

    def _next_map(self) -> npt.NDArray[np.float32]:
        self._due += self._per_tile
        if self._due < 1:
            return self._maps[0]
        self._due -= 1
        self._turn += 1
        return self._maps[1 + self._turn % (len(self._maps) - 1)]


def make_plan(tiling: Tiling) -> WebPlan:
    """The plan of a tiling whose tile is a number."""
    assert isinstance(tiling.tile, int)
    assert tiling.overlap is not None
    columns = cut_axis(WIDTH, tiling.tile, tiling.overlap, image_size=IMAGE_SIZE)
    return WebPlan(tiling.tile, tiling.tile - tiling.overlap, columns, min(tiling.tile, IMAGE_SIZE))


def make_engine(plan: WebPlan, stages: StandIn) -> WebEngine:
    """An engine that tracks edges and cuts pictures."""
    settings = WebSettings(
        rule=Rule(1.0, 0.5),
        region_threshold=0.5,
        scale=SCALE,
        light=Light(background=(0, 20)),
        max_batch=MAX_BATCH,
    )
    return WebEngine(plan, TileJudge(cast(Stages, stages)), settings)


def make_flat_field() -> FlatField:
    """Of a lamp that is brighter in the middle."""
    bright = 150 + 60 * np.sin(np.linspace(0.3, np.pi - 0.3, WIDTH))
    kinds: tuple[Literal["dark", "bright"], ...] = ("dark", "bright")
    dark, light = (
        Reference(
            mean,
            ReferenceFacts(
                kind=kind,
                created="2026-01-01T00:00:00+00:00",
                source="",
                settings=(),
                lines=1000,
                full_scale=255,
            ),
        )
        for mean, kind in zip((np.full(WIDTH, 3.0), bright), kinds, strict=True)
    )
    return FlatField(dark, light)


def draw_blocks() -> list[npt.NDArray[np.uint8]]:
    """Noise between the web's edges."""
    rng = np.random.default_rng(0)
    blocks = [rng.integers(90, 110, (HEIGHT, WIDTH), dtype=np.uint8) for _ in range(BLOCKS)]
    for block in blocks:
        block[:, :40], block[:, -40:] = 4, 4
    return blocks


def read_items(
    account: LineAccount, blocks: Sequence[np.ndarray], lines: int, *, loses: bool = False
) -> Iterator[Lines | Lost]:
    """What an account makes of so many lines' blocks."""
    for number in range(-(-lines // HEIGHT)):
        yield from account.add(
            Block(
                lines=blocks[number % len(blocks)],
                number=1 + number % 65535,
                complete=not (loses and number % LOSS_EVERY == LOSS_EVERY - 1),
                received_ns=number * HEIGHT * 40_000,
            )
        )


def measure_speed(tiling: Tiling, defects_per_m: float, *, lines: int) -> Row:
    """Inspect so many lines, and time it."""
    plan, blocks, correct = make_plan(tiling), draw_blocks(), make_flat_field()
    stages = StandIn(plan, defects_per_m)
    engine = make_engine(plan, stages)
    account = LineAccount(height=HEIGHT, numbers=range(1, 65536))
    began = time.process_time()
    for item in read_items(account, blocks, lines):
        here = item
        if isinstance(item, Lines):
            here = Lines(first=item.first, pixels=correct(item.pixels), received_ns=item.received_ns)
        for _ in engine.add(here):
            pass
    for _ in engine.finish():
        pass
    seconds = time.process_time() - began
    assert engine.tally.judged == engine.exposed
    return Row(
        plan.tile,
        plan.tile - plan.step,
        defects_per_m,
        engine.exposed,
        engine.tally.defects,
        seconds,
        stages.resize_s,
    )


def measure_memory(
    lines: int, *, defects: int, tiling: Tiling = TILES[0], points: int = 10
) -> list[tuple[int, int, int]]:
    """Inspect so many lines with losses and defects: at points on the way the lines, the defects and resident bytes."""
    plan, blocks = make_plan(tiling), draw_blocks()
    engine = make_engine(plan, StandIn(plan, defects * LINES_PER_M / lines))
    account = LineAccount(height=HEIGHT, numbers=range(1, 65536))
    found: list[tuple[int, int, int]] = []
    for item in read_items(account, blocks, lines, loses=True):
        for _ in engine.add(item):
            pass
        if item.stop >= (len(found) + 1) * lines // points:
            found.append((item.stop, engine.tally.defects, _resident()))
    for _ in engine.finish():
        pass
    tally = engine.tally
    assert engine.exposed == account.line == tally.accounted
    return found


def speed_table(rows: Sequence[Row]) -> str:
    """A row for each kind of web, in Markdown."""
    lines = [
        "| tile | overlap | defects/m | told | lines/s | MB/s | with resizing |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.tile} | {row.overlap} | {row.defects_per_m:g} | {row.defects} | **{row.lines_per_s:,.0f}** | "
        f"{row.lines_per_s * WIDTH / 1e6:,.0f} | {row.lines / row.seconds:,.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def memory_table(points: Sequence[tuple[int, int, int]]) -> str:
    """A row for each point of a roll, in Markdown."""
    rows = [f"| {lines:,} | {defects} | {size / 1e6:.1f} |" for lines, defects, size in points]
    return "\n".join(["| lines | defects told | resident, MB |", "| ---: | ---: | ---: |", *rows])


def _resident() -> int:
    """Bytes of this process in memory now; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main(
    lines: Annotated[int, typer.Option(help="Of each web.")] = 200_000,
    *,
    defects: Annotated[int, typer.Option(help="On the roll whose memory is measured.")] = 2000,
    only_memory: Annotated[bool, typer.Option("--only-memory", help="Measure no speed.")] = False,
) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    print(machine_line(describe_machine()))
    if not only_memory:
        rows = [measure_speed(tiling, each, lines=lines) for tiling in TILES for each in DEFECTS]
        print(speed_table(rows))
    print(memory_table(measure_memory(lines, defects=defects)))


if __name__ == "__main__":
    typer.run(main)

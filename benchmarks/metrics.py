"""The metrics of `acl eval`: memory, the streaming form's error, AUPRO's speed. `python -m benchmarks.metrics`"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from skimage.measure import label, regionprops
from sklearn.metrics import auc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from acl_runtime.data.layouts.published import PAPER_SETS
from acl_runtime.evaluation.metrics import ExactCounts, aupro, to_metrics
from acl_runtime.evaluation.overlap import overlap_area
from acl_runtime.evaluation.streaming import StreamingCounts
from acl_runtime.scoring.maps import sigmoid
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Pairs, clock

Image = tuple[float, int, np.ndarray, np.ndarray]  # score, label, (S, S) float32 map, (S, S) bool mask
Metrics = Mapping[str, float | None]
# Good and defective test images of each category.
MVTEC = {name: counts for name, counts in PAPER_SETS["MVTec AD"].categories.items() if counts is not None}
GAINS = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the log-odds, category by category: the last ones saturate


@dataclass(frozen=True)
class Counted:
    """What one form did with all categories, in a process of its own.

    Attributes:
        metrics: Of each category.
        images: How many there were.
        before: Bytes of memory that the process had at most before the first image.
        peak: Bytes that it had at most in the end.
        seconds: Of counting, without drawing the maps.
    """

    metrics: Mapping[str, Metrics]
    images: int
    before: int
    peak: int
    seconds: float


@dataclass(frozen=True)
class Timed:
    """AUPRO of the same maps by three ways, in turn."""

    exact: Pairs
    streaming: Pairs
    values: Mapping[str, float]


def draw_category(*, good: int, defective: int, size: int, gain: float, seed: int) -> Iterator[Image]:
    """Smoothed noise from a grid of patches, one map at a time; up to four round defects are brighter.

    Args:
        good: How many.
        defective: How many.
        size: Side S of the maps.
        gain: Scale of the log-odds.
        seed: Other maps.
    """
    rng = np.random.default_rng(seed)
    grid = size // 14
    for index in range(good + defective):
        mask = np.zeros((size, size), np.uint8)
        for _ in range(rng.integers(1, 5) if index >= good else 0):
            column, row = (int(place) for place in rng.integers(0, size, 2))
            cv2.circle(mask, (column, row), int(rng.integers(size // 90 + 2, size // 9 + 3)), 1, -1)
        patches = rng.standard_normal((grid, grid), np.float32)
        patches += 3 * cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(cv2.resize(patches, (size, size)), (0, 0), size / 130)
        anomaly_map = sigmoid(gain * (smooth - 1.5)).astype(np.float32)
        yield float(anomaly_map.max()), int(index >= good), anomaly_map, mask > 0


def count_categories(exact: bool, size: int, sizes: Mapping[str, tuple[int, int]]) -> Counted:
    """Draw and count category by category, as `evaluate_dataset` does with a detector's maps."""
    before, seconds, metrics = peak_memory(), 0.0, {}
    with threadpool_limits(1):
        cv2.setNumThreads(1)
        for seed, (category, (good, defective)) in enumerate(sizes.items()):
            counts = ExactCounts() if exact else StreamingCounts()
            gain = GAINS[seed % len(GAINS)]
            for image in draw_category(good=good, defective=defective, size=size, gain=gain, seed=seed):
                started = time.perf_counter()
                counts.add(*image)
                seconds += time.perf_counter() - started
            started = time.perf_counter()
            metrics[category] = to_metrics(counts.counts())
            seconds += time.perf_counter() - started
    images = sum(good + defective for good, defective in sizes.values())
    return Counted(metrics, images, before, peak_memory(), seconds)


def peak_memory() -> int:
    """Bytes of this process in memory, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_own_process(exact: bool, size: int, sizes: Mapping[str, tuple[int, int]]) -> Counted:
    """As `count_categories`, where no other work has left its peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(count_categories, exact, size, sizes).result()


def published_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """AUPRO in the steps of the published code: at each of 200 thresholds mark, label and measure all anew.

    Args:
        maps: (N, S, S) float32.
        masks: (N, S, S) bool.
    """
    curve = []
    step = maps.dtype.type((maps.max() - maps.min()) / maps.dtype.type(200))
    for threshold in np.arange(maps.min(), maps.max(), step):
        marked = maps > threshold
        overlaps = []
        for one, mask in zip(marked, masks, strict=True):
            for region in regionprops(label(mask)):  # type: ignore[no-untyped-call]
                rows, columns = region.coords.T
                overlaps.append(one[rows, columns].sum() / region.area)
        good = ~masks
        curve.append(((good & marked).sum() / good.sum(), np.mean(overlaps)))
    fpr, pro = np.array([point for point in curve if point[0] < 0.3]).T
    return float(auc((fpr - fpr.min()) / np.ptp(fpr), pro))


def streaming_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """The same from the streaming form, which counts for all other metrics as well."""
    counts = StreamingCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(0.0, 0, anomaly_map, mask)
    return overlap_area(counts.counts().overlap)


def time_aupro(*, images: int, size: int, turns: int) -> Timed:
    """Time the three ways in turn on one category, a third of it good, with one thread."""
    drawn = list(draw_category(good=images // 3, defective=images - images // 3, size=size, gain=2.0, seed=0))
    maps, masks = (np.stack([image[column] for image in drawn]) for column in (2, 3))
    ways: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "published": published_aupro,
        "exact": aupro,
        "streaming": streaming_aupro,
    }
    values: dict[str, float] = {}

    def measure(name: str) -> None:
        values[name] = ways[name](maps, masks)

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with threadpool_limits(1):
        cv2.setNumThreads(1)
        for turn in range(turns):
            for name in list(ways)[turn % 3 :] + list(ways)[: turn % 3]:
                times[name].append(clock(partial(measure, name)))
    reference = np.array(times["published"])
    exact, streaming = (Pairs(reference, np.array(times[name])) for name in ("exact", "streaming"))
    return Timed(exact, streaming, values)


def memory_table(forms: Mapping[str, Counted]) -> str:
    """One row per form."""
    header = ["form", "images", "categories", "peak RSS", "of it before", "ms per map"]
    rows = [
        [
            name,
            f"{one.images:,}",
            str(len(one.metrics)),
            f"**{one.peak / 2**20:,.0f} MiB**",
            f"{one.before / 2**20:,.0f} MiB",
            f"{1000 * one.seconds / one.images:.0f}",
        ]
        for name, one in forms.items()
    ]
    return markdown_table(header, rows)


def difference_table(exact: Counted, streaming: Counted) -> str:
    """One row per metric: how far the forms are apart in the category where they are farthest, and where."""
    names = list(next(iter(exact.metrics.values())))
    rows = []
    for name in names:
        apart = {
            key: _difference(exact.metrics[key][name], streaming.metrics[key][name]) for key in exact.metrics
        }
        worst = max(apart, key=lambda key: apart[key])
        rows.append([name, f"{apart[worst]:.1e}", worst, f"{exact.metrics[worst][name]:.5f}"])
    return markdown_table(["metric", "largest difference", "in", "exact value there"], rows)


def speed_table(timed: Timed) -> str:
    """One row per way."""
    published = timed.values["published"]
    slow = np.median(timed.exact.reference[:, 0])
    rows = [["published", "1", "", "", f"{published:.9f}", "", f"{slow:.1f}"]]
    for name, pairs in (("exact", timed.exact), ("streaming", timed.streaming)):
        low, high = pairs.spread
        cpu = np.median(pairs.reference[:, 1]) / np.median(pairs.ours[:, 1])
        value, seconds = timed.values[name], np.median(pairs.ours[:, 0])
        cells = [f"**{pairs.ratio:.0f}**", f"{low:.0f}-{high:.0f}", f"{cpu:.0f}", f"{value:.9f}"]
        rows.append([name, *cells, f"{abs(value - published):.1e}", f"{seconds:.2f}"])
    return markdown_table(["AUPRO", "ratio", "10-90 %", "CPU-time ratio", "value", "differs by", "s"], rows)


def _difference(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    return abs(one - other)


def main(
    size: Annotated[int, typer.Option(min=70, help="Side of the maps, in pixels.")] = 518,
    images: Annotated[int, typer.Option(min=3, help="Maps on which AUPRO is timed.")] = 20,
    turns: Annotated[int, typer.Option(min=1, help="Timed calls of each way, in turn.")] = 3,
    json: Annotated[Path | None, typer.Option(help="Also write every number to this file.")] = None,
) -> None:
    """Count MVTec AD's number of drawn maps in both forms, and time AUPRO against the published steps."""
    machine = describe_machine()
    forms = {name: in_own_process(name == "exact", size, MVTEC) for name in ("streaming", "exact")}
    timed = time_aupro(images=images, size=size, turns=turns)
    tables = memory_table(forms), difference_table(forms["exact"], forms["streaming"]), speed_table(timed)
    typer.echo("\n\n".join((machine_line(machine), *tables)))
    record: dict[str, object] = {"machine": machine, "size": size, "images": images, "turns": turns}
    record |= {name: asdict(one) for name, one in forms.items()}
    seconds = {
        "published": timed.exact.reference,
        "exact": timed.exact.ours,
        "streaming": timed.streaming.ours,
    }
    record |= {"aupro": timed.values, "aupro_s": {name: list(all_[:, 0]) for name, all_ in seconds.items()}}
    write_json(json, record)


if __name__ == "__main__":
    typer.run(main)

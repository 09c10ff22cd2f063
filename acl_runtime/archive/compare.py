"""Compare what two bundles say of one archive, a few rows at a time in memory."""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.parquet import COLUMNS, iter_rows
from acl_runtime.archive.record import ArchiveRun
from acl_runtime.archive.run import result_name
from acl_runtime.archive.shard import map_path
from acl_runtime.archive.status import read_status
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.regions import Region
from acl_runtime.scoring.rule import Rule
from acl_runtime.text.names import printable, table_cell

WORDS = {None: "not judged", False: "OK", True: "NG"}
MOST = 12  # pictures of a kind that are kept to be shown
_CSV = (
    "path",
    "before",
    "after",
    "score_before",
    "score_after",
    "peak_before",
    "peak_after",
    "margin_change",
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A row of results.

    Attributes:
        path: Of the picture.
        score: Probability of a defect; None for a picture that could not be judged, as what follows.
        peak: Of its map.
        is_anomalous: Whether it is NG.
        rule: By which.
        regions_json: Of the map, in the picture's own pixels; see `regions`.
        error: Why it could not be judged.
        map: Where its map lies, if maps were kept.
    """

    path: str
    score: float | None
    peak: float | None
    is_anomalous: bool | None
    rule: Rule | None
    regions_json: str | None
    error: str | None
    map: Path | None

    @property
    def regions(self) -> tuple[Region, ...]:
        """Of the map."""
        return tuple(Region(**region) for region in json.loads(self.regions_json or "[]"))

    @property
    def margin(self) -> float:
        """Distance from the other verdict, in log-odds; see `Rule.margin`."""
        assert self.rule is not None
        assert self.score is not None
        assert self.peak is not None
        return self.rule.margin(self.score, self.peak)


@dataclass(frozen=True)
class Pair:
    """A picture, judged by both."""

    before: Judged
    after: Judged

    @property
    def change(self) -> float | None:
        """How far the margin moved, in log-odds, positive towards NG; None unless both judged it."""
        if self.before.score is None or self.after.score is None:
            return None
        return self.after.margin - self.before.margin

    @property
    def kind(self) -> str:
        """Such as "OK to NG"; verdicts that stayed are "same verdict"."""
        one, other = WORDS[self.before.is_anomalous], WORDS[self.after.is_anomalous]
        return "same verdict" if one == other else f"{one} to {other}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs say.

    Attributes:
        before: The first run.
        after: The second.
        counts: Pictures by (before, after), each one of `WORDS`.
        both: Pictures that both judged.
        mean_score_change: Mean of the score's absolute change over these; 0 if there are none.
        most_score_change: The largest.
        largest: By kind, the pairs whose margins moved most, that one first.
    """

    before: ArchiveRun
    after: ArchiveRun
    counts: dict[tuple[str, str], int]
    both: int
    mean_score_change: float
    most_score_change: float
    largest: dict[str, list[Pair]]

    @property
    def changed(self) -> int:
        """Pictures that have another verdict, or that only one could judge."""
        return sum(count for (one, other), count in self.counts.items() if one != other)


@dataclass
class _Tally:
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    both: int = 0
    moved: float = 0.0
    most: float = 0.0
    heaps: dict[str, list[tuple[float, int, Pair]]] = field(default_factory=dict)

    def add(self, number: int, pair: Pair) -> None:
        place = WORDS[pair.before.is_anomalous], WORDS[pair.after.is_anomalous]
        self.counts[place] = self.counts.get(place, 0) + 1
        if pair.change is None or pair.before.score is None or pair.after.score is None:
            return
        moved = abs(pair.after.score - pair.before.score)
        self.both, self.moved, self.most = self.both + 1, self.moved + moved, max(self.most, moved)
        heap = self.heaps.setdefault(pair.kind, [])
        entry = (abs(pair.change), -number, pair)  # of two that are alike the first comes first
        (heapq.heappush if len(heap) < MOST else heapq.heappushpop)(heap, entry)

    def largest(self) -> dict[str, list[Pair]]:
        return {kind: [pair for *_, pair in sorted(heap, reverse=True)] for kind, heap in self.heaps.items()}


def compare_archives(before: Folder, after: Folder, *, table: Path | None = None) -> Comparison:
    """Compare two folders of results on the same list of pictures.

    Args:
        before: The first.
        after: The second.
        table: CSV file for every picture whose verdict changed.

    Raises:
        InputError: One is not complete, or they are about different pictures.
    """
    runs = tuple(_complete(folder) for folder in (before, after))
    if runs[0].plan.sha256 != runs[1].plan.sha256:
        raise InputError(
            f"{after.name}: is about other pictures than {before.name} ({runs[1].plan.pictures} and "
            f"{runs[0].plan.pictures}); judge the same list with both bundles"
        )
    tally = _Tally()
    pairs = map(Pair, _rows(before, runs[0]), _rows(after, runs[1]))
    if table is None:
        for number, pair in enumerate(pairs):
            tally.add(number, pair)
    else:
        with atomic_file(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_CSV)
            for number, pair in enumerate(pairs):
                tally.add(number, pair)
                if pair.before.is_anomalous is not pair.after.is_anomalous:
                    writer.writerow(_cells(pair))
    return Comparison(
        before=runs[0],
        after=runs[1],
        counts=tally.counts,
        both=tally.both,
        mean_score_change=tally.moved / max(tally.both, 1),
        most_score_change=tally.most,
        largest=tally.largest(),
    )


def comparison_text(comparison: Comparison) -> str:
    """For a person: how many of which verdict became which, and the pictures that moved most."""
    counts, total = comparison.counts, comparison.before.plan.pictures
    lines = [
        f"{total} pictures, {comparison.changed} with another verdict",
        *(f"  {one} to {other}: {count}" for (one, other), count in sorted(counts.items()) if one != other),
        f"score: moved by {comparison.mean_score_change:.4f} on average, {comparison.most_score_change:.4f} at most",
    ]
    changed = [pair for pair in _by_change(comparison) if pair.kind != "same verdict"]
    lines += [f"  {pair.change:+.2f}  {pair.kind}  {printable(pair.before.path)}" for pair in changed[:MOST]]
    return "\n".join(lines)


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """For a script."""
    return {
        "pictures": comparison.before.plan.pictures,
        "changed": comparison.changed,
        "counts": [
            {"before": one, "after": other, "pictures": count}
            for (one, other), count in sorted(comparison.counts.items())
        ],
        "mean_score_change": comparison.mean_score_change,
        "most_score_change": comparison.most_score_change,
    }


def _by_change(comparison: Comparison) -> list[Pair]:
    pairs = [pair for kind in comparison.largest.values() for pair in kind]
    return sorted(pairs, key=lambda pair: -abs(pair.change or 0))


def _complete(folder: Folder) -> ArchiveRun:
    status = read_status(folder)
    if not status.is_complete:
        missing = status.run.plan.shards - status.shards
        raise InputError(
            f"{folder.name}: {missing} of {status.run.plan.shards} shards are missing; run acl archive to its end first"
        )
    return status.run


def _rows(folder: Folder, run: ArchiveRun) -> Iterator[Judged]:
    for shard in range(run.plan.shards):
        name = result_name(shard)
        with folder.open(name) as file:
            for number, row in enumerate(iter_rows(file, tuple(COLUMNS), f"{folder.name}/{name}")):
                yield _judged(dict(zip(COLUMNS, row, strict=True)), run, shard, number)


def _judged(row: dict[str, Any], run: ArchiveRun, shard: int, number: int) -> Judged:
    is_judged = row["error"] is None
    return Judged(
        path=row["path"],
        score=row["score"],
        peak=row["peak"],
        is_anomalous=row["is_anomalous"],
        rule=Rule(row["threshold"], row["peak_threshold"]) if is_judged else None,
        regions_json=row["regions"],
        error=row["error"],
        map=map_path(run.maps, shard, number) if run.maps and is_judged else None,
    )


def _cells(pair: Pair) -> Sequence[str]:
    before, after = pair.before, pair.after
    numbers = (before.score, after.score, before.peak, after.peak, pair.change)
    words = (WORDS[before.is_anomalous], WORDS[after.is_anomalous])
    return [table_cell(before.path), *words, *("" if each is None else repr(each) for each in numbers)]

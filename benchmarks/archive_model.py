"""Workers that judge shards and fail at random: how busy they are, and what a failure costs, by the shard's size.

    python -m benchmarks.archive_model

A model of `acl archive`, not a run of it: as many workers as there are take shards from one list; a worker that fails
loses what it has of its shard, which goes to the end of the list, and is away until another has opened its engine.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What is modelled."""

    name: str
    pictures: int
    workers: int
    per_s: float  # pictures a second, of a worker; each shard's own pace varies by 20 %
    fails_each_s: float  # mean time between failures of a worker
    opens_s: float  # until another worker has its engine
    overhead_s: float = 0.05  # of a shard: to be handed over and written


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    busy: float  # share of the workers' time until the end in which work was done that counts
    failures: int
    lost: float  # mean share of a shard that a failure cost
    most_lost: float  # largest share of a shard that a failure cost
    judged_twice: int  # shards in the results more than once


def simulate(case: Case, shard: int, *, seed: int = 0) -> Outcome:
    """Run the model."""
    chance = random.Random(seed)
    waiting = deque(range(-(-case.pictures // shard)))
    free = [(case.opens_s, worker) for worker in range(case.workers)]  # when, who
    heapq.heapify(free)
    fails = [chance.expovariate(1 / case.fails_each_s) for _ in range(case.workers)]
    useful, end, done, lost = 0.0, 0.0, dict[int, int](), list[float]()
    while waiting:
        now, worker = heapq.heappop(free)
        number = waiting.popleft()
        size = min(shard, case.pictures - number * shard)
        takes = size / case.per_s * chance.uniform(0.8, 1.2)
        if now + takes + case.overhead_s > fails[worker] > now:
            lost.append(min(1.0, (fails[worker] - now) / takes))
            waiting.append(number)
            back = fails[worker] + case.opens_s
        else:
            done[number] = done.get(number, 0) + 1
            useful += takes
            back = now + takes + case.overhead_s
        end = max(end, back)
        if fails[worker] < back:
            fails[worker] = back + chance.expovariate(1 / case.fails_each_s)
        heapq.heappush(free, (back, worker))
    return Outcome(
        busy=useful / (end * case.workers),
        failures=len(lost),
        lost=sum(lost) / max(len(lost), 1),
        most_lost=max(lost, default=0.0),
        judged_twice=sum(count > 1 for count in done.values()),
    )


CASES = (
    Case("4 CPU workers, 0.5/s", 100_000, 4, 0.5, 24 * 3600, 20),
    Case("8 GPUs, 100/s", 1_000_000, 8, 100, 3600, 60),
    Case("64 GPUs, 200/s, preemptible", 100_000_000, 64, 200, 2 * 3600, 120),
)
SHARDS = (50, 500, 5_000, 50_000)


def table(cases: Sequence[Case] = CASES, shards: Sequence[int] = SHARDS) -> str:
    """All cases in Markdown."""
    lines = [
        "| case | pictures a shard | shards | busy | failures | lost by a failure, mean and most |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for case in cases:
        for shard in shards:
            found = simulate(case, shard)
            most = shard / case.per_s
            lines.append(
                f"| {case.name} | {shard} | {-(-case.pictures // shard)} | {100 * found.busy:.1f} % | {found.failures} "
                f"| {found.lost * most:.0f} s, {found.most_lost * most:.0f} s |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

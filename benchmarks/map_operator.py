"""From patches to a map: the published steps against two matrix products. `python -m benchmarks.map_operator`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from acl_runtime.scoring.maps import map_operator, patches_to_map
from acl_train.config import BLUR_SIGMA, TEMPERATURE
from acl_train.reference import published_maps
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Pairs, clock, in_turn

INPUTS = 8  # different ones, taken in turn


@dataclass(frozen=True)
class Case:
    """Sizes of one frame's map."""

    image_size: int
    grid: int
    layers: int


CASES = (Case(518, 37, 4), Case(518, 37, 1), Case(224, 28, 4), Case(224, 28, 1))


@dataclass(frozen=True)
class Measured:
    """One case at one number of threads.

    Attributes:
        case: The sizes.
        threads: Of torch and of numpy's matrix product alike.
        pairs: The times.
        worst_difference: Largest absolute difference of any pixel of any input's map, which lies in [0, 1].
        operator_ms: Building the operator, once per process and not in the times.
    """

    case: Case
    threads: int
    pairs: Pairs
    worst_difference: float
    operator_ms: float


def draw_logits(case: Case, *, seed: int) -> np.ndarray:
    """(INPUTS, 1, L, G, G) float32 log-odds with the spread of real ones."""
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((INPUTS, 1, case.layers, case.grid, case.grid), dtype=np.float32)


def as_cosines(logits: np.ndarray) -> Tensor:
    """What the published steps start from: each patch's cosines to NORMAL and ANOMALOUS.

    Args:
        logits: (1, L, G, G) float32, log-odds.

    Returns:
        (1, L, G·G, 2) float32, so that softmax(cosines / temperature) has these log-odds.
    """
    half = torch.from_numpy(logits).flatten(2) * (TEMPERATURE / 2)
    return torch.stack([-half, half], dim=-1)


def measure(case: Case, *, threads: int, turns: int, seed: int = 0) -> Measured:
    """Time both ways from a patch's similarities to the smoothed map, batch 1, as the published code runs.

    The published steps are `published_maps` as they stand, given the cosines as embeddings in two dimensions
    and the unit vectors as texts: so the dot products, which are not timed on our side, are next to nothing.
    """
    logits = draw_logits(case, seed=seed)
    cosines, texts = [as_cosines(one) for one in logits], torch.eye(2)
    settings = {"image_size": case.image_size, "blur_sigma": BLUR_SIGMA}

    def reference(turn: int) -> np.ndarray:
        return published_maps(cosines[turn % INPUTS], texts[None], **settings)  # type: ignore[arg-type]

    def ours(turn: int) -> np.ndarray:
        return patches_to_map(logits[turn % INPUTS], **settings)  # type: ignore[arg-type]

    map_operator.cache_clear()
    operator_ms = 1000 * clock(lambda: map_operator(case.grid, case.image_size, BLUR_SIGMA)).wall_s
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with threadpool_limits(threads, "blas"):
        pairs = in_turn(reference, ours, turns=turns)
    torch.set_num_threads(before)
    worst = max(float(np.abs(reference(turn) - ours(turn)).max()) for turn in range(INPUTS))
    return Measured(case, threads, pairs, worst, operator_ms)


def to_table(measured: Sequence[Measured]) -> str:
    """One row per measurement."""
    header = ["map", "layers", "threads", "ratio", "10-90 %", "fastest tenths", "worst difference", "ms"]
    return markdown_table(header, [_cells(one) for one in measured])


def _cells(one: Measured) -> list[str]:
    low, high = one.pairs.spread
    milliseconds = [1000 * float(np.median(times[:, 0])) for times in (one.pairs.reference, one.pairs.ours)]
    return [
        f"{one.case.image_size} px from {one.case.grid}²",
        str(one.case.layers),
        str(one.threads),
        f"**{one.pairs.ratio:.1f}**",
        f"{low:.1f}-{high:.1f}",
        f"{one.pairs.quiet_ratio:.1f}",
        f"{one.worst_difference:.1e}",
        f"{milliseconds[0]:.2f} → {milliseconds[1]:.2f}",
    ]


def to_record(one: Measured) -> dict[str, object]:
    """A measurement for the JSON file."""
    return asdict(one.case) | {
        "threads": one.threads,
        "ratio": one.pairs.ratio,
        "ratio_p10_p90": one.pairs.spread,
        "fastest_tenths_ratio": one.pairs.quiet_ratio,
        "worst_difference": one.worst_difference,
        "operator_ms": one.operator_ms,
        "reference_s": one.pairs.reference[:, 0].tolist(),
        "ours_s": one.pairs.ours[:, 0].tolist(),
    }


def main(
    turns: Annotated[int, typer.Option(min=1, help="Timed calls of each way, in turn.")] = 100,
    json: Annotated[Path | None, typer.Option(help="Also write every time to this file.")] = None,
) -> None:
    """Time the published post-processing against the map operator, at one thread and at torch's default."""
    machine = describe_machine()
    threads = sorted({1, torch.get_num_threads()})
    measured = [measure(case, threads=count, turns=turns) for case in CASES for count in threads]
    typer.echo(f"{machine_line(machine)}\n\n{to_table(measured)}")
    write_json(json, {"machine": machine, "turns": turns, "rows": [to_record(one) for one in measured]})


if __name__ == "__main__":
    typer.run(main)

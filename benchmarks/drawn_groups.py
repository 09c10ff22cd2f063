"""Drawn products to learn prompts from, and others to judge, in groups by what was never seen before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.data.datasets import Sample, read_dataset
from acl_train.tiny.corpus import (
    DEFECTS,
    FAMILIES,
    HELD_OUT_DEFECTS,
    HELD_OUT_FAMILIES,
    LEARNING_DEFECTS,
    LEARNING_FAMILIES,
    draw_dataset,
)

DRAWN_SIZE = 256
OTHER_FAMILIES = tuple(name for name in FAMILIES if name not in {*HELD_OUT_FAMILIES, *LEARNING_FAMILIES})
KNOWN_DEFECTS = tuple(name for name in DEFECTS if name not in HELD_OUT_DEFECTS)
MEANINGS = {
    "a": "families that occur in pre-training but not in prompt learning",
    "b": "families that occur in neither",
    "c": "families as in a, defects that occur in neither",
    "d": "families and defects that occur in neither",
}


@dataclass(frozen=True)
class Group:
    """Samples that are judged together; metrics are per category."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """The products, in the order of the samples."""
        return tuple(dict.fromkeys(sample.category for sample in self.samples))


@dataclass(frozen=True)
class Counts:
    """Pictures per family; held-out families, being fewer, get twice as many to be judged.

    Attributes:
        learning: Good, and as many defective, that prompts are learned from.
        good: Good, to be judged.
        known: With defects that occurred in pre-training.
        held_out: With defects that did not.
    """

    learning: int = 8
    good: int = 8
    known: int = 8
    held_out: int = 4


def draw_learning(root: Path, counts: Counts, *, seed: int = 1) -> list[Sample]:
    """Families and defects that both occur in pre-training."""
    _draw(root, LEARNING_FAMILIES, LEARNING_DEFECTS, counts.learning, counts.learning, seed)
    return list(read_dataset(root).samples)


def draw_groups(root: Path, counts: Counts, *, seed: int = 2) -> list[Group]:
    """Families that no prompt is learned from; groups share their good pictures."""
    for families, times in ((OTHER_FAMILIES, 1), (HELD_OUT_FAMILIES, 2)):
        _draw(root, families, KNOWN_DEFECTS, times * counts.good, times * counts.known, seed)
        _draw(root, families, HELD_OUT_DEFECTS, 0, times * counts.held_out, seed + 1)
    samples = read_dataset(root).samples
    chosen = {
        "a": (OTHER_FAMILIES, KNOWN_DEFECTS),
        "b": (HELD_OUT_FAMILIES, KNOWN_DEFECTS),
        "c": (OTHER_FAMILIES, HELD_OUT_DEFECTS),
        "d": (HELD_OUT_FAMILIES, HELD_OUT_DEFECTS),
    }
    return [Group(name, _select(samples, *names)) for name, names in chosen.items()]


def read_group(root: Path, *, most: int, needs_masks: bool = True) -> Group:
    """A data set on disk, evenly thinned to `most` samples.

    Raises:
        ValueError: If it has no masks and needs them.
    """
    dataset = read_dataset(root)
    if needs_masks and not dataset.has_masks:
        raise ValueError(f"{root}: has no masks; pixels cannot be judged without")
    return Group(dataset.name, thin(dataset.samples, most))


def thin(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    """Evenly spaced ones, so that each defect keeps its share."""
    count = min(most, len(samples))
    return tuple(samples[index * len(samples) // count] for index in range(count))


def _draw(
    root: Path, families: Sequence[str], defects: Sequence[str], good: int, defective: int, seed: int
) -> None:
    """Each family begins with another defect, so that all occur however few pictures there are of each."""
    for number, family in enumerate(families):
        first = number * defective % len(defects)
        draw_dataset(
            root,
            families=[family],
            defects=[*defects[first:], *defects[:first]],
            good=good,
            defective=defective,
            size=DRAWN_SIZE,
            seed=seed,
        )


def _select(samples: Sequence[Sample], families: Sequence[str], defects: Sequence[str]) -> tuple[Sample, ...]:
    wanted = {"good", *defects}
    return tuple(sample for sample in samples if sample.category in families and sample.defect in wanted)

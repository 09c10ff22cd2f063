"""Prompt learning with and without the feature cache, epoch by epoch. `python -m benchmarks.feature_cache`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from acl_runtime.data.datasets import Sample, read_dataset
from acl_train.clip import CLIP
from acl_train.config import TINY_IMAGE_SIZE, LearnConfig
from acl_train.features import Features, cached_features, encode_images, load_images
from acl_train.learn import Examples, learn_epoch, new_learner
from acl_train.methods import make_vision_config
from acl_train.tiny.corpus import LEARNING_FAMILIES, draw_dataset
from acl_train.train import pack_masks
from acl_train.weights import TINY_PATH, Weights, build_clip, load_weights, weights_of_open_clip
from benchmarks.machine import describe_machine, machine_line
from benchmarks.tables import markdown_table, write_json
from benchmarks.timing import Clock, clock

ENCODINGS = 3  # of all images: before the epochs, half-way and after, as one alone says little


@dataclass(frozen=True)
class Run:
    """One way of learning: the losses of every step and the time of every epoch."""

    losses: list[float]
    epochs: list[Clock]


@dataclass(frozen=True)
class Comparison:
    """Learning the same thing three ways, their epochs in turn.

    Attributes:
        backbone: Whose vision tower it is.
        image_size: Side of the network input, in pixels.
        images: How many there are.
        uncached: The vision tower run in every epoch, as in the published code.
        single: With a cache in fp32.
        half: With a cache in fp16, the default of `acl train`.
        encodings: Times of the pass that fills the cache, from image files to the file of features.
    """

    backbone: str
    image_size: int
    images: int
    uncached: Run
    single: Run
    half: Run
    encodings: list[Clock]

    def ratio(self, run: Run) -> float:
        """How many times less wall-clock time it takes with a cache, filling it included."""
        filling = median(one.wall_s for one in self.encodings)
        return sum(one.wall_s for one in self.uncached.epochs) / (filling + sum(o.wall_s for o in run.epochs))

    def cpu_ratio(self, run: Run) -> float:
        """The same by CPU time."""
        filling = median(one.cpu_s for one in self.encodings)
        return sum(one.cpu_s for one in self.uncached.epochs) / (filling + sum(o.cpu_s for o in run.epochs))

    def difference(self, run: Run) -> float:
        """Largest absolute difference of any step's loss from that without a cache."""
        return max(abs(a - b) for a, b in zip(run.losses, self.uncached.losses, strict=True))


class Stepwise:
    """A learner that goes on by an epoch at a time and keeps losses and times."""

    def __init__(self, clip: CLIP, examples: Examples, config: LearnConfig) -> None:
        self._arguments = clip, new_learner(clip, config), examples, config
        self.run = Run([], [])

    def epoch(self) -> None:
        """Learn for one more epoch."""
        self.run.epochs.append(clock(self._learn))

    def _learn(self) -> None:
        self.run.losses.extend(step["loss"] for step in learn_epoch(*self._arguments))


def compare(
    weights: Weights, samples: Sequence[Sample], config: LearnConfig, *, image_size: int, cache: Path
) -> Comparison:
    """Learn with and without a cache: same images, seed and steps.

    Args:
        weights: The frozen CLIP.
        samples: With masks, so many that the batches of learning are as large as those of encoding; then the
            tower computes the same numbers in both.
        config: How to learn.
        image_size: Side of the network input, in pixels.
        cache: An empty folder.
    """
    depth = weights.architecture.vision_layers
    vision = make_vision_config(weights.backbone, depth, recipe=config.recipe, image_size=image_size)
    clip = build_clip(weights, vision)
    labels = torch.tensor([sample.label for sample in samples])
    masks = pack_masks(samples, image_size)

    def encode(folder: str, *, half: bool) -> Features:
        return cached_features(clip, samples, weights_sha256=weights.sha256, cache=cache / folder, half=half)

    def encode_anew(indices: Tensor) -> tuple[Tensor, Tensor]:
        return encode_images(clip, load_images([samples[i] for i in indices.tolist()], image_size=image_size))

    encodings = [clock(lambda: encode("single", half=False))]
    batches = [encode_anew, encode("single", half=False).batch, encode("half", half=True).batch]
    learners = [Stepwise(clip, Examples(batch, labels, masks), config) for batch in batches]
    for epoch in range(config.epochs):
        if epoch == config.epochs // 2:
            encodings.append(clock(lambda: encode("again", half=False)))
        for learner in learners if epoch % 2 else reversed(learners):
            learner.epoch()
    encodings.append(clock(lambda: encode("at last", half=False)))
    uncached, single, half = (learner.run for learner in learners)
    return Comparison(weights.backbone, image_size, len(samples), uncached, single, half, encodings)


def random_weights(backbone: str) -> Weights:
    """An open_clip architecture with random weights: they do not change how long it takes."""
    import open_clip

    torch.manual_seed(0)
    return weights_of_open_clip(open_clip.create_model(backbone, pretrained=None), backbone, "random")


def draw_samples(root: Path, *, images: int) -> list[Sample]:
    """Half of them good, half cracked, each pair of another product."""
    draw_dataset(
        root,
        families=LEARNING_FAMILIES[: images // 2],
        defects=["crack"],
        good=1,
        defective=1,
        size=256,
        seed=0,
    )
    return list(read_dataset(root).samples)


def to_table(comparisons: Sequence[Comparison]) -> str:
    """Two rows per comparison: one for each precision of the cache."""
    header = [
        "backbone",
        "px",
        "images",
        "epochs",
        "cache",
        "ratio",
        "CPU-time ratio",
        "loss differs by",
        "s",
    ]
    return markdown_table(header, [row for one in comparisons for row in _rows(one)])


def _rows(one: Comparison) -> list[list[str]]:
    return [
        [
            one.backbone,
            str(one.image_size),
            str(one.images),
            str(len(run.epochs)),
            name,
            f"**{one.ratio(run):.1f}**",
            f"{one.cpu_ratio(run):.1f}",
            f"{difference:.1e}" if (difference := one.difference(run)) else "0 (exactly)",
            _seconds(one, run),
        ]
        for name, run in (("fp32", one.single), ("fp16", one.half))
    ]


def _seconds(one: Comparison, run: Run) -> str:
    uncached, cached, filling = (
        _range(clocks) for clocks in (one.uncached.epochs, run.epochs, one.encodings)
    )
    return f"{uncached} → {cached} an epoch; {filling} to fill"


def _range(clocks: Sequence[Clock]) -> str:
    """Median, least and most."""
    seconds = [clock.wall_s for clock in clocks]
    return f"{median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


def to_record(one: Comparison) -> dict[str, Any]:
    """A comparison for the JSON file, with every loss and every time."""
    named = {"uncached": one.uncached, "fp32": one.single, "fp16": one.half}
    runs = {name: {"losses": run.losses, "epochs_s": run.epochs} for name, run in named.items()}
    return {
        "backbone": one.backbone,
        "image_size": one.image_size,
        "images": one.images,
        "ratio": {name: one.ratio(named[name]) for name in ("fp32", "fp16")},
        "cpu_ratio": {name: one.cpu_ratio(named[name]) for name in ("fp32", "fp16")},
        "largest_loss_difference": {name: one.difference(named[name]) for name in ("fp32", "fp16")},
        "encodings_s": one.encodings,
        "runs": runs,
    }


def main(
    backbone: Annotated[str, typer.Option(help="open_clip architecture, with random weights.")] = "ViT-B-16",
    image_size: Annotated[list[int] | None, typer.Option(help="Side in pixels; may be repeated.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Drawn ones; a multiple of 8 fills the batches.")] = 16,
    epochs: Annotated[int, typer.Option(min=2, help="Of each way of learning.")] = 15,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch; its own default if not given.")
    ] = None,
    tiny: Annotated[bool, typer.Option(help="Measure the embedded backbone too.")] = TINY_PATH.is_file(),
    json: Annotated[Path | None, typer.Option(help="Also write every time and loss to this file.")] = None,
) -> None:
    """Time prompt learning without and with the feature cache, and compare the losses step by step."""
    torch.set_num_threads(threads or torch.get_num_threads())
    machine = describe_machine() | {"threads": str(torch.get_num_threads())}
    config = LearnConfig(epochs=epochs)
    cases = [(random_weights(backbone), size) for size in image_size or [224]]
    if tiny:
        cases.append((load_weights("tiny"), TINY_IMAGE_SIZE))
    with TemporaryDirectory() as folder:
        samples = draw_samples(Path(folder) / "drawn", images=images)
        compared = [
            compare(weights, samples, config, image_size=size, cache=Path(folder) / str(number))
            for number, (weights, size) in enumerate(cases)
        ]
    typer.echo(f"{machine_line(machine)}; {machine['threads']} torch threads\n\n{to_table(compared)}")
    write_json(json, {"machine": machine, "comparisons": [to_record(one) for one in compared]})


if __name__ == "__main__":
    typer.run(main)

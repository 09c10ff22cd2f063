"""What `acl train` does: data sets in, learned prompts out, with a log, checkpoints and resumption."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acl_runtime.data.check_masks import check_masks
from acl_runtime.data.datasets import Dataset, Sample, read_dataset, require_both
from acl_runtime.files.errors import InputError, UserError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.text.names import category_words
from acl_train.config import LearnConfig, VisionConfig, check_image_size
from acl_train.distributed import ALONE, Group
from acl_train.features import cached_features, reading_facts
from acl_train.learn import (
    Examples,
    Learner,
    learn_epoch,
    learner_tensors,
    new_learner,
    pack_mask,
    restore_learner,
)
from acl_train.log import LossLog, check_log
from acl_train.mosaics import Picture, draw_mosaics, load_picture_mask
from acl_train.prompts import (
    Prompts,
    PromptsConfig,
    check_output,
    load_prompts_tensors,
    make_prompts_config,
    save_prompts,
)
from acl_train.weights import Network, Weights, build_network

Progress = Callable[[str, int, int], None]  # (what, done, total)


class NothingToLearnError(UserError):
    """A process that helped to fill the feature cache has no part in what comes then; nothing is wrong."""


@dataclass(frozen=True)
class TrainFiles:
    """Where a training run writes, all named after the prompts file.

    Attributes:
        output: The prompts, written when the last epoch is done.
        cache: Folder of the feature caches; shared by all runs.
    """

    output: Path
    cache: Path

    @property
    def log(self) -> Path:
        """Losses of every step, one JSON object a line."""
        return self.output.with_suffix(".log.jsonl")

    @property
    def checkpoints(self) -> Path:
        """A folder with the prompts and the optimiser after every epoch."""
        return self.output.with_suffix(".checkpoints")

    def checkpoint(self, epoch: int) -> Path:
        """The file written after `epoch` epochs; itself a prompts file that `acl export` takes."""
        return self.checkpoints / f"epoch_{epoch:03d}.safetensors"

    def finished(self) -> list[Path]:
        """The checkpoints that are there, by their epochs; files of other names are somebody else's."""
        found = (path for path in self.checkpoints.glob("epoch_*.safetensors") if epoch_of(path))
        return sorted(found, key=epoch_of)


def epoch_of(checkpoint: Path) -> int:
    """The number in a checkpoint's name; 0 if it is no checkpoint's."""
    found = re.fullmatch(r"epoch_([0-9]{3,9})", checkpoint.stem)
    return 0 if found is None else int(found[1])


def train(
    data: Sequence[Path],
    files: TrainFiles,
    weights: Weights,
    vision: VisionConfig,
    config: LearnConfig,
    *,
    device: str = "cpu",
    half_cache: bool = True,
    resume: bool = False,
    allow_blank_masks: bool = False,
    reading: ReadSettings | None = None,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda message: None,
    group: Group = ALONE,
) -> Prompts:
    """Learn prompts and write them.

    Processes of a group fill the feature cache together. VAND's projections they learn together, too; what else is
    learned is one small text tower on cached features, which the first process learns alone.

    Args:
        data: Folders, each in a layout that `read_dataset` knows; with defects and good parts in all of them.
        files: Where to write.
        weights: The frozen CLIP.
        vision: How its vision tower is read out.
        config: How to learn.
        device: A torch device.
        half_cache: Keep the tower's outputs in fp16; fp32 equals learning without a cache.
        resume: Go on after the last finished epoch, to the same result as an uninterrupted run.
        allow_blank_masks: Accept masks of defective parts that mark nothing.
        reading: How image files become pixels; None for the defaults.
        progress: Called with what is done, how many and of how many.
        say: Called with notices for the user.
        group: Processes that were given the same, see `join_group`.

    Raises:
        NothingToLearnError: This process of a group has done its part, the first one learns.
        FileExistsError: If checkpoints of an earlier run are there and `resume` is False.
        InputError: If the data, or a checkpoint to resume, do not fit; an output would replace something else; or the
            loss is not finite.
    """
    reading = reading or ReadSettings()
    check_output(files.output)
    check_log(files.log)
    _check_checkpoints(files, resume=resume)
    vision.check(weights.architecture.vision_layers)
    check_image_size(vision.image_size, weights.architecture.patch_size)
    datasets = [
        check_masks(
            read_dataset(root),
            image_size=vision.image_size,
            allow_blank=allow_blank_masks,
            settings=reading,
            progress=partial(progress, "reading masks"),
        )
        for root in data
    ]
    samples, has_masks = merge_samples(datasets, say)
    if not has_masks and "image" not in config.losses:
        raise InputError(
            f"{data[0]}: has no masks, and nothing else was to be learned from; add image to --losses, or masks"
        )
    facts = _facts(samples, config, has_masks) | reading_facts(reading)
    prompts_config = make_prompts_config(
        weights, vision, config.recipe.value, facts, method=config.method, words=config.words
    )
    clip = build_network(weights, vision).to(device)
    learner = _start(clip, files, prompts_config, config, resume)
    pictures: list[Picture] = [*samples, *draw_mosaics(samples, config.mosaics, seed=config.seed)]
    features = cached_features(
        clip,
        pictures,
        weights_sha256=weights.sha256,
        cache=files.cache,
        half=half_cache,
        reading=reading,
        progress=lambda done, total: progress("encoding images", done, total),
        group=group,
    )
    if config.learns != "projection":
        if not group.is_first:
            raise NothingToLearnError(
                f"rank {group.rank}: the feature cache is filled; what {config.method} learns is small, and rank 0 "
                "learns it alone, so this process ends"
            )
        group = ALONE
    labels = torch.tensor([picture.label for picture in pictures])
    masks = pack_masks(pictures, vision.image_size, reading) if has_masks else None
    names = [category_words(picture.category) for picture in pictures]
    examples = Examples(features.batch, labels, masks, names)
    _run_epochs(clip, learner, examples, config, files, prompts_config, progress, group)
    prompts = Prompts({name: tensor.detach() for name, tensor in learner.tensors.items()}, prompts_config)
    if group.is_first:
        save_prompts(files.output, prompts)
    return prompts


def merge_samples(datasets: Sequence[Dataset], say: Callable[[str], None]) -> tuple[list[Sample], bool]:
    """Return the samples of all data sets, and whether they have masks.

    Raises:
        InputError: If a data set lacks good or defective parts, or some have masks and some have none.
    """
    for dataset in datasets:
        require_both(dataset)
        for note in dataset.notes:
            say(f"{dataset.name}: {note}")
    if len({dataset.has_masks for dataset in datasets}) > 1:
        raise InputError(
            f"{_names(datasets, has_masks=False)}: has no masks while {_names(datasets, has_masks=True)} has; "
            "learn from data with masks, or from data without, not from both"
        )
    has_masks = datasets[0].has_masks
    if not has_masks:
        say("no masks in the data: only the image loss applies, so maps will be weaker than with masks")
    return [sample for dataset in datasets for sample in dataset.samples], has_masks


def pack_masks(
    samples: Sequence[Picture], image_size: int, reading: ReadSettings | None = None
) -> np.ndarray:
    """All masks at network resolution, bit-packed: (N, ceil(S·S / 8)) uint8."""
    masks = (load_picture_mask(each, image_size=image_size, reading=reading) for each in samples)
    return np.stack([pack_mask(mask) for mask in masks])


def _names(datasets: Sequence[Dataset], *, has_masks: bool) -> str:
    return ", ".join(str(dataset.root) for dataset in datasets if dataset.has_masks == has_masks)


def _facts(samples: Sequence[Sample], config: LearnConfig, has_masks: bool) -> dict[str, Any]:
    """What the prompts file says about its learning; a run resumes only where all of it is the same."""
    names = "\n".join(_name(sample) for sample in samples)
    return {
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "ctx_tokens": config.ctx_tokens,
        "deep_layers": config.deep_layers,
        "deep_tokens": config.deep_tokens,
        "learns": config.learns,
        "shared_ctx": config.shared_ctx,
        "losses": list(config.losses),
        "optimizer": config.optimizer,
        "mosaics": config.mosaics,
        "masks": has_masks,
        "images": len(samples),
        "defective": sum(sample.label for sample in samples),
        "categories": sorted({sample.category for sample in samples}),
        "data": hashlib.sha256(names.encode()).hexdigest(),
        "epochs": config.epochs,
    }


def _name(sample: Sample) -> str:
    rows = "" if sample.rows is None else f"[{sample.rows[0]}:{sample.rows[1]}]"
    return f"{sample.category}/{sample.defect}/{sample.path.name}{rows}"


def _start(
    clip: Network, files: TrainFiles, prompts_config: PromptsConfig, config: LearnConfig, resume: bool
) -> Learner:
    if not resume:
        return new_learner(clip, config)
    checkpoints = files.finished()
    tensors, earlier = load_prompts_tensors(checkpoints[-1])
    _check_same_run(checkpoints[-1], earlier, prompts_config)
    try:
        return restore_learner(clip, tensors, epoch_of(checkpoints[-1]), config)
    except InputError as error:
        raise InputError(f"{checkpoints[-1]}: {error}") from error


def _check_checkpoints(files: TrainFiles, *, resume: bool) -> None:
    """Raise unless there are checkpoints to resume, or none where nothing is to be resumed."""
    checkpoints = files.finished()
    if checkpoints and not resume:
        raise FileExistsError(
            f"{files.checkpoints}: holds {len(checkpoints)} epochs of an earlier run; pass --resume to go "
            "on, or another -o, or delete the folder"
        )
    if resume and not checkpoints:
        raise FileNotFoundError(f"{files.checkpoints}: no checkpoint to resume; run without --resume")


def _check_same_run(path: Path, earlier: PromptsConfig, now: PromptsConfig) -> None:
    then, wanted = {"mosaics": 0} | _flat(earlier), _flat(now)  # there were none once
    for name, value in wanted.items():
        if name != "epochs" and then.get(name) != value:  # more epochs are a reason to resume
            raise InputError(
                f"{path}: was learned with {name} {then.get(name)}, not {value}; resume with the same settings"
            )


def _flat(config: PromptsConfig) -> dict[str, Any]:
    fields = json.loads(config.to_json())
    return fields | fields.pop("learning") | fields.pop("vision")  # type: ignore[no-any-return]


def _run_epochs(
    clip: Network,
    learner: Learner,
    examples: Examples,
    config: LearnConfig,
    files: TrainFiles,
    prompts_config: PromptsConfig,
    progress: Progress,
    group: Group,
) -> None:
    steps = -(-len(examples.labels) // config.batch_size)
    with LossLog(files.log, keep_epochs=learner.epoch) if group.is_first else nullcontext() as log:
        while learner.epoch < config.epochs:
            epoch = learner.epoch + 1
            for step, losses in enumerate(learn_epoch(clip, learner, examples, config, group), start=1):
                if log is not None:
                    log.write(epoch, step, losses)
                progress("learning", (epoch - 1) * steps + step, config.epochs * steps)
            if group.is_first:
                prompts = Prompts(learner.tensors, prompts_config)
                save_prompts(files.checkpoint(epoch), prompts, learner_tensors(learner))

"""The commands that make prompts: learn them, or convert published ones."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.commands.options import MAX_MEGAPIXELS, Bits, Exif, MaxMegapixels, parse_reading
from acl_runtime.text.terminal import echo, note
from acl_train import options
from acl_train.config import LearnConfig, Recipe, blind_words
from acl_train.methods import (
    LEARNED,
    VECTORS_RATE,
    defaults_words,
    make_read_out,
    make_vision_config,
    with_options,
)

LEARN, METHOD = LearnConfig(), options.LearnedMethod("anomalyclip")  # the defaults
RECIPE = defaults_words("recipe")
EPOCHS, BATCHES, RATES = map(defaults_words, ("epochs", "batch_size", "learning_rate"))
CONTEXTS, DEEP = map(defaults_words, ("ctx_tokens", "deep_layers"))


def train(
    data: Annotated[list[Path], typer.Argument(help="Folders of labelled images.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    method: Annotated[
        options.LearnedMethod,
        typer.Option(
            help=f"What to learn, and how; the options below change it. {options.about(LEARNED)}.",
            rich_help_panel=options.LEARNING,
        ),
    ] = METHOD,
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            help="paper: four layers, λ 1; released: the last layer, λ 4.",
            show_default=RECIPE,
            rich_help_panel=options.LEARNING,
        ),
    ] = None,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
    attention: options.AttentionOf = "vv",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help=f"Passes over the data; {EPOCHS}.", rich_help_panel=options.LEARNING),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help=f"Images per step; {BATCHES}.", rich_help_panel=options.LEARNING)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0, help=f"Learning rate; {RATES}.", rich_help_panel=options.LEARNING)
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the first vectors and of the order of images.",
            rich_help_panel=options.LEARNING,
        ),
    ] = LEARN.seed,
    losses: options.Losses = None,
    word: Annotated[
        str | None,
        typer.Option(
            help="Word before the product's name in the anomalous prompt; damaged, for coop anomalous.",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = None,
    shared_context: Annotated[
        bool | None,
        typer.Option(
            "--shared-context/--own-context",
            help="Share one learned context between both prompts, or give each its own.",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = None,
    ctx_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Learnable tokens of the context; {CONTEXTS}.", rich_help_panel=options.ABLATIONS
        ),
    ] = None,
    deep_layers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Text blocks with learned tokens of their own; {DEEP}.",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = None,
    deep_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Learnable tokens per deep layer; {LEARN.deep_tokens}.",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = None,
    head_vectors: Annotated[
        options.HeadVectors | None,
        typer.Option(
            help="decoupled: no prompts, but vectors of their own for images and each layer's patches; "
            f"per-layer: for each layer's class token too, with --recipe paper; learning rate {VECTORS_RATE:g}.",
            show_default="shared; of timm:NAME decoupled",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = None,
    mosaics: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pictures made of four of one product to learn from too, about as many as images.",
            rich_help_panel=options.ABLATIONS,
        ),
    ] = LEARN.mosaics,
    device: Annotated[
        options.Device, typer.Option(help="Device that PyTorch computes on.")
    ] = options.Device.auto,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the feature cache; ~/.cache/anomalyclip-deploy.", show_default=False),
    ] = None,
    fp32_cache: Annotated[
        bool,
        typer.Option(
            "--fp32-cache", help="Keep features in float32: twice the disk, exactly as without a cache."
        ),
    ] = False,
    bits: Bits = None,
    exif: Exif = False,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    allow_blank_masks: Annotated[
        bool,
        typer.Option("--allow-blank-masks", help="Accept masks of defective parts that mark nothing."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue after the last finished epoch, to the same result.")
    ] = False,
) -> None:
    """Learn prompts, or what a method learns instead, on images of good and defective products.

    DATA is a data set as `acl eval` reads it: one of the paper's as downloaded,
    such as MVTec AD or VisA, one with a meta.json of the published code, or a
    folder with good and bad (and perhaps masks) inside. Beside the output lie a
    loss log and a checkpoint per epoch.

    Methods besides anomalyclip are those that the paper compares it with; the
    options from --attention on take it apart as its ablations do.

    Several GPUs or machines: torchrun --no-python --nproc-per-node N acl train ...
    fills the feature cache together; see docs/methods.md.
    """
    from acl_runtime.text.progress import progress_phases
    from acl_train.device import choose_device
    from acl_train.distributed import join_group, local_device
    from acl_train.train import NothingToLearnError, TrainFiles
    from acl_train.train import train as learn
    from acl_train.weights import load_weights, note_assumption

    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    if head_vectors is None and not loaded.architecture.text_layers:
        head_vectors = options.HeadVectors.decoupled
        note(f"{loaded.backbone} has no text tower, so vectors are learned: --head-vectors decoupled")
    config = with_options(
        method.value,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        seed=seed,
        losses=options.parse_losses(losses),
        word=word,
        shared_ctx=shared_context,
        ctx_tokens=ctx_tokens,
        deep_layers=deep_layers,
        deep_tokens=deep_tokens,
        mosaics=mosaics or None,
        learns=None if head_vectors in (None, options.HeadVectors.shared) else "vectors",
    )
    vision = make_read_out(
        loaded.backbone,
        loaded.architecture,
        method=method.value,
        recipe=config.recipe,
        image_size=image_size,
        layers=options.parse_numbers(layers),
        vv_from=vv_from,
        attention=attention,
        class_layers=head_vectors is options.HeadVectors.per_layer,
    )
    reading = parse_reading(bits, exif, max_megapixels)
    files = TrainFiles(output, cache or Path.home() / ".cache" / "anomalyclip-deploy")
    try:
        with join_group() as group, progress_phases() if group.is_first else nullcontext(_silent) as progress:
            learn(
                data,
                files,
                loaded,
                vision,
                config,
                device=local_device(choose_device(device.value)),
                half_cache=not fp32_cache,
                resume=resume,
                allow_blank_masks=allow_blank_masks,
                reading=reading,
                progress=progress,
                say=note if group.is_first else lambda message: None,
                group=group,
            )
            if not group.is_first:
                return
    except NothingToLearnError as done:
        note(str(done))
        return
    except KeyboardInterrupt:
        how = "go on with --resume" if files.checkpoints.exists() else "the same command goes on"
        echo(f"note: what is finished is kept; {how}", err=True)
        raise
    note_assumption(loaded)
    echo(f"{output}: prompts learned; losses in {files.log}, an epoch each in {files.checkpoints}")
    echo(f"next: acl export {output} -o bundle{_same_weights(backbone, weights)}")


def _silent(what: str, done: int, total: int) -> None:
    """The progress of a process that is not the first."""


def _same_weights(backbone: str | None, weights: str | None) -> str:
    """The options by which the export finds the weights again."""
    given = (("--backbone", backbone), ("--weights", weights))
    return "".join(f" {option} {value}" for option, value in given if value is not None)


def convert(
    checkpoint: Annotated[Path, typer.Argument(help=".pth of the published code.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
) -> None:
    """Turn a checkpoint of the published code into a prompts file.

    The checkpoint does not say which weights, size and layers it was learned with; the published ones are
    ViT-L-14-336 openai, 518 and the last layer.
    """
    from acl_train.convert import convert_checkpoint
    from acl_train.prompts import check_output, save_prompts
    from acl_train.weights import load_weights, note_assumption

    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    vision = make_vision_config(
        loaded.backbone,
        loaded.architecture.vision_layers,
        recipe=Recipe.released,
        image_size=image_size,
        layers=options.parse_numbers(layers),
        vv_from=vv_from,
    )
    check_output(output)
    save_prompts(output, convert_checkpoint(checkpoint, loaded, vision))
    note_assumption(loaded)
    note_blind_edge(vision.image_size, loaded.architecture.patch_size)
    echo(f"{output}: prompts for {loaded.backbone} at {vision.image_size} px, layers {list(vision.layers)}")
    echo(f"next: acl export {output} -o bundle{_same_weights(backbone, weights)}")


def note_blind_edge(image_size: int, patch_size: int) -> None:
    """Say that a part of each image is never looked at, where a published checkpoint has such a size."""
    if rest := image_size % patch_size:
        note(f"image size {image_size} is no multiple of the patch ({patch_size}): {blind_words(rest)}")

"""The commands that make prompts: learn them, or convert published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.terminal import echo
from acl_train import options
from acl_train.config import Attention, LearnConfig, Recipe, make_vision_config

LEARN = LearnConfig()  # the defaults


def train(
    data: Annotated[list[Path], typer.Argument(help="Folders of labelled images.", show_default=False)],
    output: options.Output,
    *,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    recipe: Annotated[
        Recipe, typer.Option(help="paper: four layers, λ 1; released: the last layer, λ 4.")
    ] = LEARN.recipe,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
    attention: Annotated[Attention, typer.Option(help="What the second path attends with.")] = Attention.vv,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = LEARN.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = LEARN.batch_size,
    lr: Annotated[float, typer.Option(min=0, help="Adam's learning rate.")] = LEARN.learning_rate,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first vectors and of the images' order.")
    ] = LEARN.seed,
    device: Annotated[options.Device, typer.Option(help="Where torch computes.")] = options.Device.auto,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the feature cache; ~/.cache/anomalyclip-deploy.", show_default=False),
    ] = None,
    fp32_cache: Annotated[
        bool, typer.Option("--fp32-cache", help="Twice the disk; equals learning without a cache.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch.")] = False,
) -> None:
    """Learn the two prompts on images of good and defective products.

    DATA is a data set as `acl eval` reads it: one of the paper's as downloaded,
    such as MVTec AD or VisA, one with a meta.json of the published code, or a
    folder with good and bad (and perhaps masks) inside. Beside the output lie a
    loss log and a checkpoint per epoch.
    """
    from acl_runtime.progress import progress_phases
    from acl_train.device import choose_device
    from acl_train.train import TrainFiles
    from acl_train.train import train as learn
    from acl_train.weights import load_weights

    config = LearnConfig(recipe, epochs, batch_size, lr, seed)
    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    vision = make_vision_config(
        loaded.backbone,
        loaded.architecture.vision_layers,
        recipe=recipe,
        image_size=image_size,
        layers=options.parse_numbers(layers),
        vv_from=vv_from,
        attention=attention,
    )
    files = TrainFiles(output, cache or Path.home() / ".cache" / "anomalyclip-deploy")
    try:
        with progress_phases() as progress:
            learn(
                data,
                files,
                loaded,
                vision,
                config,
                device=choose_device(device.value),
                half_cache=not fp32_cache,
                resume=resume,
                progress=progress,
                say=lambda message: echo(f"note: {message}", err=True),
            )
    except KeyboardInterrupt:
        how = "go on with --resume" if files.checkpoints.exists() else "the same command goes on"
        echo(f"note: what is finished is kept; {how}", err=True)
        raise
    echo(f"{output}: prompts learned; losses in {files.log}, an epoch each in {files.checkpoints}")


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
    from acl_train.prompts import save_prompts
    from acl_train.weights import load_weights

    loaded = load_weights(backbone, weights, quick_gelu=quick_gelu)
    vision = make_vision_config(
        loaded.backbone,
        loaded.architecture.vision_layers,
        recipe=Recipe.released,
        image_size=image_size,
        layers=options.parse_numbers(layers),
        vv_from=vv_from,
    )
    save_prompts(output, convert_checkpoint(checkpoint, loaded, vision))
    echo(f"{output}: prompts for {loaded.backbone} at {vision.image_size} px, layers {list(vision.layers)}")

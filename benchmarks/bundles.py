"""Bundles of the test recipe's weights in the shapes that people use, for `acl bench`. `python -m benchmarks.bundles`

The weights are numbers from a recipe, harsher than real ones: speed is as with real weights, differences are an upper
bound, and scores mean nothing.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.bundle.bundle import Bundle, load_bundle

RECIPE = Path(__file__).parent.parent / "tests"  # where `golden` is
B16 = "dict(r.CONFIGS['L336'], v_width=768, v_layers=12, patch=16, native=224, embed=512, t_width=512, dpam_layer=8)"


@dataclass(frozen=True)
class Shape:
    """A network and how it is read out.

    Attributes:
        recipe: Name of the recipe's configuration.
        image_size: Side of the network's input.
        layers: That make the map.
        vv_from: First block of the second path.
        setup: Python that makes the configuration, if the recipe has none.
    """

    recipe: str
    image_size: int
    layers: str
    vv_from: int
    setup: str = ""


SHAPES = {
    "tiny": Shape("tiny", 98, "12", 3),
    "b16-224": Shape("b16", 224, "12", 6, f"r.CONFIGS['b16'] = {B16}; r.GAIN['b16'] = r.GAIN['L336']; "),
    "l14-336": Shape("L336", 336, "24", 6),
    "l14-518": Shape("L336", 518, "24", 6),
}


def write_weights(name: str, folder: Path) -> Path:
    """The weights' file, made if it is not there, and the prompts beside it, `NAME.safetensors`."""
    shape = SHAPES[name]
    weights, checkpoint = folder / f"{shape.recipe}.pt", folder / f"{shape.recipe}.pth"
    if not weights.exists():
        code = f"from golden import recipe as r; {shape.setup}r.write_clip_jit({shape.recipe!r}, {str(weights)!r}); "
        code += f"r.write_prompt({shape.recipe!r}, {str(checkpoint)!r})"
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=RECIPE)
    if not (folder / f"{name}.safetensors").exists():
        size = ("--image-size", shape.image_size, "--layers", shape.layers, "--vv-from", shape.vv_from)
        acl("convert", checkpoint, "-o", folder / f"{name}.safetensors", "--weights", weights, *size)
    return weights


def export(name: str, folder: Path, *options: str) -> Bundle:
    """The bundle `NAME` and its options' names, made if it is not there."""
    weights = write_weights(name, folder)
    bundle = bundle_path(name, folder, *options)
    if not bundle.exists():
        acl("export", folder / f"{name}.safetensors", "-o", bundle, "--weights", weights, *options)
    return load_bundle(bundle)


def bundle_path(name: str, folder: Path, *options: str) -> Path:
    """Where `export` writes it."""
    return folder / "-".join([name, *(option.lstrip("-") for option in options)])


def acl(*arguments: object) -> None:
    """A command in a process of its own, so that its memory is free before the next."""
    subprocess.run([sys.executable, "-m", "acl_runtime.cli", *map(str, arguments)], check=True)


def main(
    shapes: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "b16-224",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights and bundles.")] = Path(
        "bundles"
    ),
) -> None:
    """Make the bundles, with a graph in int8, and print the command that measures each."""
    output.mkdir(parents=True, exist_ok=True)
    for name in shapes.split(","):
        bundle = export(name, output, "--int8")
        weights = output.resolve() / f"{SHAPES[name].recipe}.pt"
        typer.echo(f"acl bench {bundle.path} --against reference --weights {weights}")


if __name__ == "__main__":
    typer.run(main)

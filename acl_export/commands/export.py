"""`acl export`: make a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime.commands.detector import note_unless_fit
from acl_runtime.text.terminal import echo
from acl_train import options
from acl_train.methods import WRITTEN

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Manifest

EXPORT = ExportConfig()  # the defaults


def export_lines(output: Path, manifest: Manifest) -> list[str]:
    """What was written and how it compares with torch."""
    from acl_runtime.bundle.words import input_words, parity_words
    from acl_runtime.commands.describe import drift_words

    lines = [f"{output}: head {manifest.head}, {input_words(manifest)}"]
    for arithmetic in manifest.arithmetics():
        lines.append(
            f"{manifest.graph_file(arithmetic)}: {arithmetic}, {parity_words(manifest.parity_of(arithmetic))}"
        )
    if manifest.parity.drift is not None:
        lines.append(f"drift from torch: {drift_words(manifest.parity)}")
    return lines


def export(
    output: options.Output,
    prompts: Annotated[
        Path | None, typer.Argument(help="Prompts from train or convert.", show_default=False)
    ] = None,
    *,
    method: Annotated[
        options.WrittenMethod | None,
        typer.Option(
            help=f"Instead of PROMPTS: a method that learns none. {options.about(WRITTEN)}.",
            show_default=False,
        ),
    ] = None,
    category: options.Category = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    quick_gelu: options.QuickGelu = None,
    image_size: options.ImageSize = None,
    layers: options.Layers = None,
    vv_from: options.VVFrom = None,
    head: Annotated[
        Head, typer.Option(help="map: image in, map out; embeddings: the runtime applies the prompts.")
    ] = EXPORT.head,
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the graph.")] = EXPORT.precision,
    max_batch: Annotated[int, typer.Option(min=1, help="Most images at once.")] = EXPORT.max_batch,
    frame_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Height and width of the camera's frames, such as 1080x1920, which the graph then resizes itself.",
            callback=options.check_frame_size,
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Image to prove the graph on and keep in the bundle; repeat. [default: drawn]"),
    ] = None,
    drift: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled images, to measure how far the graph moves the metrics; repeat."),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Add a graph with linear layers in int8, for ONNX Runtime on CPUs; see acl build."
        ),
    ] = False,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt", help="Then build an engine for this machine: acl build --backend tensorrt."
        ),
    ] = False,
    tensorrt_rtx: Annotated[
        bool, typer.Option("--tensorrt-rtx", help="The same for RTX cards: acl build --backend tensorrt-rtx.")
    ] = False,
) -> None:
    """Write a bundle: text embeddings, ONNX, and the proof that it equals PyTorch.

    Size, layers and weights are those of the prompts unless given. The bundle is written only when the graph
    has been run and compared; it then replaces an older one at the same place.

    With --precision fp16 it holds four graphs that share their weights, each more
    careful than the one before, for acl build to choose from; the first is what
    ONNX Runtime runs.

    With --frame-size the resize is part of the graph, equal to Pillow's, so that the
    CPU has nothing to do per frame: for a GPU. Such a bundle takes frames of that
    size only, and cannot cut them into tiles.

    The methods clip, clip-ac and winclip learn nothing: they need no PROMPTS, but
    --category, --backbone and --weights.
    """
    from acl_export.export import export_bundle
    from acl_export.inputs import find_prompts
    from acl_runtime.backends.tensorrt.library import load_library
    from acl_runtime.commands.build import LIBRARY_OF, BuildBackend, build
    from acl_runtime.text.progress import progress_phases

    wanted = {BuildBackend.tensorrt: tensorrt, BuildBackend.tensorrt_rtx: tensorrt_rtx}
    engines = [backend for backend, is_wanted in wanted.items() if is_wanted]
    for engine in engines:
        load_library(LIBRARY_OF[engine])  # what is missing is told before the export
    if (prompts is None) == (method is None):
        raise typer.BadParameter("give PROMPTS, or --method with a method that learns none")
    read_out = image_size, options.parse_numbers(layers), vv_from
    source, loaded = find_prompts(
        prompts,
        None if method is None else method.value,
        (backbone, weights, quick_gelu),
        read_out,
    )
    config = ExportConfig(
        head, precision, max_batch, int8, options.parse_frame_size(frame_size), category=category
    )
    with progress_phases() as progress:
        manifest = export_bundle(
            source,
            output,
            loaded,
            config,
            frames=frames or (),
            drift_data=drift or (),
            progress=progress,
        )
    for line in export_lines(output, manifest):
        echo(line)
    note_unless_fit(manifest.backbone)
    for engine in engines:
        build(output, backend=engine)

"""The commands that make bundles: export one, or see the whole road on drawn products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime.terminal import echo, note_unless_fit
from acl_train import options
from acl_train.config import VisionConfig

EXPORT = ExportConfig()  # the defaults


def export(
    prompts: Annotated[Path, typer.Argument(help="Prompts from train or convert.", show_default=False)],
    output: options.Output,
    *,
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
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Image to prove the graph on and keep in the bundle; repeat. [default: drawn]"),
    ] = None,
) -> None:
    """Write a bundle: text embeddings, ONNX, and the proof that it equals PyTorch.

    Size, layers and weights are those of the prompts unless given. The bundle is written only when the graph
    has been run and compared; it then replaces an older one at the same place.
    """
    from acl_export.export import export_bundle, find_weights
    from acl_train.prompts import load_prompts

    learned = load_prompts(prompts).config
    loaded = find_weights(learned, backbone, weights, quick_gelu=quick_gelu)
    vision = VisionConfig(
        image_size or learned.vision.image_size,
        options.parse_layers(layers) or learned.vision.layers,
        vv_from or learned.vision.vv_from,
        learned.vision.attention,
    )
    config = ExportConfig(head, precision, max_batch)
    manifest = export_bundle(prompts, output, loaded, config, vision=vision, frames=frames or ())
    parity = manifest.parity
    echo(
        f"{output}: head {manifest.head}, {manifest.image_size} px; equal to {parity.reference} on "
        f"{parity.frames} frames within {parity.image_logits:.1e} (log-odds) and {parity.anomaly_map:.1e} (map)"
    )
    note_unless_fit(manifest.backbone)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all of it.")] = Path("demo"),
    *,
    data: Annotated[
        Path | None, typer.Option(help="Judge your own labelled images instead of drawn ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawings and of the learning.")] = 111,
) -> None:
    """Go the whole road in minutes: draw products, learn, export, prove, detect, and write a page to look at.

    Needs no GPU and no downloads: it uses a small CLIP that ships with the package.
    """
    from acl_export.demo import DemoConfig, run_demo
    from acl_export.demo_report import summary
    from acl_runtime.progress import progress_phases

    with progress_phases() as progress:
        result = run_demo(output, DemoConfig(seed=seed), data=data, progress=progress, say=echo)
    for line in summary(result):
        echo(line)

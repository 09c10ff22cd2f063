"""The commands that make bundles: export one, or see the whole road on drawn products."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime import options as box
from acl_runtime.backend import Backend as BackendName
from acl_runtime.terminal import echo, note, note_unless_fit
from acl_train import options
from acl_train.config import VisionConfig

if TYPE_CHECKING:
    from acl_runtime.manifest import Manifest

EXPORT = ExportConfig()  # the defaults


class Against(str, Enum):
    """What a bundle can be compared with."""

    torch = "torch"


def export_lines(output: Path, manifest: Manifest) -> list[str]:
    """What was written and how it compares with torch."""
    from acl_runtime.info import drift_words, parity_words

    lines = [f"{output}: head {manifest.head}, {manifest.image_size} px"]
    for arithmetic in manifest.arithmetics():
        lines.append(
            f"{manifest.graph_file(arithmetic)}: {arithmetic}, {parity_words(manifest.parity_of(arithmetic))}"
        )
    if manifest.parity.drift is not None:
        lines.append(f"drift from torch: {drift_words(manifest.parity)}")
    return lines


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
    drift: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled images, to measure how far the graph moves the metrics; repeat."),
    ] = None,
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
    """
    from acl_export.export import export_bundle, find_weights
    from acl_runtime.progress import progress_phases
    from acl_runtime.trt.commands import BuildBackend, build
    from acl_runtime.trt.library import load_library
    from acl_train.prompts import load_prompts

    wanted = {BuildBackend.tensorrt: tensorrt, BuildBackend.tensorrt_rtx: tensorrt_rtx}
    engines = [backend for backend, is_wanted in wanted.items() if is_wanted]
    for engine in engines:
        load_library(engine.value)  # what is missing is told before the export
    learned = load_prompts(prompts).config
    loaded = find_weights(learned, backbone, weights, quick_gelu=quick_gelu)
    vision = VisionConfig(
        image_size or learned.vision.image_size,
        options.parse_layers(layers) or learned.vision.layers,
        vv_from or learned.vision.vv_from,
        learned.vision.attention,
    )
    config = ExportConfig(head, precision, max_batch)
    with progress_phases() as progress:
        manifest = export_bundle(
            prompts,
            output,
            loaded,
            config,
            vision=vision,
            frames=frames or (),
            drift_data=drift or (),
            progress=progress,
        )
    for line in export_lines(output, manifest):
        echo(line)
    note_unless_fit(manifest.backbone)
    for engine in engines:
        build(output, backend=engine)


def evaluate(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    data: Annotated[list[Path], typer.Argument(help="Folders of labelled images.", show_default=False)],
    *,
    json: Annotated[
        Path | None, typer.Option(help="File for the figures, values 0 to 1; - for stdout.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="File for the table, values 0 to 1; - for stdout.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="File for the table, in percent; - for stdout.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page with charts and pictures, index.html.")
    ] = None,
    against: Annotated[
        Against | None,
        typer.Option(help="Also judge with the torch model and print how far the metrics are from its."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="With --against: file or tag of the weights, if not where they were.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count exactly; keeps the maps of a category in memory.")
    ] = False,
    mask_above: Annotated[
        int, typer.Option(min=0, max=254, help="Grey level above which a mask's pixel is a defect.")
    ] = 0,
    tile: box.TileSize = box.TILE,
    overlap: box.Overlap = None,
    min_defect: box.MinDefect = None,
    backend: box.Backend = BackendName.auto,
    provider: box.Provider = "auto",
    threshold: box.Threshold = None,
) -> None:
    """Measure a bundle on labelled images, beside the paper's numbers.

    DATA is a data set of the paper as downloaded (MVTec AD, VisA, MPDD, BTAD,
    KolektorSDD, DAGM, DTD-Synthetic, ISIC, the polyp sets, TN3K, HeadCT,
    BrainMRI, Br35H, COVID-19), has a meta.json of the published code, or is a
    folder with good and bad (and perhaps masks) inside. Without masks there are
    image metrics only.
    """
    from functools import partial

    from acl_runtime.calibration.doubts import find_doubts
    from acl_runtime.detector import Detector
    from acl_runtime.evaluation.run import EvalSettings, run_evaluation
    from acl_runtime.progress import progress_phases
    from acl_runtime.report.eval_files import EvalFiles, check_files, render, write_files

    files = EvalFiles(json, csv, markdown, report)
    if len(files.printed) > 1:
        raise typer.BadParameter(f"only one form can go to stdout, got {' and '.join(files.printed)}")
    check_files(files, bundle)
    tiling = box.parse_tiling(tile, overlap, min_defect)
    detector = context.with_resource(
        Detector(
            bundle, backend=backend.value, provider=provider, tell=note, threshold=threshold, tiling=tiling
        )
    )
    note_unless_fit(detector.bundle.manifest.backbone)
    for doubt in find_doubts(detector):
        note(doubt)
    reference = None
    if against is Against.torch:
        from acl_export.torch_session import TorchSession

        session = TorchSession.of_bundle(detector.bundle, weights)
        reference = Detector(detector.bundle, session=session, threshold=threshold, tiling=tiling)
    with progress_phases() as progress:
        settings = EvalSettings(exact, mask_above)
        result = run_evaluation(detector, data, settings, reference=reference, progress=progress)
    echo(result.text, err=bool(files.printed))  # before anything can go wrong with the files
    for form in files.printed:
        echo(render(form, result).removesuffix("\n"))
    with progress_phases() as progress:
        write_files(
            files, result, detector, mask_above=mask_above, progress=partial(progress, "drawing the page")
        )


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

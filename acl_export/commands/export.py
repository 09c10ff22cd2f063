"""`acl export`: make a bundle."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime.bundle.limits import RANGES
from acl_runtime.commands.detector import note_unless_fit
from acl_runtime.text.terminal import echo
from acl_train import options
from acl_train.methods import WRITTEN

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Manifest


class LowPrecision(str, Enum):
    """Types of eight bits that an engine's linear layers can have."""

    int8 = "int8"
    fp8 = "fp8"


EXPORT = ExportConfig()  # the defaults
GRAPH, PROOF, ENGINES = "The graph", "The comparison with PyTorch", "Engines"  # groups of options


def export_lines(output: Path, manifest: Manifest) -> list[str]:
    """What was written and how it compares with torch."""
    from acl_runtime.bundle.words import input_words, parity_words
    from acl_runtime.commands.describe import drift_words
    from acl_runtime.text.names import printable

    lines = [f"{printable(str(output))}: head {manifest.head}, {input_words(manifest)}"]
    for arithmetic in (*manifest.arithmetics(), *manifest.on_request):
        lines.append(
            f"{manifest.graph_file(arithmetic)}: {arithmetic}, {parity_words(manifest.parity_of(arithmetic))}"
        )
    if manifest.parity.drift is not None:
        lines.append(f"drift from torch: {drift_words(manifest.parity)}")
    return lines


def next_line(output: Path, manifest: Manifest) -> str:
    """What to do with the new bundle."""
    if manifest.prompts.get("method") == "memory" and manifest.calibration.memory is None:
        return f"next: acl calibrate {quote(str(output))} GOOD_IMAGES --memory 8; it cannot judge before"
    if manifest.calibration.record is None:
        return f"next: acl calibrate {quote(str(output))} GOOD_IMAGES, so that its threshold keeps a promise"
    return f"next: acl run {quote(str(output))} IMAGES"


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
    shared: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="NAME[@SHA256]",
            help="Instead of PROMPTS: the name of a prompts file that --from has, with the hash that it must have.",
            show_default=False,
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|https://...",
            help="Where --prompts are: a folder, or a URL of one, for which the hash is needed.",
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
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Lose the calibrations and engines of the bundle before if they do not hold for the new one.",
        ),
    ] = False,
    head: Annotated[
        Head,
        typer.Option(
            help="What the graph returns. map: score and anomaly map; embeddings: vectors that the runtime compares "
            "with the text, which acl calibrate --memory needs.",
            rich_help_panel=GRAPH,
        ),
    ] = EXPORT.head,
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic of the graph; fp16 is for GPUs.", rich_help_panel=GRAPH)
    ] = EXPORT.precision,
    max_batch: Annotated[
        int,
        typer.Option(
            min=1,
            max=RANGES["max_batch"][1],
            help="Largest number of images that the graph takes at once.",
            rich_help_panel=GRAPH,
        ),
    ] = EXPORT.max_batch,
    frame_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Height and width in pixels of the camera's frames, such as 1080x1920, for a graph that resizes them.",
            callback=options.check_frame_size,
            show_default=False,
            rich_help_panel=GRAPH,
        ),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORD",
            help="Memory of good parts to put into the graph, so that the one ONNX file holds it: a record "
            "(calibrations/0001.json) or the bundle of acl calibrate --memory, with the same prompts and weights.",
            show_default=False,
            rich_help_panel=GRAPH,
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Add a graph whose linear layers compute in int8, for ONNX Runtime on CPUs; see acl build.",
            rich_help_panel=GRAPH,
        ),
    ] = False,
    quantize: Annotated[
        list[LowPrecision] | None,
        typer.Option(
            help="Add a graph for engines whose linear layers are in int8 or fp8, scaled by --samples; see acl build "
            "--arithmetic; repeat.",
            show_default=False,
            rich_help_panel=GRAPH,
        ),
    ] = None,
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image or folder of images of good parts that --quantize takes its scales from; repeat.",
            show_default=False,
            rich_help_panel=GRAPH,
        ),
    ] = None,
    fused_attention: Annotated[
        bool,
        typer.Option(
            "--fused-attention",
            help="Add a graph whose attention ONNX Runtime fuses on CUDA; --provider cuda then takes it.",
            rich_help_panel=GRAPH,
        ),
    ] = False,
    frames: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image to compare the graph with PyTorch on, kept in the bundle, or folder of them, of which up to 32 "
            "are taken; repeat. [default: drawn products]",
            rich_help_panel=PROOF,
        ),
    ] = None,
    drift: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of labelled images on which to compare the graph's metrics with PyTorch's; repeat.",
            rich_help_panel=PROOF,
        ),
    ] = None,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt",
            help="Then build an engine for this machine: acl build --backend tensorrt.",
            rich_help_panel=ENGINES,
        ),
    ] = False,
    tensorrt_rtx: Annotated[
        bool,
        typer.Option(
            "--tensorrt-rtx",
            help="Then build an engine for RTX cards: acl build --backend tensorrt-rtx.",
            rich_help_panel=ENGINES,
        ),
    ] = False,
) -> None:
    """Write a bundle: an ONNX graph, the text's vectors, and the proof that they compute what PyTorch does.

    Image size, layers and weights are those of the prompts unless you name others.
    The bundle is written only after its graph was run and compared with PyTorch. A
    bundle at the same place is replaced; its calibrations and engines are kept where
    they hold for the new graph, and otherwise nothing is written without --replace.

    With --precision fp16 the bundle holds five graphs that share their weights, each
    more careful than the one before. acl build chooses the first that is exact enough
    on your GPU; ONNX Runtime runs the first.

    With --frame-size the graph resizes the frames itself, exactly as Pillow does, so
    that the CPU has nothing to do per frame. Use it with a GPU. Such a bundle takes
    frames of that size only and does not cut them into tiles.

    The methods clip, clip-ac and winclip learn nothing: give them --category,
    --backbone and --weights in place of PROMPTS. Nor does memory, for which acl
    calibrate --memory brings good parts; --backbone may be timm:NAME there.
    """
    from acl_export.export import export_bundle
    from acl_export.inputs import find_prompts
    from acl_runtime.backends.tensorrt.library import load_library
    from acl_runtime.commands.build import LIBRARY_OF, BuildBackend, build
    from acl_runtime.text.progress import progress_phases
    from acl_train.shared_prompts import find_shared

    wanted = {BuildBackend.tensorrt: tensorrt, BuildBackend.tensorrt_rtx: tensorrt_rtx}
    engines = [backend for backend, is_wanted in wanted.items() if is_wanted]
    for engine in engines:
        load_library(LIBRARY_OF[engine])  # what is missing is told before the export
    if [prompts, shared, method].count(None) != 2:
        raise typer.BadParameter(
            "give PROMPTS, or --prompts NAME, or --method with a method that learns none"
        )
    if (shared is None) != (place is None):
        raise typer.BadParameter("--prompts NAME and --from FOLDER or URL go together")
    if shared is not None and place is not None:
        prompts = find_shared(shared, place, cache=Path.home() / ".cache" / "anomalyclip-deploy")
    read_out = image_size, options.parse_numbers(layers), vv_from
    source, loaded = find_prompts(
        prompts,
        None if method is None else method.value,
        (backbone, weights, quick_gelu),
        read_out,
    )
    config = ExportConfig(
        head=head,
        precision=precision,
        max_batch=max_batch,
        int8=int8,
        quantize=tuple(dict.fromkeys(each.value for each in quantize or ())),
        fused_attention=fused_attention,
        frame_size=options.parse_frame_size(frame_size),
        category=category,
        memory=memory,
    )
    with progress_phases() as progress:
        manifest = export_bundle(
            source,
            output,
            loaded,
            config,
            frames=frames or (),
            samples=samples or (),
            drift_data=drift or (),
            may_lose=replace,
            progress=progress,
        )
    for line in export_lines(output, manifest):
        echo(line)
    note_unless_fit(manifest.backbone)
    for engine in engines:
        build(output, backend=engine)
    echo(next_line(output, manifest))

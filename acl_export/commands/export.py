"""The commands that make bundles: export one, or see the whole road on drawn products."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acl_export.config import ExportConfig, Head, Precision
from acl_runtime.backends.choose import Backend as BackendName
from acl_runtime.commands import options as box
from acl_runtime.text.terminal import echo, note, note_unless_fit
from acl_train import options
from acl_train.methods import WRITTEN

if TYPE_CHECKING:
    from acl_runtime.bundle.manifest import Manifest

EXPORT = ExportConfig()  # the defaults


class BenchAgainst(str, Enum):
    """What to compare speed with."""

    reference = "reference"


class Against(str, Enum):
    """What a bundle can be compared with."""

    torch = "torch"


def export_lines(output: Path, manifest: Manifest) -> list[str]:
    """What was written and how it compares with torch."""
    from acl_runtime.commands.describe import drift_words, input_words, parity_words

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
        typer.Option(
            help="Also judge with the torch model, on frames resized by Pillow, and print how far the metrics are from "
            "its."
        ),
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
    fast_resize: box.FastResize = False,
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

    from acl_runtime.calibration.mismatch import find_doubts
    from acl_runtime.detection.detector import Detector
    from acl_runtime.evaluation.run import EvalSettings, run_evaluation
    from acl_runtime.report.eval_files import EvalFiles, check_files, render, write_files
    from acl_runtime.text.progress import progress_phases

    files = EvalFiles(json, csv, markdown, report)
    if len(files.printed) > 1:
        raise typer.BadParameter(f"only one form can go to stdout, got {' and '.join(files.printed)}")
    check_files(files, bundle)
    tiling = box.parse_tiling(tile, overlap, min_defect)
    detector = context.with_resource(
        Detector(
            bundle,
            backend=backend.value,
            provider=provider,
            tell=note,
            threshold=threshold,
            tiling=tiling,
            fast_resize=fast_resize,
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


def bench(
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    images: Annotated[
        list[str] | None, typer.Argument(help="Images to judge. [default: drawn]", show_default=False)
    ] = None,
    *,
    against: Annotated[
        BenchAgainst | None,
        typer.Option(help="Take turns with the published pipeline in PyTorch, and give ratios to it."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="With --against: file or tag of the weights, if not where they were.")
    ] = None,
    untuned: Annotated[
        bool, typer.Option("--untuned", help="With --against: leave PyTorch its slow memory allocation.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of onnxruntime, openvino, openvino-bf16, openvino-int8, onnxruntime-int8, tensorrt. "
            "[default: all]",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="A,B", help="Frames to judge together.")] = "1",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="With --against: labelled images, for how far each row moves the AUROC; repeat."),
    ] = None,
    fast_resize: Annotated[
        bool,
        typer.Option(
            "--fast-resize",
            help="Resize the bundle's frames (not the reference's) several times faster than Pillow and nearly the "
            "same. Needs the extra fast-resize.",
        ),
    ] = False,
    seconds: Annotated[float, typer.Option(min=0, help="About how long the turns may take.")] = 20,
    sustained: Annotated[
        float | None, typer.Option(min=0.1, metavar="MINUTES", help="Then run the fastest so long, for heat.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for all figures; - for stdout.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the table.")] = None,
    plot: Annotated[Path | None, typer.Option(help="File for a picture, .png.")] = None,
) -> None:
    """Measure how fast a bundle is on this machine, and beside each speed how exact.

    All take turns on the same frames. A row has the median and the 95th
    percentile of a frame, frames per second one after the other and with the
    stages overlapped (as acl run works), how many times faster that is than the
    reference, the worst differences from PyTorch on the golden images, the share
    of this CPU's matrix speed, and of a fresh process the memory and the time to
    the first verdict.
    """
    from acl_runtime.bench.contenders import label
    from acl_runtime.bench.measure import sustain
    from acl_runtime.bench.report import draw, to_json, to_markdown, to_text
    from acl_runtime.bench.run import draw_frames, find_contender, run_benchmark
    from acl_runtime.bundle.bundle import load_bundle
    from acl_runtime.files.atomic import atomic_file
    from acl_runtime.sources.files import list_sources, load_frame
    from acl_runtime.text.progress import progress_phases

    loaded = load_bundle(bundle)
    batches = options.parse_numbers(batch, "batch") or (1,)
    files = [Path(source.path) for source in list_sources(images or [])]
    frames = [load_frame(file) for file in files] or draw_frames(loaded.manifest.frame_size)
    reference = drift_of = None
    if data and against is None:
        raise typer.BadParameter("--data compares with PyTorch: add --against reference")
    if against is not None:
        from acl_export.reference_contender import drift_from, enter_reference, keep_freed_memory
        from acl_export.torch_session import load_clip
        from acl_train.device import choose_device

        if not untuned and not keep_freed_memory():
            note("PyTorch's memory allocation cannot be tuned on this system; ratios may flatter the bundle")
        clip = load_clip(loaded, weights).to(choose_device("auto"))
        reference = enter_reference(loaded, clip)
        if data:
            drift_of = drift_from(loaded, clip, data)
    with progress_phases() as progress:
        result = run_benchmark(
            loaded,
            backend.split(",") if backend else (),
            batches,
            reference=reference,
            frames=frames,
            files=files,
            drift_of=drift_of,
            fast_resize=fast_resize,
            seconds=seconds,
            progress=progress,
            tell=note,
        )
    echo(to_json(result).rstrip() if json == Path("-") else to_text(result))
    written = {json: to_json(result), markdown: to_markdown(result)}
    for path, text in written.items():
        if path not in (None, Path("-")):
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if plot is not None:
        with atomic_file(plot) as temporary:
            draw(result, temporary)
    if sustained is not None:
        with progress_phases() as progress:
            contender = find_contender(loaded, result)
            speeds = sustain(contender, frames, seconds=60 * sustained, parts=10, progress=progress)
        tenths = ", ".join(f"{speed:.1f}" for speed in speeds)
        name = label(contender.backend, contender.precision, contender.batch)
        echo(f"{name}, for {sustained:g} minutes, frames/s in each tenth: {tenths}", err=json == Path("-"))


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
    from acl_runtime.text.progress import progress_phases

    with progress_phases() as progress:
        result = run_demo(output, DemoConfig(seed=seed), data=data, progress=progress, say=echo)
    for line in summary(result):
        echo(line)

"""`acl eval`: measure a bundle on labelled images."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acl_runtime.backends.choose import Backend as BackendName
from acl_runtime.commands import options as box
from acl_runtime.commands.detector import open_detector
from acl_runtime.text.terminal import echo


class Against(str, Enum):
    """What a bundle can be compared with."""

    torch = "torch"


FILES, EXPERT = "Files", "Expert options"  # panels of the help


def evaluate(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Exported bundle.", show_default=False)],
    data: Annotated[list[Path], typer.Argument(help="Folders of labelled images.", show_default=False)],
    *,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder for an HTML page with figures, charts and pictures, index.html.",
            rich_help_panel=FILES,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            help="JSON file for the figures, values from 0 to 1; - for stdout.", rich_help_panel=FILES
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="CSV file for the table, values from 0 to 1; - for stdout.", rich_help_panel=FILES),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Markdown file for the table, in percent; - for stdout.", rich_help_panel=FILES),
    ] = None,
    tile: box.TileSize = box.TILE,
    overlap: box.Overlap = None,
    min_defect: box.MinDefect = None,
    fast_resize: box.FastResize = False,
    bits: box.Bits = None,
    exif: box.Exif = False,
    max_megapixels: box.MaxMegapixels = box.MAX_MEGAPIXELS,
    backend: box.Backend = BackendName.auto,
    provider: box.Provider = "auto",
    triton: box.Triton = None,
    threshold: box.Threshold = None,
    mask_above: Annotated[
        int,
        typer.Option(
            min=0,
            max=254,
            help="Grey level of a mask above which a pixel is defective; 127 for masks kept as JPEG.",
            rich_help_panel=EXPERT,
        ),
    ] = 0,
    allow_blank_masks: Annotated[
        bool,
        typer.Option(
            "--allow-blank-masks",
            help="Accept masks of defective parts that mark nothing, instead of refusing the data set.",
            rich_help_panel=EXPERT,
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Count pixels exactly; needs memory for all maps of a category.",
            rich_help_panel=EXPERT,
        ),
    ] = False,
    against: Annotated[
        Against | None,
        typer.Option(
            help="Also judge with the PyTorch model, on frames resized by Pillow, and print each metric's difference.",
            rich_help_panel=EXPERT,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="With --against: file or tag of the weights, if they are no longer where the export found them.",
            rich_help_panel=EXPERT,
        ),
    ] = None,
) -> None:
    """Measure a bundle on labelled images, beside the paper's numbers.

    DATA is a data set of the paper as downloaded (MVTec AD, VisA, MPDD, BTAD,
    KolektorSDD, DAGM, DTD-Synthetic, ISIC, the polyp sets, TN3K, HeadCT,
    BrainMRI, Br35H, COVID-19), MVTec LOCO, has a meta.json of the published
    code, or is a folder with good and bad (and perhaps masks) inside. Without
    masks there are image metrics only.

    An image that cannot be read or judged is named, is in no figure, and makes
    the exit code 1.
    """
    from functools import partial

    from acl_runtime.evaluation.run import EvalSettings, run_evaluation
    from acl_runtime.report.eval_files import EvalFiles, check_files, render, write_files
    from acl_runtime.text.progress import progress_phases

    reading = box.parse_reading(bits, exif, max_megapixels)
    files = EvalFiles(json, csv, markdown, report)
    if len(files.printed) > 1:
        raise typer.BadParameter(f"only one form can go to stdout, got {' and '.join(files.printed)}")
    check_files(files, bundle, data)
    detector = open_detector(
        context,
        bundle,
        tile=tile,
        overlap=overlap,
        min_defect=min_defect,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        triton=triton,
        threshold=threshold,
        reading=reading,
    )
    reference = None
    if against is Against.torch:
        from acl_export.torch_session import TorchSession
        from acl_runtime.detection.detector import Detector

        session = TorchSession.of_bundle(detector.bundle, weights)
        reference = Detector(detector.bundle, session=session, threshold=threshold, tiling=detector.tiling)
    with progress_phases() as progress:
        settings = EvalSettings(exact, mask_above, allow_blank_masks, reading)
        result = run_evaluation(detector, data, settings, reference=reference, progress=progress)
    echo(result.text, err=bool(files.printed))  # before anything can go wrong with the files
    for form in files.printed:
        echo(render(form, result).removesuffix("\n"))
    with progress_phases() as progress:
        write_files(
            files, result, detector, settings=settings, progress=partial(progress, "drawing the page")
        )
    if result.bad:
        raise typer.Exit(1)

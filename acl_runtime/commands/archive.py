"""`acl archive`: judge an archive of pictures, on one machine or many."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acl_runtime.backends.choose import Backend
from acl_runtime.commands import options
from acl_runtime.commands.detector import check_order, open_detector
from acl_runtime.text.terminal import echo, note

if TYPE_CHECKING:
    from acl_runtime.archive.folder import Folder
    from acl_runtime.archive.pool import Pool
    from acl_runtime.archive.record import ArchiveRun

MACHINES = "Machines"
RESULTS = "Looking at results"
BATCH = 8  # pictures to look at together, where the bundle takes as many


class MapBits(str, Enum):
    """Bits of a map's pixels."""

    eight = "8"
    sixteen = "16"

    @property
    def bits(self) -> Literal[8, 16]:
        """As a number."""
        return 8 if self is MapBits.eight else 16


def archive(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Exported bundle.", show_default=False)] = None,
    manifest: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, lists (a text with a path on each line, or Parquet with a column path), patterns in quotes, "
            "pictures; also s3://, gs://, az://. May be left out to go on.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Folder for the results, also in storage.", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Judge all anew where the bundle or an option changed.")
    ] = False,
    shard: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Pictures of a file of results; 500.", show_default=False),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Folder for anomaly maps, grey PNG.", show_default=False)
    ] = None,
    map_bits: Annotated[MapBits, typer.Option(help="Bits of a map's pixels.")] = MapBits.eight,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Engines at once; one for each GPU, else up to 4.",
            rich_help_panel=MACHINES,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="CPU threads of each worker; the cores are divided.",
            rich_help_panel=MACHINES,
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Use this Ray cluster, such as auto; local for one of this machine. Extra ray.",
            rich_help_panel=MACHINES,
            show_default=False,
        ),
    ] = None,
    tile: options.TileSize = options.TILE,
    overlap: options.Overlap = None,
    min_defect: options.MinDefect = None,
    fast_resize: options.FastResize = False,
    bits: options.Bits = None,
    exif: options.Exif = False,
    max_megapixels: options.MaxMegapixels = options.MAX_MEGAPIXELS,
    backend: options.Backend = Backend.auto,
    provider: options.Provider = "auto",
    threshold: options.Threshold = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pictures to look at together; 8, or as many as the bundle takes.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Say how far results are.", rich_help_panel=RESULTS),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="DIR DIR", help="Compare the verdicts of two bundles.", rich_help_panel=RESULTS),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="With --compare: folder for a page of the pictures that differ most.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="With --compare: file for every changed verdict.", rich_help_panel=RESULTS),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="With --status and --compare: print JSON.", rich_help_panel=RESULTS),
    ] = False,
) -> None:
    """Judge an archive of pictures, with a row for each in Parquet.

    The work is cut into shards, each with one file of results that appears
    whole. Whatever stops it, the same command goes on, and every picture has
    exactly one row; of what cannot be read, with the error. Needs the extra
    archive. The exit code is 1 if shards are missing.
    """
    _check_together(context)
    _check_on_disk(context)
    if status is not None:
        _show_status(status, as_json=json)
        return
    if compare is not None:
        _show_comparison(compare, report, csv, as_json=json)
        return
    if bundle is None or output is None:
        raise typer.BadParameter(
            "give BUNDLE MANIFEST... -o DIR, or --status DIR, or --compare DIR DIR; see acl archive --help"
        )
    from acl_runtime.archive.begin import begin_run, check_places
    from acl_runtime.archive.folder import open_folder
    from acl_runtime.archive.record import Judging, MapFolder

    check_order(bundle, manifest or [])
    check_places(output, bundle, manifest or (), maps)
    folder = open_folder(output)
    detector = open_detector(
        context,
        bundle,
        tile=tile,
        overlap=overlap,
        min_defect=min_defect,
        fast_resize=fast_resize,
        backend=backend,
        provider=provider,
        batch=batch,
        threshold=threshold,
        reading=options.parse_reading(bits, exif, max_megapixels),
    )
    batch = batch or min(BATCH, detector.bundle.manifest.max_batch)
    detector.check_batch(batch)
    on_gpu = detector.backend == Backend.tensorrt.value or not detector.provider.startswith("CPU")
    detector.close()  # each worker has its own
    judging = Judging(
        tiling=detector.tiling,
        threshold=threshold,
        fast_resize=fast_resize,
        bits=bits,
        exif=exif,
        max_megapixels=max_megapixels,
        backend=backend.value,
        provider=provider,
        batch=batch,
    )
    with folder.held():
        run = begin_run(
            folder,
            bundle,
            tuple(manifest or ()),
            judging=judging,
            maps=None if maps is None else MapFolder(path=str(maps.resolve()), bits=map_bits.bits),
            shard_size=shard,
            again=again,
        )
        code = _judge(folder, run, lambda: _open_pool(run, ray, workers, threads, on_gpu=on_gpu))
    raise typer.Exit(code)


def _check_together(context: typer.Context) -> None:
    """Refuse what would be passed over in silence."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    for name, with_it in (("status", {"json"}), ("compare", {"report", "csv", "json"})):
        if name in given:
            if others := sorted(given - with_it - {name}):
                words = ", ".join(_written(context, other) for other in others)
                raise typer.BadParameter(
                    f"--{name} looks at results alone, got it with {words}; leave one of them out"
                )
            return
    if given & {"report", "csv", "json"}:
        raise typer.BadParameter("--report, --csv and --json are for --compare, and --json for --status")
    if "map_bits" in given and "maps" not in given:
        raise typer.BadParameter("--map-bits is for --maps, the folder for the maps")


def _check_on_disk(context: typer.Context) -> None:
    """Refuse addresses where a path is meant, which would make a folder called "s3:" here."""
    for name, path in context.params.items():
        if isinstance(path, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
            raise typer.BadParameter(
                f"{_written(context, name)} must be on a disk, not in storage; name a path"
            )


def _written(context: typer.Context, name: str) -> str:
    """An option or an argument as the user knows it."""
    parameter = next(each for each in context.command.params if each.name == name)
    return parameter.opts[-1] if parameter.param_type_name == "option" else name.upper()


def _judge(folder: Folder, run: ArchiveRun, open_pool: Callable[[], Pool]) -> int:
    """Judge what is missing, say what is there then, and return the exit code."""
    import signal

    from acl_runtime.archive.plan import open_plan
    from acl_runtime.archive.run import find_done, judge_archive
    from acl_runtime.archive.status import counts_words, first_error, read_status
    from acl_runtime.inspection.watch import stop_signals
    from acl_runtime.text.progress import progress_rate

    done = find_done(folder, run)
    before = sum(shard.counts.pictures for shard in done.values())
    was_stopped = False
    if len(done) < run.plan.shards:
        pool = open_pool()
        with (
            open_plan(folder, run.plan) as pictures,
            progress_rate("judging", total=run.plan.pictures, done=before) as advance,
            stop_signals([signal.SIGTERM]) as stopped,  # after Ray, which has a way of its own with it
        ):
            judge_archive(folder, run, pictures, pool, done=set(done), stopped=stopped, advance=advance)
            was_stopped = stopped()
    status = read_status(folder)
    counts = status.counts
    echo(
        f"{counts.pictures} of {run.plan.pictures} pictures: {counts_words(counts)}; results in {folder.name}"
    )
    if counts.pictures and counts.errors == counts.pictures:
        note(
            "no picture could be judged; once that is mended, name another folder for the results, which stay as they "
            f"are: {first_error(folder, run)}"
        )
    if was_stopped:
        note("stopped by SIGTERM: what was judged by then is kept, and the same command goes on")
    return 0 if status.is_complete else 1


def _open_pool(
    run: ArchiveRun, ray: str | None, workers: int | None, threads: int | None, *, on_gpu: bool
) -> Pool:
    from acl_runtime.archive.local_pool import LocalPool, divide_cores, visible_gpus
    from acl_runtime.archive.pool import Engine
    from acl_runtime.archive.record import program_version

    if ray is not None:
        from acl_runtime.archive.ray_pool import RayPool

        engine = Engine(run=run, threads=threads or 0, version=program_version())
        return RayPool(engine, ray, workers=workers, threads=threads, on_gpu=on_gpu)
    gpus = visible_gpus() if on_gpu else []
    count, each = divide_cores(workers, threads, max(len(gpus), int(on_gpu)))
    return LocalPool(Engine(run=run, threads=each, version=program_version()), workers=count, gpus=gpus)


def _show_status(name: str, *, as_json: bool) -> None:
    import json

    from acl_runtime.archive.folder import open_folder
    from acl_runtime.archive.status import read_status, status_record, status_text

    status = read_status(open_folder(name))
    echo(json.dumps(status_record(status)) if as_json else status_text(status))


def _show_comparison(
    names: tuple[str, str], report: Path | None, table: Path | None, *, as_json: bool
) -> None:
    import json

    from acl_runtime.archive.compare import compare_archives, comparison_record, comparison_text
    from acl_runtime.archive.folder import open_folder

    comparison = compare_archives(open_folder(names[0]), open_folder(names[1]), table=table)
    if report is not None:
        from acl_runtime.report.archives import write_comparison

        note(f"the page is {write_comparison(report, comparison)}")
    echo(json.dumps(comparison_record(comparison)) if as_json else comparison_text(comparison))

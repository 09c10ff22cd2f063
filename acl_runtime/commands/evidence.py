"""`acl evidence`: what a station kept, what people say of it, and the thresholds that follow."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acl_runtime.text.terminal import echo, note

if TYPE_CHECKING:
    from acl_runtime.outputs.evidence.reader import EvidenceReader

evidence = typer.Typer(no_args_is_help=True, help="List, review and export what a station kept of its parts.")
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder of an output of kind evidence.",
        show_default=False,
        exists=True,
        file_okay=False,
    ),
]


class Wanted(str, Enum):
    """Verdicts to choose from."""

    ok = "ok"
    ng = "ng"
    not_judged = "not-judged"
    rejected = "rejected"  # ng and not judged


class Mark(str, Enum):
    """What a person says of a part."""

    good = "good"
    defect = "defect"
    unsure = "unsure"


class Reviewed(str, Enum):
    """Reviews to choose from."""

    good = "good"
    defect = "defect"
    unsure = "unsure"
    none = "none"


Verdict = Annotated[
    Wanted | None, typer.Option(help="Only these; rejected is ng and not-judged.", show_default=False)
]
Review = Annotated[
    Reviewed | None,
    typer.Option(help="Only those that a person called so; none: nobody has looked.", show_default=False),
]
Part = Annotated[str | None, typer.Option(help="Only the part that the PLC named so.", show_default=False)]
After = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="Only larger numbers, the oldest first.", show_default=False),
]
Before = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="Only smaller numbers.", show_default=False)
]


@evidence.command("list")
def list_(
    data: Data,
    *,
    verdict: Verdict = None,
    review: Review = None,
    part: Part = None,
    after: After = None,
    before: Before = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="Number of lines at most.")
    ] = 20,
) -> None:
    """List parts, the newest first, and how many there are in all.

    It may be used while the service runs.
    """
    from acl_runtime.outputs.evidence.export import record_words
    from acl_runtime.outputs.evidence.reader import EvidenceReader

    reader = EvidenceReader(data)
    wanted = _wanted(verdict, review, part, after, before)
    for record in reader.records(limit=limit, **wanted):
        echo(record_words(record))
    counts = reader.counts()
    unreviewed = sum(counts.total(verdict=each, review="") for each in ("ng", "not judged"))
    echo(
        f"{data}: {counts.total()} parts, {counts.total(verdict='ng')} NG, {counts.total(verdict='not judged')} not "
        f"judged; {unreviewed} of these not reviewed; {counts.size / 1e9:.2f} GB"
    )
    _say_what_is_due(reader)


@evidence.command()
def show(data: Data, number: Annotated[int, typer.Argument(help="Of the part.", show_default=False)]) -> None:
    """Show all that is known of a part, and where its pictures are."""
    from acl_runtime.files.errors import InputError
    from acl_runtime.outputs.evidence.reader import EvidenceReader
    from acl_runtime.outputs.station_json import utc

    reader = EvidenceReader(data)
    record = reader.record(number)
    if record is None:
        raise InputError(f"{data}: has no number {number}; acl evidence list shows what is there")
    shown = {**vars(record), "time": utc(record.time), "regions": "", "detail": ""}
    shown["reviewed_at"] = "" if record.reviewed_at is None else utc(record.reviewed_at)
    shown["picture"] = reader.picture_path(number) or ""
    shown["overlay"] = reader.picture_path(number, "overlay") or ""
    for name, value in shown.items():
        if value not in ("", None, ()) and name not in ("has_overlay", "size"):
            echo(f"{name:14} {', '.join(value) if isinstance(value, tuple) else value}")
    for region in record.regions:
        echo(f"{'region':14} {', '.join(f'{key} {value}' for key, value in region.items())}")
    for key, value in record.detail.items():
        echo(f"  {key:12} {value}")


@evidence.command()
def review(
    data: Data,
    mark: Annotated[Mark, typer.Argument(help="What the parts are.", show_default=False)],
    numbers: Annotated[list[int], typer.Argument(help="Of the parts.", show_default=False)],
    *,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who says so; by default the user.", show_default=False)
    ] = None,
) -> None:
    """Say what parts are: good, a defect, or unsure. A later review replaces an earlier one.

    Reviewed parts are never deleted. While the service runs, review on its page:
    one process writes.
    """
    import getpass

    from acl_runtime.outputs.evidence.reader import EvidenceReader
    from acl_runtime.outputs.evidence.record import check_review
    from acl_runtime.outputs.evidence.writer import Review as OneReview
    from acl_runtime.outputs.evidence.writer import write_reviews

    reader, name = EvidenceReader(data), getpass.getuser() if by is None else by
    reader.counts()  # or there is nothing to review
    check_review(mark.value, name)
    write_reviews(data, [OneReview(number, mark.value, name) for number in numbers])
    echo(f"{data}: {len(numbers)} reviewed as {mark.value} by {name}")
    _say_what_is_due(reader)


@evidence.command()
def export(
    data: Data,
    *,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a table of parts here.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Copy reviewed pictures into good/ and bad/ of this folder, new or empty.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        bool,
        typer.Option("--samples", help="With --images: good/ gets the OK samples that nobody reviewed too."),
    ] = False,
    verdict: Verdict = None,
    review: Review = None,
    part: Part = None,
    after: After = None,
    before: Before = None,
) -> None:
    """Export a table, or pictures for acl calibrate and acl eval.

    --verdict, --review, --part, --after and --before choose the rows of --csv.

    A promise of acl calibrate holds for good parts like those it was given. OK
    samples alone are too well-behaved: review the NG parts that are samples too,
    so that good ones among them count. Reviewed wrong rejects beyond the samples
    raise the thresholds: fewer good parts are rejected than promised, and more
    defects may pass; --defective parts/bad counts them.
    """
    from acl_runtime.outputs.evidence.export import export_csv, export_images
    from acl_runtime.outputs.evidence.reader import EvidenceReader

    if csv is None and images is None:
        raise typer.BadParameter("give --csv FILE or --images FOLDER")
    if samples and images is None:
        raise typer.BadParameter("--samples goes with --images")
    reader = EvidenceReader(data)
    if csv is not None:
        rows = export_csv(reader, csv, **_wanted(verdict, review, part, after, before))
        echo(f"{csv}: {rows} parts")
    if images is not None:
        found = export_images(reader, images, samples=samples)
        echo(f"{images / 'good'}: {found.good} reviewed as good, {found.samples} samples")
        echo(f"{images / 'bad'}: {found.bad} reviewed as defect")
        if found.of_web:
            note(
                f"{found.of_web} reviewed records of a web are left out: set its thresholds with acl calibrate --web"
            )
        if found.without_picture:
            note(f"{found.without_picture} reviewed parts have no picture")
        if found.open_samples:
            note(
                f"{found.open_samples} samples were NG and are not reviewed: good ones among them are missing in good/"
            )


@evidence.command()
def changes(data: Data) -> None:
    """List who changed the thresholds while a station ran, when, and from what to what."""
    from acl_runtime.outputs.evidence.changes import change_lines

    for line in change_lines(data) or ["nobody changed the thresholds while a station ran"]:
        echo(line)


@evidence.command()
def rebuild(data: Data) -> None:
    """Make the index again from the files beside the pictures.

    Needed only by hand: a service does so itself where the index is gone or
    damaged. The index before and all files that are not ours are moved into
    aside/; nothing is deleted. What only the old index knew, such as OK parts
    without a picture, is taken from it where it can be read.
    """
    from acl_runtime.outputs.evidence.rebuild import rebuild as rebuild_index

    found = rebuild_index(data)
    echo(
        f"{data}: {found.added} parts from files, {found.from_old} from the index before, {found.aside} files moved to "
        f"aside/, {found.without_files} parts whose files are gone"
    )


def _wanted(
    verdict: Wanted | None, review: Reviewed | None, part: str | None, after: int | None, before: int | None
) -> dict[str, Any]:
    """As `EvidenceReader.records` has it."""
    return {
        "verdict": None if verdict is None else verdict.value.replace("-", " "),
        "review": None if review is None else "" if review is Reviewed.none else review.value,
        "part_id": part,
        "after": after,
        "before": before,
    }


def _say_what_is_due(reader: EvidenceReader) -> None:
    from acl_runtime.outputs.evidence.export import recalibration_words

    words = recalibration_words(reader.contradictions(), reader.folder)
    if words is not None:
        note(words)

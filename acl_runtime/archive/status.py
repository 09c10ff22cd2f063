"""How far an archive is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.parquet import iter_rows
from acl_runtime.archive.record import ArchiveRun, read_run
from acl_runtime.archive.run import Counts, find_done, result_name
from acl_runtime.text.names import printable


@dataclass(frozen=True, kw_only=True)
class Status:
    """Of a folder of results.

    Attributes:
        run: What it was judged with.
        shards: That are done.
        counts: Of their pictures.
        engines: What judged them -> shards.
        versions: Of the program that did -> shards.
        is_running: Whether a run holds the folder.
    """

    run: ArchiveRun
    shards: int
    counts: Counts
    engines: dict[str, int]
    versions: dict[str, int]
    is_running: bool

    @property
    def is_complete(self) -> bool:
        """Whether every picture has its row."""
        return self.shards == self.run.plan.shards


def read_status(folder: Folder) -> Status:
    """How far a folder is.

    Raises:
        InputError: It holds no results of `acl archive`.
    """
    run = read_run(folder)
    counts = Counts()
    done = find_done(folder, run).values()
    for shard in done:
        counts.add(shard.counts)
    return Status(
        run=run,
        shards=len(done),
        counts=counts,
        engines=dict(Counter(shard.engine for shard in done)),
        versions=dict(Counter(shard.version for shard in done)),
        is_running=folder.is_held(),
    )


def status_text(status: Status) -> str:
    """For a person, a few lines."""
    run, counts = status.run, status.counts
    state = "complete" if status.is_complete else "under way" if status.is_running else "stopped"
    lines = [
        f"{state}: {counts.pictures} of {run.plan.pictures} pictures, {status.shards} of {run.plan.shards} shards",
        f"verdicts: {counts_words(counts)}",
        f"bundle:   {printable(run.bundle)} ({run.bundle_sha256[:12]})",
        *(f"judged by {engine}: {shards} shards" for engine, shards in status.engines.items()),
    ]
    if len(status.versions) > 1:
        lines.append("versions: " + ", ".join(sorted(status.versions)))
    return "\n".join(lines)


def status_record(status: Status) -> dict[str, Any]:
    """For a script."""
    run = status.run
    return {
        "complete": status.is_complete,
        "running": status.is_running,
        "pictures": run.plan.pictures,
        "shards": run.plan.shards,
        "done": {"shards": status.shards, **vars(status.counts)},
        "bundle": run.bundle,
        "bundle_sha256": run.bundle_sha256,
        "engines": status.engines,
        "versions": status.versions,
    }


def first_error(folder: Folder, run: ArchiveRun) -> str:
    """Why the first picture of the first shard that is done could not be judged."""
    name = result_name(min(find_done(folder, run)))
    with folder.open(name) as file:
        ((error,), *_) = iter_rows(file, ("error",), f"{folder.name}/{name}")
    return str(error)


def counts_words(counts: Counts) -> str:
    """What was found, such as "12 NG, 88 OK, 1 could not be judged"."""
    good = counts.pictures - counts.anomalous - counts.errors
    errors = f", {counts.errors} could not be judged" if counts.errors else ""
    return f"{counts.anomalous} NG, {good} OK{errors}"

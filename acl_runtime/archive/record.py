"""What an archive was judged with: `_archive.json` in the folder of its results.

What reads a folder of Parquet files as one table passes over names that begin with `_`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any, Literal

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.plan import Plan
from acl_runtime.bundle.manifest import Tiling
from acl_runtime.files.errors import InputError
from acl_runtime.files.strict_json import parse_document, read_strictly

RUN = "_archive.json"
_NAME, _NEWEST = "acl-archive", 1
_REMEDY = "name another folder for the results"


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How pictures are read and judged: what decides about a verdict, beside the bundle."""

    tiling: Tiling | None
    threshold: float | None  # given by the user instead of the bundle's rule
    fast_resize: bool
    bits: int | None
    exif: bool
    max_megapixels: float
    backend: str  # as asked for: "auto" may be another on another machine, and results say which it was
    provider: str
    batch: int


@dataclass(frozen=True, kw_only=True)
class MapFolder:
    """Where maps are kept, as grey PNG: 0 is 0, and the largest value 1."""

    path: str
    bits: Literal[8, 16]


@dataclass(frozen=True, kw_only=True)
class ArchiveRun:
    """What results of a folder have in common."""

    format: str
    format_version: int
    created: str  # ISO 8601, UTC
    manifests: tuple[str, ...]  # as named
    plan: Plan
    bundle: str  # where it lay
    bundle_sha256: str  # of its manifest, which has the hash of every file
    judging: Judging
    maps: MapFolder | None
    version: str  # of the program


def new_run(
    *,
    manifests: tuple[str, ...],
    plan: Plan,
    bundle: str,
    bundle_sha256: str,
    judging: Judging,
    maps: MapFolder | None,
) -> ArchiveRun:
    """A run that begins now."""
    return ArchiveRun(
        format=_NAME,
        format_version=_NEWEST,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        manifests=manifests,
        plan=plan,
        bundle=bundle,
        bundle_sha256=bundle_sha256,
        judging=judging,
        maps=maps,
        version=program_version(),
    )


def program_version() -> str:
    """Of this program."""
    return version("anomalyclip-deploy")


def write_run(folder: Folder, run: ArchiveRun) -> None:
    """Write `_archive.json`, once the list of pictures is there."""
    with folder.new(RUN) as temporary:
        temporary.write_text(json.dumps(asdict(run), indent=2) + "\n", encoding="utf-8")


def read_run(folder: Folder) -> ArchiveRun:
    """What a folder's results were judged with.

    Raises:
        InputError: There is no `_archive.json` in it, or it is not one of ours.
    """
    run = find_run(folder)
    if run is None:
        raise InputError(f"{folder.name}: holds no {RUN}; name the folder of results of acl archive")
    return run


def find_run(folder: Folder) -> ArchiveRun | None:
    """The same; None where no run has begun yet.

    Raises:
        InputError: `_archive.json` is not one of ours.
    """
    names = folder.names()
    if RUN not in names:
        return None
    try:
        with folder.open(RUN) as file:
            document = parse_document(
                file.read(), kind="run of an archive", format_name=_NAME, newest=_NEWEST, remedy=_REMEDY
            )
        run: ArchiveRun = read_strictly(ArchiveRun, document, "run")
    except InputError as error:
        raise InputError(f"{folder.name}/{RUN}: {error}") from error
    return run


def settings_text(run: ArchiveRun) -> str:
    """How pictures are judged, and where maps are kept, as one line of JSON for the results' metadata."""
    maps = None if run.maps is None else asdict(run.maps)
    return json.dumps(asdict(run.judging) | {"maps": maps}, sort_keys=True)


def changed(then: Judging, now: Judging) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: name -> (then, now)."""
    before, after = vars(then), vars(now)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

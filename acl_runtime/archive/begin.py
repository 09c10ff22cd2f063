"""Begin an archive, or go on with one: the same pictures, the same bundle, the same options, or none at all."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from acl_runtime.archive.folder import Folder
from acl_runtime.archive.pictures import iter_pictures, whole_pattern
from acl_runtime.archive.plan import LIST, SHARD, digest_pictures, write_plan
from acl_runtime.archive.record import (
    RUN,
    ArchiveRun,
    Judging,
    MapFolder,
    changed,
    find_run,
    new_run,
    write_run,
)
from acl_runtime.archive.shard import map_path
from acl_runtime.archive.urls import scheme_of
from acl_runtime.bundle.bundle import MANIFEST
from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import LOCK

LOG = logging.getLogger("acl")
MAPS_OF = "_results.txt"  # in the folder of maps: where the results lie that they are of


def check_places(results: str, bundle: Path, manifests: Sequence[str], maps: Path | None) -> None:
    """Raise InputError for results in the bundle, and for maps that would be pictures of the next run."""
    written = [] if scheme_of(results) else [Path(results).resolve()]
    kept = [] if maps is None else [maps.resolve()]
    for path in (*written, *kept):
        if path.is_relative_to(bundle.resolve()):
            raise InputError(f"{path}: lies in the bundle; name another place for the results")
    for manifest in manifests:
        if not scheme_of(manifest) and any(_has(manifest, path) for path in kept):
            raise InputError(
                f"{kept[0]}: lies in {manifest}, where maps would be judged as pictures; name a folder outside"
            )


def _has(manifest: str, maps: Path) -> bool:
    """Whether maps in a folder would be pictures of a manifest; what a list names does not change by itself."""
    inside = Path(os.path.abspath(manifest)).resolve()
    if inside.exists():
        return inside.is_dir() and maps.is_relative_to(inside)
    kept = map_path(MapFolder(path=str(maps), bits=8), 0, 0)
    return glob.has_magic(manifest) and _stands_for(Path(whole_pattern(manifest)).parts, kept.parts)


def _stands_for(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a pattern, as of `glob.glob`, stands for a path, each in parts."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_stands_for(pattern[1:], path[skipped:]) for skipped in range(len(path)))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _stands_for(pattern[1:], path[1:])


def begin_run(
    folder: Folder,
    bundle: Path,
    manifests: tuple[str, ...],
    *,
    judging: Judging,
    maps: MapFolder | None,
    shard_size: int | None,
    again: bool,
) -> ArchiveRun:
    """The run of a folder: that which began there before, or a new one.

    Args:
        folder: Of the results; held by the caller.
        bundle: Checked.
        manifests: What to judge, see `iter_pictures`; may be empty to go on.
        judging: How.
        maps: Where maps are kept.
        shard_size: Pictures of a shard; None for that of before, or `SHARD`.
        again: Judge all anew where bundle, `judging` or `maps` are not those of before.

    Raises:
        InputError: They are not, or the pictures or the shards are others than before; or what was named is no list of
            pictures; or the folder of the maps has those of other results.
    """
    digest, earlier = sha256(bundle / MANIFEST), find_run(folder)
    where = str(bundle.resolve())
    if earlier is None:
        _check_new(folder, manifests, maps)
        plan = write_plan(folder, iter_pictures(manifests), shard_size or SHARD)
    else:
        _check_pictures(folder, earlier, manifests, shard_size)
        manifests, plan = earlier.manifests, earlier.plan
        if (earlier.bundle_sha256, earlier.judging, earlier.maps) == (digest, judging, maps):
            _claim_maps(maps, folder)
            if again:
                LOG.info(
                    "%s: bundle and options are those of before, so that --again judges nothing twice; name another "
                    "folder where the pictures themselves have changed",
                    folder.name,
                )
            return replace(earlier, bundle=where)
        if not again:
            raise InputError(
                f"{folder.name}: {_difference(earlier, digest, judging)}; put that back, name another folder, or pass "
                "--again to judge all anew"
            )
    _claim_maps(maps, folder)
    run = new_run(
        manifests=manifests, plan=plan, bundle=where, bundle_sha256=digest, judging=judging, maps=maps
    )
    write_run(folder, run)
    return run


def _claim_maps(maps: MapFolder | None, folder: Folder) -> None:
    """Note whose maps a folder has; InputError where they are those of other results, which would be deleted."""
    if maps is None:
        return
    note, ours = Path(maps.path, MAPS_OF), _whole(folder.name)
    if not note.is_file():
        with atomic_file(note) as temporary:
            temporary.write_bytes(os.fsencode(ours))
    elif (theirs := os.fsdecode(note.read_bytes())) != ours:
        raise InputError(
            f"{maps.path}: has the maps of {theirs}; name another folder for these, or delete {note} to lose those"
        )


def _whole(results: str) -> str:
    return results if scheme_of(results) else str(Path(results).resolve())


def _check_new(folder: Folder, manifests: tuple[str, ...], maps: MapFolder | None) -> None:
    if not manifests:
        raise InputError(f"{folder.name}: nothing was begun here; name the pictures to judge")
    if maps is not None and Path(maps.path).is_relative_to(_whole(folder.name)):
        raise InputError(
            f"{maps.path}: lies in the folder of the results, which is one table to what reads Parquet; name a folder "
            "outside for the maps"
        )
    if others := [name for name in folder.names() if name not in (LOCK, LIST)]:
        raise InputError(
            f"{folder.name}: holds {others[0]} and no {RUN}; name a new or an empty folder for the results"
        )


def _check_pictures(
    folder: Folder, earlier: ArchiveRun, manifests: tuple[str, ...], shard_size: int | None
) -> None:
    plan = earlier.plan
    if shard_size not in (None, plan.shard_size):
        raise InputError(
            f"{folder.name}: was begun with {plan.shard_size} pictures a shard, got {shard_size}; leave --shard out, "
            "or name another folder"
        )
    if not manifests:
        return
    pictures, digest = digest_pictures(iter_pictures(manifests))
    if digest != plan.sha256:
        raise InputError(
            f"{folder.name}: was begun with another list of pictures ({plan.pictures} then, {pictures} now); name "
            "another folder for these, or name no pictures to go on with those"
        )


def _difference(earlier: ArchiveRun, digest: str, judging: Judging) -> str:
    if earlier.bundle_sha256 != digest:
        return f"was judged with another bundle, or with this one before it was changed ({earlier.bundle})"
    for name, (then, now) in changed(earlier.judging, judging).items():
        return f"was judged with {name.replace('_', ' ')} {then}, and now it is {now}"
    return "was judged with other --maps"

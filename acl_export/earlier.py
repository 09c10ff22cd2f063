"""The bundle that an export replaces: what holds for the new one is kept, and nothing else is lost without a word.

Calibrations and engines hold where graphs, text embeddings and what the runtime computes with are the same. Files that
no export wrote are the user's: they stay.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path

from acl_export.describe import GRAPH_MEMORY, INT8_GRAPH, ON_REQUEST, PROJECTIONS
from acl_runtime.backends.tensorrt.engine_file import Engine, is_of, list_engines
from acl_runtime.bundle.bundle import ENGINES, GOLDEN, MANIFEST, TEXT_EMBEDDINGS, Bundle
from acl_runtime.bundle.manifest import FileRecord, Manifest, manifest_from_json
from acl_runtime.calibration.record import FOLDER as CALIBRATIONS
from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import BundleError, InputError, UserError
from acl_runtime.files.locks import LOCK

LOG = logging.getLogger("acl")

_GRAPH_FILE = re.compile(r"model(\.[a-z0-9-]+)?\.onnx(\.data)?")
_OF_EXPORT = (MANIFEST, GOLDEN, TEXT_EMBEDDINGS, PROJECTIONS, GRAPH_MEMORY, LOCK)
_CACHE = f"{ENGINES}/onnxruntime/"  # graphs that ONNX Runtime optimised; made anew where they are needed
_COMPUTED_WITH = (
    *("head", "precision", "image_size", "grid", "layers", "windows", "temperature", "blur_sigma"),
    *("preprocessing", "graph_memory"),
)


def check_earlier(output: Path, manifest: Manifest, *, may_lose: bool) -> None:
    """Refuse before the work what is known to be lost after it.

    Args:
        output: Folder to write; may be absent or no bundle.
        manifest: Of the bundle to be written, without its files.
        may_lose: Whether the user has agreed to lose calibrations and engines.

    Raises:
        InputError: Calibrations or engines would be lost.
    """
    if may_lose:
        return
    earlier = _read_manifest(output)
    if earlier is None or not _is_of_the_same(earlier, manifest):
        _check_loss(output, _files(output)[0], may_lose=False)
        return
    has = (*manifest.arithmetics(), *manifest.on_request)
    engines = list_engines(Bundle(output, earlier)).whole
    lost = _files_of([each for each in engines if each.record.arithmetic not in has])
    _check_loss(output, lost, may_lose=False)


def carry_over(output: Path, folder: Path, manifest: Manifest, *, may_lose: bool) -> Manifest:
    """Copy the calibrations and engines that hold into the folder that is becoming the new bundle.

    Args:
        output: The bundle before; may be absent or no bundle.
        folder: Holds the new graphs and text embeddings.
        manifest: Of the new bundle.
        may_lose: As in `check_earlier`.

    Returns:
        The manifest with the calibration in force.
    """
    earlier = _read_manifest(output)
    if earlier is None or not _is_of_the_same(earlier, manifest) or not _has_same_graphs(earlier, folder):
        _check_loss(output, _files(output)[0], may_lose=may_lose)
        return manifest
    lost = _files_of(_engines_of_others(Bundle(output, earlier), Bundle(folder, manifest)))
    _check_loss(output, lost, may_lose=may_lose)
    kept = [name for name in _files(output)[0] if name not in lost]
    for name in kept:
        if name in earlier.files and sha256(output / name) != earlier.files[name].sha256:
            raise BundleError(
                f"{output / name}: was altered (sha256 differs); copy the bundle again, or pass --replace"
            )
        _take(output, folder, name)
    if kept:
        LOG.info("%s: kept %s, which hold for the new graph too", output, _words(kept))
    return replace(manifest, calibration=earlier.calibration)


def keep_users_files(output: Path, folder: Path) -> None:
    """Copy what no export wrote into the new bundle's folder, once its manifest is written: they are not part of it."""
    for name in _files(output)[1]:
        if not os.path.lexists(folder / name):
            _take(output, folder, name)


def _read_manifest(output: Path) -> Manifest | None:
    """None where there is no bundle or a damaged one."""
    try:
        return manifest_from_json((output / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None


def _files(output: Path) -> tuple[list[str], list[str]]:
    """Names of calibrations and engines, and of what no export wrote."""
    ours: list[str] = []
    users: list[str] = []
    for path in sorted(output.rglob("*")) if (output / MANIFEST).is_file() else ():
        name = path.relative_to(output).as_posix()
        if name in _OF_EXPORT or _GRAPH_FILE.fullmatch(name) or name.startswith(_CACHE):
            continue
        if name.startswith((f"{CALIBRATIONS}/.", f"{ENGINES}/.")):
            continue  # a lock, or what a process that was killed had begun to write
        if path.is_symlink() or path.is_file():
            (ours if name.startswith((f"{CALIBRATIONS}/", f"{ENGINES}/")) else users).append(name)
    return ours, users


def _is_of_the_same(earlier: Manifest, manifest: Manifest) -> bool:
    return (
        all(getattr(earlier, key) == getattr(manifest, key) for key in _COMPUTED_WITH)
        and earlier.arithmetics() == manifest.arithmetics()
        and earlier.backbone.weights_sha256 == manifest.backbone.weights_sha256
        and earlier.prompts["sha256"] == manifest.prompts["sha256"]
    )


def _has_same_graphs(earlier: Manifest, folder: Path) -> bool:
    """Whether graphs, weights and text embeddings have the same bytes; graphs on request may have come or gone."""
    names = {path.name for path in folder.iterdir() if _GRAPH_FILE.fullmatch(path.name)} | {TEXT_EMBEDDINGS}
    names -= {name for name in names if name.startswith(ON_REQUEST)}
    return all(
        name in earlier.files and sha256(folder / name) == earlier.files[name].sha256
        for name in names - {INT8_GRAPH}
    )


def _engines_of_others(before: Bundle, now: Bundle) -> list[Engine]:
    """The engines of graphs of the bundle before that the new one lacks, or has otherwise, such as on other samples."""
    graphs = [path for path in now.path.iterdir() if _GRAPH_FILE.fullmatch(path.name)]
    files = {path.name: FileRecord(sha256(path), path.stat().st_size) for path in graphs}
    hashed = Bundle(now.path, replace(now.manifest, files=files))
    engines = list_engines(before).whole
    return [each for each in engines if is_of(each.record, before) and not is_of(each.record, hashed)]


def _files_of(engines: Sequence[Engine]) -> list[str]:
    """Names in the bundle of engines and of what lies beside each."""
    found = [path for each in engines for path in each.path.parent.glob(f"{escape(each.path.stem)}.*")]
    return [f"{ENGINES}/{path.name}" for path in sorted(found)]


def _check_loss(output: Path, lost: list[str], *, may_lose: bool) -> None:
    if lost and not may_lose:
        raise InputError(
            f"{output}: holds {_words(lost)}, which do not hold for the new bundle; export to another folder, or pass "
            "--replace to lose them"
        )
    if lost:
        LOG.info("%s: %s of the bundle before were removed", output, _words(lost))


def _words(names: list[str]) -> str:
    """How many of each there are: "2 calibrations and 1 engine"."""
    counts = {
        "calibration": sum(name.startswith(f"{CALIBRATIONS}/") and name.endswith(".json") for name in names),
        "engine": sum(name.endswith(".engine") for name in names),
    }
    counts["other file"] = 0 if any(counts.values()) else len(names)
    words = [f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items() if count]
    return " and ".join(words)


def _take(output: Path, folder: Path, name: str) -> None:
    """Link a file into another folder of the same disk, or copy it where that cannot be; a link stays one."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(output / name, folder / name, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system without hard links
        shutil.copy2(output / name, folder / name, follow_symlinks=False)

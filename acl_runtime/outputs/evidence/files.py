"""Files of an evidence store: by day, FOLDER/2026-11-27/0000000123.png, .overlay.jpg and .json, the last one last."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from acl_runtime.files.atomic import atomic_file, sync_folder
from acl_runtime.outputs.evidence.record import Evidence, to_sidecar

ASIDE = "aside"  # folder for what is not ours, or torn
Which = Literal["picture", "overlay"]
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_OWN = re.compile(r"(\d{10,})\.(json|png|jpg|overlay\.jpg)")


def days(folder: Path) -> list[Path]:
    """The folders of days, oldest first."""
    return sorted(each for each in folder.iterdir() if _DAY.fullmatch(each.name) and each.is_dir())


def file_of(folder: Path, evidence: Evidence, which: Which | Literal["sidecar"]) -> Path:
    """Where a file of a record lies; made of its number, its day and nothing else."""
    suffix = {"picture": evidence.picture, "overlay": "overlay.jpg", "sidecar": "json"}[which]
    return folder / evidence.day / f"{evidence.number:010d}.{suffix}"


def files_of(folder: Path, evidence: Evidence) -> list[Path]:
    """The files that a record says it has, its sidecar last."""
    found = [file_of(folder, evidence, "picture")] if evidence.picture else []
    found += [file_of(folder, evidence, "overlay")] if evidence.has_overlay else []
    return [*found, file_of(folder, evidence, "sidecar")]


def number_of(path: Path) -> int | None:
    """The number of a file that is named as ours are; None for any other."""
    match = _OWN.fullmatch(path.name)
    return None if match is None else int(match[1])


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """A picture as a file.

    Args:
        picture: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16; the latter as PNG only.
        suffix: "png" or "jpg".

    Raises:
        ValueError: It cannot be written so.
    """
    try:
        is_encoded, data = cv2.imencode(f".{suffix}", picture)
    except cv2.error as error:
        raise ValueError(f"cannot be written as {suffix} ({' '.join(str(error).split())})") from error
    if not is_encoded:
        raise ValueError(f"cannot be written as {suffix}")
    return data.tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; `sync` makes it last."""
    with atomic_file(path, durable=False) as temporary:
        temporary.write_bytes(data)


def write_sidecar(folder: Path, evidence: Evidence) -> Path:
    """Write the record beside its pictures; the files are not synced."""
    path = file_of(folder, evidence, "sidecar")
    write_file(path, to_sidecar(evidence))
    return path


def sync(paths: Iterable[Path]) -> None:
    """Wait until the disk has files, and their names."""
    written = list(paths)
    for path in written:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    for parent in {path.parent for path in written}:
        sync_folder(parent)


def remove(folder: Path, evidence: Evidence) -> None:
    """Delete the files of a record, its sidecar last, and the folder of its day where nothing is left in it."""
    for path in files_of(folder, evidence):
        path.unlink(missing_ok=True)
    day = folder / evidence.day
    if day.is_dir() and not any(day.iterdir()):
        day.rmdir()


def move_aside(folder: Path, path: Path) -> Path:
    """Move what is not ours, or torn, into `aside/`; nothing is ever replaced there."""
    place = folder / ASIDE
    place.mkdir(exist_ok=True)
    name = path.name if path.parent == folder else f"{path.parent.name}-{path.name}"
    for target in _names(place / name):
        if not target.exists():
            path.rename(target)
            return target
    raise AssertionError("names do not end")


def _names(path: Path) -> Iterator[Path]:
    yield path
    stamp = f"{time.time_ns():x}"
    for turn in range(1 << 30):
        yield path.with_name(f"{path.name}.{stamp}-{turn}")

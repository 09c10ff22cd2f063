"""Look at the images of a calibration: every one, and each once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acl_runtime.calibration.monitor import measure_quantities
from acl_runtime.calibration.record import JudgedImages
from acl_runtime.data.samples import is_good, list_folders, list_images
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.frame import BadFrame
from acl_runtime.sources.files import Source, iter_frames
from acl_runtime.text.names import shorten

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many and of how many."""


@dataclass(frozen=True)
class Judged:
    """Distinct images that were looked at."""

    images: JudgedImages
    digests: dict[str, str]  # of the pixels -> source
    copies: int  # further images with the very pixels of one of these


def judge_images(
    detector: Detector,
    sources: Sequence[Source],
    what: str,
    progress: Progress,
    *,
    remembered: Collection[str] = (),
) -> Judged:
    """Look at every image once; copies of another, pixel by pixel, are counted and passed over.

    So are the images in the memory, named by the digests of their pixels: an image that the detector remembers says
    nothing about one that it does not.

    A promise about images that were silently left out would be none: once one cannot be read, the others are
    only read, so that the error names all of them.
    """
    rows: dict[str, tuple[str, dict[str, float]]] = {}  # by digest of the pixels
    unreadable: list[str] = []
    met: set[str] = set()
    copies = 0
    for done, item in enumerate(iter_frames(sources), start=1):
        if isinstance(item, BadFrame):
            unreadable.append(item.source)
        elif not unreadable and (digest := pixel_digest(item.frame)) in met:
            copies += 1
        elif not unreadable:
            met.add(digest)
            if digest not in remembered:
                quantities = measure_quantities(detector(item.frame), measure_appearance(item.frame))
                rows[digest] = item.source, quantities
        progress(what, done, len(sources))
    if unreadable:
        raise InputError(
            f"{shorten(unreadable)}: cannot be read ({len(unreadable)} of {len(sources)} images); save them again or "
            "leave them out; nothing was written"
        )
    return Judged(_to_columns(list(rows.values())), {key: row[0] for key, row in rows.items()}, copies)


def check_only_good(paths: Sequence[str]) -> None:
    """Raise ValueError if a folder plainly holds more than good parts: others lie beside one called good."""
    for folder in (Path(path) for path in paths if os.path.isdir(path)):
        for parent in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            inside = list_folders(parent)
            others = [path for path in inside if not is_good(path) and list_images(path)]
            if others and any(map(is_good, inside)):
                names = shorten(path.relative_to(folder).as_posix() for path in others)
                raise InputError(
                    f"{folder}: holds {names} beside good parts; name the folder of good parts alone"
                )


def check_only_defective(paths: Sequence[str]) -> None:
    """Raise ValueError if a folder plainly holds good parts too."""
    for folder in (Path(path) for path in paths if os.path.isdir(path)):
        good = [path for path in folder.rglob("*") if path.is_dir() and is_good(path) and list_images(path)]
        if good:
            names = shorten(path.relative_to(folder).as_posix() for path in good)
            raise InputError(f"{folder}: holds {names} too; name the folders of defective parts alone")


def check_apart(good: Collection[str], defective: Judged) -> None:
    """Raise ValueError if an image was given as good, where its pixels' digest is, and as defective."""
    if both := set(good) & defective.digests.keys():
        names = shorten(defective.digests[digest] for digest in both)
        raise InputError(f"{names}: given as good and as defective; decide which, nothing was written")


def _to_columns(rows: Sequence[tuple[str, dict[str, float]]]) -> JudgedImages:
    names = ("score", "peak", "brightness", "sharpness")
    columns = {name: tuple(float(quantities[name]) for _, quantities in rows) for name in names}
    return JudgedImages(source=tuple(source for source, _ in rows), **columns)


def pixel_digest(frame: np.ndarray) -> str:
    """What tells the pixels of a frame from those of any other."""
    header = f"{frame.shape} {frame.dtype}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(frame).tobytes()).hexdigest()

"""Judge the images of a calibration: every one, and each once."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acl_runtime.calibration.monitor import measure_quantities
from acl_runtime.calibration.pictures import Picture, look_at
from acl_runtime.calibration.record import JudgedImages
from acl_runtime.data.samples import is_good, list_folders
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BackendError, FrameError, InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.decode import IMAGES
from acl_runtime.images.frame import BadFrame
from acl_runtime.sources.files import Source, iter_frames
from acl_runtime.text.names import shorten

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many and of how many."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Distinct images that were judged."""

    images: JudgedImages
    pictures: tuple[Picture, ...]  # of each
    digests: dict[str, str]  # of the pixels -> source
    copies: int  # further images with the very pixels of one of these


@dataclass(frozen=True)
class _Row:
    source: str
    quantities: dict[str, float]
    picture: Picture


def judge_images(
    detector: Detector,
    sources: Sequence[Source],
    what: str,
    progress: Progress,
    *,
    excluded: Collection[str] = (),
) -> Judged:
    """Judge every image once; copies of another, pixel by pixel, are counted and passed over.

    A promise about images that were silently left out would be none: once one cannot be judged, the others are
    only read, so that the error names all of them.

    Args:
        detector: Judges.
        sources: Images.
        what: What to call the work in the progress.
        progress: Called after each image.
        excluded: Digests of the pixels of images that do not count, because the memory was fitted to them.

    Raises:
        InputError: Images cannot be read, or the detector cannot judge them; all are named.
    """
    rows: dict[str, _Row] = {}  # by digest of the pixels
    problems: dict[str, str] = {}  # by source
    met: set[str] = set()
    copies = 0
    for done, item in enumerate(iter_frames(sources), start=1):
        if isinstance(item, BadFrame):
            problems[item.source] = item.problem
        elif not problems and (digest := pixel_digest(item.frame)) in met:
            copies += 1
        elif not problems:
            met.add(digest)
            if digest not in excluded:
                try:
                    rows[digest] = _judge(detector, item.source, item.frame)
                except (FrameError, BackendError) as error:
                    problems[item.source] = str(error)
        progress(what, done, len(sources))
    if problems:
        raise InputError(
            f"{shorten(problems)}: cannot be judged ({len(problems)} of {len(sources)} images; "
            f"{next(iter(problems.values()))}); save them again or leave them out; nothing was written"
        )
    return Judged(
        images=_to_columns(list(rows.values())),
        pictures=tuple(row.picture for row in rows.values()),
        digests={digest: row.source for digest, row in rows.items()},
        copies=copies,
    )


def _judge(detector: Detector, source: str, frame: np.ndarray) -> _Row:
    quantities = measure_quantities(detector(frame), measure_appearance(frame))
    for name, value in quantities.items():
        if not math.isfinite(value):
            raise FrameError(f"{source}: its {name} is {value}, no number to set thresholds by")
    return _Row(source, quantities, look_at(frame))


def check_only_good(paths: Sequence[str]) -> None:
    """Raise InputError if a folder plainly holds more than good parts: others lie beside one called good."""
    for folder in (Path(path) for path in paths if os.path.isdir(path)):
        for parent in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            inside = list_folders(parent)
            others = [path for path in inside if not is_good(path) and _holds_images(path)]
            if others and any(map(is_good, inside)):
                names = shorten(path.relative_to(folder).as_posix() for path in others)
                raise InputError(
                    f"{folder}: holds {names} beside good parts; name the folder of good parts alone"
                )


def check_only_defective(paths: Sequence[str]) -> None:
    """Raise InputError if a folder plainly holds good parts too."""
    for folder in (Path(path) for path in paths if os.path.isdir(path)):
        good = [path for path in folder.rglob("*") if path.is_dir() and is_good(path) and _holds_images(path)]
        if good:
            names = shorten(path.relative_to(folder).as_posix() for path in good)
            raise InputError(f"{folder}: holds {names} too; name the folders of defective parts alone")


def _holds_images(folder: Path) -> bool:
    """Tell whether images lie directly in a folder, of all suffixes that are read."""
    return any(path.suffix.lower() in IMAGES and not path.name.startswith(".") for path in folder.iterdir())


def check_apart(good: Collection[str], defective: Judged) -> None:
    """Raise InputError if an image was given as good, where its pixels' digest is, and as defective."""
    if both := set(good) & defective.digests.keys():
        names = shorten(defective.digests[digest] for digest in both)
        raise InputError(f"{names}: given as good and as defective; decide which, nothing was written")


def _to_columns(rows: Sequence[_Row]) -> JudgedImages:
    names = ("score", "peak", "brightness", "sharpness")
    columns = {name: tuple(float(row.quantities[name]) for row in rows) for name in names}
    return JudgedImages(source=tuple(row.source for row in rows), **columns)


def pixel_digest(frame: np.ndarray) -> str:
    """Return what tells the pixels of a frame from those of any other: a sha256 in hexadecimal digits."""
    header = f"{frame.shape} {frame.dtype}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(frame).tobytes()).hexdigest()

"""Save what is to be seen of each frame: its anomaly map, and the frame under it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from acl_runtime.detection.verdict import Inspected, Result, Verdict
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.clutter import OVERLAY
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.overlay import label, overlay
from acl_runtime.sources.files import Source

_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # what a file system says of names it cannot hold
_WORDS = {"score": "by score", "peak": "by peak", "both": "by score and peak", None: ""}
MAP = ".npy"


class Maps:
    """An output that saves every anomaly map that is not left on the GPU, `<name>.npy`, (S, S) float32 in [0, 1]."""

    def __init__(self, folder: Path) -> None:
        """Save into a folder, which is made with the first map."""
        self._folder = folder

    def __call__(self, result: Result) -> None:
        """Save one.

        Raises:
            FrameError: The disk cannot hold the frame's name.
            OSError: The disk is full or away; the error names the file.
        """
        if isinstance(result, Inspected) and result.verdict.anomaly_map.size:
            array = np.ascontiguousarray(result.verdict.anomaly_map)
            _save(self._folder, result, MAP, lambda file: _write_array(file, array))

    def close(self) -> None:
        """Do nothing: every file is whole."""


class Overlays:
    """An output that saves every frame under its map, `<name>.overlay.png`; see `draw_overlay`."""

    def __init__(self, folder: Path) -> None:
        """Save into a folder, which is made with the first picture."""
        self._folder = folder

    def __call__(self, result: Result) -> None:
        """Save one.

        Raises:
            FrameError: The disk cannot hold the frame's name.
            OSError: The disk is full or away; the error names the file.
        """
        if isinstance(result, Inspected):
            picture = draw_overlay(result.frame.frame, result.verdict)
            _, data = cv2.imencode(".png", picture)  # imwrite would not say why a disk refused it
            _save(self._folder, result, OVERLAY, lambda file: _write(file, data.data))

    def close(self) -> None:
        """Do nothing: every file is whole."""


def open_pictures(maps: Path | None, overlays: Path | None) -> list[Maps | Overlays]:
    """Open the outputs for folders that were asked for."""
    found: list[Maps | Overlays] = [] if maps is None else [Maps(maps)]
    return found if overlays is None else [*found, Overlays(overlays)]


def draw_overlay(frame: np.ndarray, verdict: Verdict) -> npt.NDArray[np.uint8]:
    """Draw a frame under its anomaly map, with boxes around its regions, and the verdict in a strip above it.

    The colours are those of an absolute scale, so that frames can be compared. A good part looks like itself; on an
    anomalous one the hottest place is always to be seen.

    Args:
        frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8 or uint16.
        verdict: On this frame.

    Returns:
        (strip + H, W, 3) uint8 BGR; wider than the frame where that is narrower than the text.
    """
    picture = overlay(
        frame,
        verdict.anomaly_map
        if verdict.anomaly_map.size
        else np.zeros((1, 1), np.float32),  # it was left on the GPU
        verdict.regions,
        map_threshold=verdict.region_threshold,
        is_anomalous=verdict.is_anomalous,
        ignored=verdict.ignored,
    )
    parts = ["NG" if verdict.is_anomalous else "OK", f"{verdict.score:.3f}"]
    if verdict.peak_threshold is not None:
        parts.append(f"peak {verdict.peak:.3f}")
    words = " ".join([*parts, _WORDS[verdict.decided_by]])
    return label(picture, words.strip(), is_anomalous=verdict.is_anomalous)


def check_outputs(
    paths: Sequence[Path | str],
    sources: Sequence[Source],
    bundle: Path,
    *,
    json: Path | None = None,
    save_maps: Path | None = None,
    save_overlays: Path | None = None,
) -> None:
    """Raise InputError if results would replace an input, lie in the bundle, or become inputs of the next run.

    An input is known by the file itself, whatever links lead to it.

    Args:
        paths: What the user named.
        sources: What `list_sources` made of it; empty for a folder that is watched, where anything may arrive.
        bundle: The bundle's folder.
        json: File for the JSON lines.
        save_maps: Folder for the maps.
        save_overlays: Folder for the overlays.
    """
    inputs = {found for source in sources if (found := _identity(source.path)) is not None}
    if json is not None and _identity(json) in inputs:
        raise InputError(f"{json}: is one of the inputs; name another file for the JSON lines")
    for output in (json, save_maps, save_overlays):
        if output is not None and output.resolve().is_relative_to(bundle.resolve()):
            raise InputError(f"{output}: lies in the bundle; name another place for the results")
    if save_overlays is not None:
        _check_no_parts(save_overlays, [path for path in map(Path, paths) if path.is_dir()], sources)
    for folder, suffix in ((save_maps, MAP), (save_overlays, OVERLAY)):
        for result in () if folder is None else _results(folder, sources, suffix):
            if _identity(result) in inputs:
                raise InputError(f"{folder}: {result.name} would overwrite an input; name another folder")


def _check_no_parts(overlays: Path, folders: Sequence[Path], sources: Sequence[Source]) -> None:
    """Raise InputError if an overlay would lie in one of the folders."""
    for folder in folders:
        place, inside = overlays.resolve(), folder.resolve()
        if place.is_relative_to(inside):
            raise InputError(
                f"{overlays}: lies in {folder}, where the next run would judge the overlays as parts; name a folder "
                "outside"
            )
        arrives = not sources and inside.is_relative_to(place)
        if arrives or any(
            path.resolve().is_relative_to(inside) for path in _results(overlays, sources, OVERLAY)
        ):
            raise InputError(
                f"{overlays}: holds {folder}, where overlays would be judged as parts; name a folder of their own"
            )


def _results(folder: Path, sources: Iterable[Source], suffix: str) -> Iterable[Path]:
    return (_result_path(folder, source.name, suffix) for source in sources)


def _identity(path: Path | str) -> tuple[int, int] | None:
    """What is the same for all links to a file; None where there is none, as of a camera."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _result_path(folder: Path, name: object, suffix: str) -> Path:
    return folder / f"{name}{suffix}"


def _save(folder: Path, result: Inspected, suffix: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write a frame's file; atomic, but not waiting for the disk, which would cost more than the verdict."""
    frame = result.frame
    path = _result_path(folder, frame.name, suffix)
    try:
        with atomic_file(path, durable=False) as temporary, temporary.open("wb") as file:
            write(file)
    except OSError as error:
        if error.errno in _NAMES:
            raise FrameError(
                f"{frame.source}: its results cannot be saved under its name ({error.strerror}); rename it"
            ) from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(file: IO[bytes], data: memoryview) -> None:
    file.write(data)


def _write_array(file: IO[bytes], array: np.ndarray) -> None:
    """As `numpy.save`, which does not say why a disk refused it."""
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
    file.write(array.data)

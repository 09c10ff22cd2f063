"""Look at every frame of the sources, and save what was asked for."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from acl_runtime.calibration.monitor import DriftMonitor, measure_quantities
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.pipeline import MAX_LATENCY_MS
from acl_runtime.detection.stream import Stream
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.images.overlay import overlay
from acl_runtime.sources.files import Source, iter_frames

_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # what a file system says of names it cannot hold


def inspect_sources(
    detector: Detector,
    sources: Sequence[Source],
    *,
    batch: int = 1,
    max_latency_ms: float | None = MAX_LATENCY_MS,
    drop_oldest: bool = False,
    save_maps: Path | None = None,
    save_overlays: Path | None = None,
    drift: DriftMonitor | None = None,
    say: Callable[[str], None] = lambda message: None,
    say_once: Callable[[str], None] = lambda message: None,
) -> Iterator[Result]:
    """Look at every frame, in order; a file that cannot be read comes as a BadFrame and stops nothing.

    Args:
        detector: Gives the verdicts.
        sources: What to look at, from `list_sources`.
        batch: Frames to look at together, at most the bundle's `max_batch`.
        max_latency_ms: Longest that a frame waits for others to be looked at with; None for as long as it takes.
        drop_oldest: Whether to drop frames that come faster than they are judged, the oldest that waits first.
        save_maps: Folder for the anomaly maps, `<name>.npy`, (S, S) float32 in [0, 1].
        save_overlays: Folder for the frames under their maps, `<name>.png`.
        drift: Compares the frames with those of the calibration.
        say: Called with what `drift` notices, and with how many frames were dropped.
        say_once: Called with how frames are cut, again and again.

    Returns:
        The results one by one, each once its files are saved; wrong arguments are refused before the first.
    """
    detector.check_batch(batch)
    for folder, suffix in ((save_maps, ".npy"), (save_overlays, ".png")):
        if folder is not None:
            _check_inputs_are_safe(sources, folder, suffix)
    frames = _tell_tiles(detector, _fitting(detector, iter_frames(sources)), say_once)
    start = partial(
        Stream,
        detector,
        frames,
        _frame_of,
        batch=batch,
        max_latency_ms=max_latency_ms,
        drop_oldest=drop_oldest,
    )
    results = _inspect(start, say)
    if save_maps is not None or save_overlays is not None:
        results = (_save(detector, result, save_maps, save_overlays) for result in results)
    return results if drift is None else _watch_drift(results, drift, say)


def check_outputs(
    paths: Sequence[Path | str],
    sources: Sequence[Source],
    bundle: Path,
    *,
    json: Path | None = None,
    save_maps: Path | None = None,
    save_overlays: Path | None = None,
) -> None:
    """Raise ValueError if results would replace an input, lie in the bundle, or become inputs of the next run.

    Args:
        paths: What the user named.
        sources: What `list_sources` made of it.
        bundle: The bundle's folder.
        json: File for the JSON lines.
        save_maps: Folder for the maps.
        save_overlays: Folder for the overlays.
    """
    if json is not None and json.resolve() in {Path(source.path).resolve() for source in sources}:
        raise InputError(f"{json}: is one of the inputs; name another file for the JSON lines")
    for output in (json, save_maps, save_overlays):
        if output is not None and output.resolve().is_relative_to(bundle.resolve()):
            raise InputError(f"{output}: lies in the bundle; name another place for the results")
    if save_overlays is None:
        return
    for folder in (path for path in map(Path, paths) if path.is_dir()):
        if save_overlays.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{save_overlays}: lies in {folder}, where the next run would judge the overlays as parts; name a "
                "folder outside"
            )


def _fitting(detector: Detector, frames: Iterable[Frame | BadFrame]) -> Iterator[Frame | BadFrame]:
    """A frame of a size that the bundle does not take is a bad one; those after it are not lost."""
    for item in frames:
        if isinstance(item, Frame):
            try:
                detector.check_frame(item.frame)
            except ValueError as error:
                yield BadFrame(item.source, item.index, f"{item.source}: {error}")
                continue
        yield item


def _tell_tiles(
    detector: Detector, frames: Iterable[Frame | BadFrame], say: Callable[[str], None]
) -> Iterator[Frame | BadFrame]:
    for item in frames:
        plan = detector.plan_tiles(*item.frame.shape[:2]) if isinstance(item, Frame) else None
        if plan is not None:
            height, width = plan.rows.length, plan.columns.length
            side = plan.rows.spans[0].pixels
            say(
                f"frames of {width}×{height} are cut into {len(plan)} tiles of {side.stop - side.start} pixels"
            )
        yield item


def _frame_of(item: Frame | BadFrame) -> np.ndarray | None:
    return item.frame if isinstance(item, Frame) else None


def _inspect(start: Callable[[], Stream[Frame | BadFrame]], say: Callable[[str], None]) -> Iterator[Result]:
    with start() as stream:
        for item, verdict in stream:
            if isinstance(item, BadFrame):
                yield item
            elif verdict is not None:
                yield Inspected(item, verdict)
        if stream.dropped:
            say(f"{stream.dropped} frames were dropped: they came faster than they could be judged")


def _watch_drift(
    results: Iterable[Result], drift: DriftMonitor, say: Callable[[str], None]
) -> Iterator[Result]:
    for result in results:
        if isinstance(result, BadFrame):
            yield result
            continue
        appearance = measure_appearance(result.frame.frame)
        for message in drift.add(measure_quantities(result.verdict, appearance)):
            say(message)
        yield replace(result, unusual=drift.unusual)


def _check_inputs_are_safe(sources: Sequence[Source], folder: Path, suffix: str) -> None:
    inputs = {Path(source.path).resolve() for source in sources}
    for source in sources:
        result = _result_path(folder, source.name, suffix)
        if result.resolve() in inputs:
            raise InputError(f"{folder}: {result.name} would overwrite an input; name another folder")


def _result_path(folder: Path, name: object, suffix: str) -> Path:
    return folder / f"{name}{suffix}"


def _save(detector: Detector, result: Result, maps: Path | None, overlays: Path | None) -> Result:
    """Write a frame's files and return its result; one whose name the disk refuses is a BadFrame."""
    if isinstance(result, BadFrame):
        return result
    try:
        _write(detector, result, maps, overlays)
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        frame = result.frame
        problem = f"{frame.source}: its results cannot be saved under its name ({error.strerror}); rename it"
        return BadFrame(frame.source, frame.index, problem)
    return result


def _write(detector: Detector, result: Inspected, maps: Path | None, overlays: Path | None) -> None:
    """Write a frame's files; atomic, but not waiting for the disk, which would cost more than the verdict."""
    frame, verdict = result.frame, result.verdict
    if maps is not None:
        with atomic_file(_result_path(maps, frame.name, ".npy"), durable=False) as temporary:
            np.save(temporary, verdict.anomaly_map)
    if overlays is not None:
        picture = overlay(
            frame.frame,
            verdict.anomaly_map,
            verdict.regions,
            map_threshold=detector.bundle.manifest.calibration.map_threshold,
            score=verdict.score,
            peak=None if verdict.peak_threshold is None else verdict.peak,
            is_anomalous=verdict.is_anomalous,
        )
        with atomic_file(_result_path(overlays, frame.name, ".png"), durable=False) as temporary:
            temporary.write_bytes(_encode_png(picture))


def _encode_png(picture: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", picture)  # imwrite would not say why a disk refused it
    return data.tobytes()

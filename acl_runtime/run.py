"""Look at every frame of the sources, save what was asked for, and say what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from acl_runtime.detector import Detector, Verdict
from acl_runtime.files import atomic_file
from acl_runtime.frames import BadFrame, Frame, Source, iter_frames
from acl_runtime.overlay import overlay


@dataclass(frozen=True)
class Inspected:
    """A frame with its verdict."""

    frame: Frame
    verdict: Verdict


def inspect_sources(
    detector: Detector,
    sources: Sequence[Source],
    *,
    batch: int = 1,
    save_maps: Path | None = None,
    save_overlays: Path | None = None,
) -> Iterator[Inspected | BadFrame]:
    """Look at every frame, in order; a file that cannot be read comes as a BadFrame and stops nothing.

    Args:
        detector: Gives the verdicts.
        sources: What to look at, from `list_sources`.
        batch: Frames to look at together, at most the bundle's `max_batch`.
        save_maps: Folder for the anomaly maps, `<name>.npy`, (S, S) float32 in [0, 1].
        save_overlays: Folder for the frames under their maps, `<name>.png`.

    Returns:
        The results one by one, each once its files are saved; wrong arguments are refused before the first.
    """
    largest = detector.bundle.manifest.max_batch
    if not 1 <= batch <= largest:
        raise ValueError(f"batch must lie in 1..{largest} (the bundle's max_batch), got {batch}")
    for folder, suffix in ((save_maps, ".npy"), (save_overlays, ".png")):
        if folder is not None:
            _check_inputs_are_safe(sources, folder, suffix)
    return _inspect(detector, sources, batch, save_maps, save_overlays)


def check_outputs(
    paths: Sequence[Path | str],
    sources: Sequence[Source],
    bundle: Path,
    *,
    json: Path | None = None,
    save_overlays: Path | None = None,
) -> None:
    """Raise ValueError if results would replace an input or the bundle, or become inputs of the next run.

    Args:
        paths: What the user named.
        sources: What `list_sources` made of it.
        bundle: The bundle's folder.
        json: File for the JSON lines.
        save_overlays: Folder for the overlays.
    """
    if json is not None:
        if json.resolve() in {Path(source.path).resolve() for source in sources}:
            raise ValueError(f"{json}: is one of the inputs; name another file for the JSON lines")
        if json.resolve().is_relative_to(bundle.resolve()):
            raise ValueError(f"{json}: lies in the bundle; name another file for the JSON lines")
    if save_overlays is None:
        return
    for folder in (path for path in map(Path, paths) if path.is_dir()):
        if folder.resolve() in save_overlays.resolve().parents:
            raise ValueError(
                f"{save_overlays}: lies in {folder}, where the next run would judge the overlays as parts; name a "
                "folder outside"
            )


def json_line(result: Inspected | BadFrame) -> str:
    """One JSON object: source, index, score, is_anomalous, threshold, regions, latency_ms.

    Of a BadFrame: source, index, error.
    """
    if isinstance(result, BadFrame):
        return json.dumps({"source": result.source, "index": result.index, "error": result.problem})
    frame, verdict = result.frame, result.verdict
    record = {
        "source": frame.source,
        "index": frame.index,
        "score": verdict.score,
        "is_anomalous": verdict.is_anomalous,
        "threshold": verdict.threshold,
        "regions": [asdict(region) for region in verdict.regions],
        "latency_ms": dict(verdict.latency_ms),
    }
    return json.dumps(record)


def text_line(result: Inspected | BadFrame) -> str:
    """One line for a person: OK or NG, the score, the source."""
    if isinstance(result, BadFrame):
        return f"??  -----  {result.problem}"
    frame, verdict = result.frame, result.verdict
    position = f" #{frame.index}" if frame.index else ""
    return f"{'NG' if verdict.is_anomalous else 'OK'}  {verdict.score:.3f}  {frame.source}{position}"


@dataclass
class Tally:
    """What was found so far."""

    good: int = 0
    anomalous: int = 0
    unreadable: int = 0

    def add(self, result: Inspected | BadFrame) -> None:
        """Count one result."""
        if isinstance(result, BadFrame):
            self.unreadable += 1
        elif result.verdict.is_anomalous:
            self.anomalous += 1
        else:
            self.good += 1

    def text(self, seconds: float) -> str:
        """The closing line."""
        frames = self.good + self.anomalous
        counts = f"{frames} frames: {self.anomalous} NG, {self.good} OK"
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        return f"{counts}{unreadable}; {frames / seconds:.2f} frames per second"

    def exit_code(self, *, fail_on_defect: bool) -> int:
        """3 for a defect where that is asked for, else 1 if anything could not be read, else 0."""
        if fail_on_defect and self.anomalous:
            return 3
        return 1 if self.unreadable else 0


@contextmanager
def json_writer(path: Path | None) -> Iterator[Callable[[Inspected | BadFrame], None]]:
    """Yield a function that adds a result to a new file of JSON lines; what was added is safe from Ctrl-C.

    Args:
        path: File to write, or None to write nothing.
    """
    if path is None:
        yield lambda result: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1) as file:  # every line goes to the system at once
        yield lambda result: print(json_line(result), file=file)


def _inspect(
    detector: Detector, sources: Sequence[Source], batch: int, maps: Path | None, overlays: Path | None
) -> Iterator[Inspected | BadFrame]:
    frames = iter_frames(sources)
    while group := list(islice(frames, batch)):
        for result in _inspect_group(detector, group):
            if isinstance(result, Inspected):
                _save(detector, result, maps, overlays)
            yield result


def _inspect_group(detector: Detector, group: Iterable[Frame | BadFrame]) -> Iterator[Inspected | BadFrame]:
    group = list(group)
    frames = [item.frame for item in group if isinstance(item, Frame)]
    verdicts = iter(detector.detect(frames))
    for item in group:
        yield Inspected(item, next(verdicts)) if isinstance(item, Frame) else item


def _check_inputs_are_safe(sources: Sequence[Source], folder: Path, suffix: str) -> None:
    inputs = {Path(source.path).resolve() for source in sources}
    for source in sources:
        result = _result_path(folder, source.name, suffix)
        if result.resolve() in inputs:
            raise ValueError(f"{folder}: {result.name} would overwrite an input; name another folder")


def _result_path(folder: Path, name: object, suffix: str) -> Path:
    return folder / f"{name}{suffix}"


def _save(detector: Detector, result: Inspected, maps: Path | None, overlays: Path | None) -> None:
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
            is_anomalous=verdict.is_anomalous,
        )
        with atomic_file(_result_path(overlays, frame.name, ".png"), durable=False) as temporary:
            temporary.write_bytes(_encode_png(picture))


def _encode_png(picture: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", picture)  # imwrite would not say why a disk refused it
    return data.tobytes()

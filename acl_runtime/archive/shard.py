"""Judge the pictures of a shard: a row for each, whatever it holds; the same function for every executor."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np

from acl_runtime.archive.folder import remove_temporary
from acl_runtime.archive.parquet import encode_rows
from acl_runtime.archive.plan import Shard
from acl_runtime.archive.record import ArchiveRun, MapFolder, program_version, settings_text
from acl_runtime.archive.urls import Storage, scheme_of
from acl_runtime.backends.choose import BACKENDS
from acl_runtime.bundle.bundle import MANIFEST
from acl_runtime.calibration.monitor import measure_quantities, monitor_of
from acl_runtime.detection.detector import Detector
from acl_runtime.detection.stream import Stream
from acl_runtime.detection.verdict import Inspected, Result
from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import BundleError, FrameError
from acl_runtime.images.appearance import measure_appearance
from acl_runtime.images.decode import ReadSettings, load_frame
from acl_runtime.images.frame import BadFrame, Frame

_MAP = "[0-9]" * 7 + ".png"
MOST_NOTES = 20  # of a shard


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        number: Of the shard.
        data: Its results, a Parquet file.
        pictures: Rows.
        anomalous: Of these, NG.
        errors: Of these, could not be judged.
        notes: On how files were read, each once.
    """

    number: int
    data: bytes
    pictures: int
    anomalous: int
    errors: int
    notes: tuple[str, ...] = ()


class ShardJudge:
    """An engine, and how to use it; `close` it, or use it in a `with` statement."""

    def __init__(self, run: ArchiveRun, *, threads: int = 0, detector: Detector | None = None) -> None:
        """Load the bundle's graph.

        Args:
            run: What to judge with.
            threads: CPU threads that compute and prepare; 0 for one per core.
            detector: One that is open already, and as the run says.

        Raises:
            BundleError: The bundle is not the run's any more, or damaged.
            BackendError: What runs the graph cannot be had here.
        """
        _check_bundle(run)  # before its graph is loaded, which takes a while
        how = run.judging
        self._run = run
        self._detector = detector or Detector(
            run.bundle,
            backend=how.backend,
            provider=how.provider,
            batch=how.batch,
            threads=threads,
            threshold=how.threshold,
            tiling=how.tiling,
            fast_resize=how.fast_resize,
        )
        _check_bundle(run)  # a calibration meanwhile may be what was loaded

    def __enter__(self) -> ShardJudge:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the engine holds."""
        self._detector.close()

    def __call__(self, shard: Shard, advance: Callable[[int], None] = lambda count: None) -> ShardResult:
        """Judge a shard.

        Args:
            shard: Its pictures.
            advance: Called with a number of pictures once they are judged.

        Raises:
            OSError: Object storage or the folder of the maps is away.
        """
        rows: list[dict[str, object]] = []
        monitor, maps = monitor_of(self._detector), _Maps(self._run.maps, shard.number)
        with _notes_kept() as notes, tempfile.TemporaryDirectory() as scratch:
            frames = self._frames(shard, Path(scratch, "picture"))
            stream = Stream(self._detector.stages, frames, batch=self._run.judging.batch, max_latency_ms=None)
            with closing(stream) as results:
                for path, result in zip(shard.paths, results, strict=True):
                    unusual: tuple[str, ...] = ()
                    if isinstance(result, Inspected) and monitor is not None:
                        appearance = measure_appearance(result.frame.frame)
                        monitor.add(measure_quantities(result.verdict, appearance))
                        unusual = monitor.unusual
                    maps.save(len(rows), result)
                    rows.append(_row(path, result, unusual))
                    advance(1)
        counts = {
            "pictures": len(rows),
            "anomalous": sum(row["is_anomalous"] is True for row in rows),
            "errors": sum(row["error"] is not None for row in rows),
        }
        data = encode_rows(rows, self._metadata(shard, counts))
        return ShardResult(number=shard.number, data=data, notes=tuple(notes.texts), **counts)

    def _frames(self, shard: Shard, scratch: Path) -> Iterator[Frame | BadFrame]:
        how = self._run.judging
        reading = ReadSettings(how.bits, how.exif, how.max_megapixels)
        for index, path in enumerate(map(os.fsdecode, shard.paths)):
            yield read_picture(path, index, reading, scratch)

    def _metadata(self, shard: Shard, counts: dict[str, int]) -> dict[str, str]:
        detector = self._detector
        entry = BACKENDS.get(detector.backend)
        return {
            "acl.bundle_sha256": self._run.bundle_sha256,
            "acl.backend": detector.backend,
            "acl.provider": detector.provider,
            "acl.precision": "" if entry is None else entry.precision(detector.bundle, detector.session),
            "acl.version": program_version(),
            "acl.judging": settings_text(self._run),
            "acl.plan_sha256": self._run.plan.sha256,
            "acl.shard": str(shard.number),
            "acl.shard_size": str(self._run.plan.shard_size),
            "acl.shard_sha256": shard.sha256,
            **{f"acl.{name}": str(count) for name, count in counts.items()},
        }


def _check_bundle(run: ArchiveRun) -> None:
    if sha256(Path(run.bundle, MANIFEST)) != run.bundle_sha256:
        raise BundleError(f"{run.bundle}: is another bundle than the run began with; put that one back")


def map_path(maps: MapFolder, shard: int, row: int) -> Path:
    """Where the map of a picture is kept: names of pictures may be longer than a disk allows, or lead elsewhere."""
    return Path(maps.path, f"{shard:07d}", f"{row:07d}.png")


def load_map(path: Path) -> np.ndarray:
    """A map that was kept, (h, w) float32 in [0, 1], to within a level of its 8 or 16 bits.

    Raises:
        FrameError, OSError: The file cannot be read.
    """
    levels = load_frame(path, ReadSettings(bits=16))
    return np.asarray(levels / np.iinfo(levels.dtype).max, np.float32)


def clear_maps(maps: MapFolder | None, shard: int) -> None:
    """Remove what was being written for a shard when its worker was killed."""
    if maps is not None:
        remove_temporary(map_path(maps, shard, 0).parent)


class _Maps:
    """Keeps the maps of a shard."""

    def __init__(self, maps: MapFolder | None, shard: int) -> None:
        self._maps, self._shard = maps, shard
        clear_maps(maps, shard)
        for path in () if maps is None else map_path(maps, shard, 0).parent.glob(_MAP):
            path.unlink()  # of another bundle

    def save(self, row: int, result: Result) -> None:
        if self._maps is None or not isinstance(result, Inspected):
            return
        full = (1 << self._maps.bits) - 1
        levels = np.rint(np.clip(result.verdict.anomaly_map, 0, 1) * full)
        _, data = cv2.imencode(".png", levels.astype(np.uint8 if full == 255 else np.uint16))
        with atomic_file(map_path(self._maps, self._shard, row), durable=False) as temporary:
            temporary.write_bytes(data.tobytes())


def _row(path: bytes, result: Result, unusual: tuple[str, ...]) -> dict[str, object]:
    row: dict[str, object] = {"path": path.decode("utf-8", "backslashreplace")}
    if isinstance(result, BadFrame):
        names = ("score", "peak", "is_anomalous", "threshold", "peak_threshold", "regions", "unusual")
        error = result.problem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return row | dict.fromkeys(names) | {"error": error}
    verdict = result.verdict
    return row | {
        "score": verdict.score,
        "peak": verdict.peak,
        "is_anomalous": verdict.is_anomalous,
        "threshold": verdict.threshold,
        "peak_threshold": verdict.peak_threshold,
        "regions": json.dumps([dict(vars(region)) for region in verdict.regions]),
        "unusual": json.dumps(list(unusual)),
        "error": None,
    }


def read_picture(path: str, index: int, reading: ReadSettings, scratch: Path) -> Frame | BadFrame:
    """A picture of a disk or of object storage; what is wrong with it alone makes a BadFrame."""
    if scheme_of(path):
        return _fetch(path, index, reading, scratch)
    try:
        return Frame(path, index, PurePath(str(index)), load_frame(path, reading))
    except (FrameError, OSError) as error:
        return BadFrame(path, index, str(error))


def _fetch(address: str, index: int, reading: ReadSettings, scratch: Path) -> Frame | BadFrame:
    """The same, by a file of its own; storage that is away is raised, or a whole shard would be errors."""
    try:
        scratch.write_bytes(
            Storage(address).read(address, int(8e6 * reading.max_megapixels) + (64 << 20) + 1)
        )
    except FileNotFoundError:
        return BadFrame(address, index, f"{address}: no such file; check the name")
    except PermissionError:
        return BadFrame(address, index, f"{address}: may not be read; allow it")
    try:
        return Frame(address, index, PurePath(str(index)), load_frame(scratch, reading))
    except (FrameError, OSError) as error:
        return BadFrame(address, index, str(error).replace(str(scratch), address))


class _Notes(logging.Handler):
    """Keeps notes instead of showing them: a worker has no terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: dict[str, None] = {}  # each once

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.texts) < MOST_NOTES:
            self.texts[record.getMessage()] = None


@contextmanager
def _notes_kept() -> Iterator[_Notes]:
    log, kept = logging.getLogger("acl"), _Notes()
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:], log.level, log.propagate = [kept], logging.INFO, False
    try:
        yield kept
    finally:
        log.handlers[:], log.level, log.propagate = before

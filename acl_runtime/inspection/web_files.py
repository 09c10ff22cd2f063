"""What is kept of a web's inspection: a line of JSON for each event, a line of CSV for each defect, and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from acl_runtime.files.atomic import atomic_file
from acl_runtime.images.overlay import overlay
from acl_runtime.outputs.line_file import LineFile
from acl_runtime.web.records import Defect, DefectBegun, Event, Judged, StateChange, defect_dict, event_dict
from acl_runtime.web.rules import Alarm

SCHEMA = 1  # of the JSON lines
TOGETHER = 10_000  # lines that were judged and are told as one
COLUMNS = (
    *("number", "first_line", "last_line", "left_px", "right_px", "x_mm", "y_mm", "width_mm", "length_mm"),
    *("area_mm2", "peak", "lanes", "continues", "part", "score", "decided_by", "is_flood"),
)
"""Of the CSV file; words as in JSON, names of lanes with spaces between."""
PICTURES = "pictures"  # folder of a report

WebOutput = Callable[[Event | Alarm], None]
"""Where events go: called with each, in order."""


@dataclass(frozen=True, kw_only=True)
class Roll:
    """What the records of a roll rest on; the first of the JSON lines.

    Attributes:
        name: Of the roll.
        source: As the user wrote it.
        bundle: Path of the bundle.
        checksum: Of its manifest.
        started: ISO 8601 date.
        width: Pixels of a line.
        mm_per_pixel: Size of a pixel.
        mm_per_line: From a line to the next.
        tile: Side of a tile, in lines.
        step: Lines from a row of tiles to the next.
        score_threshold: Smallest score of a defect.
        peak_threshold: Smallest peak of a defect; None: the peak does not decide.
        region_threshold: Smallest map value that belongs to one.
        promise: What the thresholds promise, in words.
    """

    name: str
    source: str
    bundle: str
    checksum: str
    started: str
    width: int
    mm_per_pixel: float
    mm_per_line: float
    tile: int
    step: int
    score_threshold: float
    peak_threshold: float | None
    region_threshold: float
    promise: str


Emit = Callable[[dict[str, Any], Defect | None], None]
"""Called with each record, and with the defect that it tells of, if it is one."""


class WebRecorder:
    """Makes records of events, the roll's own before them; see `event_dict` for the keys.

    Lines that were judged one after another are told together, `TOGETHER` of them at most, unless something else is
    told in between: a roll of a day would fill a disk.
    """

    def __init__(self, emit: Emit, roll: Roll, *, resume: bool = False) -> None:
        """Tell of the roll, unless it goes on; `emit` is called with each record."""
        self._emit, self._judged = emit, list[Judged]()
        if not resume:
            emit({"event": "roll", "schema": SCHEMA, **asdict(roll)}, None)

    def __call__(self, event: Event | Alarm) -> None:
        """Tell one, or keep it to be told together with the next."""
        if not isinstance(event, Judged):
            self.flush()
            record = {"event": "rule", **asdict(event)} if isinstance(event, Alarm) else event_dict(event)
            self._emit(record, event if isinstance(event, Defect) else None)
            return
        if self._judged and self._judged[-1].stop != event.first:
            self.flush()
        self._judged.append(event)
        if event.stop - self._judged[0].first >= TOGETHER:
            self.flush()

    def end(self, summary: dict[str, Any]) -> None:
        """Tell what the roll adds up to, last."""
        self.flush()
        self._emit({"event": "summary", **summary}, None)

    def flush(self) -> None:
        """Tell what was kept."""
        judged, self._judged = self._judged, []
        if judged:
            together = Judged(
                first=judged[0].first,
                stop=judged[-1].stop,
                row_stop=judged[-1].row_stop,
                score=max(each.score for each in judged),
                peak=max(each.peak for each in judged),
                left=min((each.left for each in judged if each.left < each.right), default=0),
                right=max((each.right for each in judged if each.left < each.right), default=0),
            )
            self._emit(event_dict(together), None)


class WebJsonLines(WebRecorder):
    """An output that writes a line for each record of a `WebRecorder`."""

    def __init__(self, path: Path, roll: Roll, *, resume: bool = False) -> None:
        """Take the file, alone; a new one unless it holds the roll that goes on, see `LineFile`."""
        self._file = _take(path, resume=resume)
        super().__init__(self._write, roll, resume=resume)

    def close(self) -> None:
        """Write what was kept, and let the file go."""
        self.flush()
        self._file.close()

    def _write(self, record: dict[str, Any], defect: Defect | None) -> None:
        self._file.write(json.dumps(record, allow_nan=False))


class WebCsv:
    """An output that writes a line for each defect, and its columns' names before them."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Take the file, alone; a new one unless it holds the roll that goes on, see `LineFile`."""
        is_new = not path.exists()
        self._file = _take(path, resume=resume)
        if is_new or not resume:
            self._file.write(_csv_line(COLUMNS))

    def __call__(self, event: Event | Alarm) -> None:
        """Write one, if it is a defect."""
        if isinstance(event, Defect):
            row = {**defect_dict(event), "lanes": " ".join(event.lanes)}
            self._file.write(_csv_line([row[name] for name in COLUMNS]))

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _take(path: Path, *, resume: bool) -> LineFile:
    remedy = "name another file, or go on with the roll: acl web --resume"
    file = LineFile(path, append=resume, remedy=remedy)
    if resume:
        file.mend()
    return file


def save_pictures(defect: Defect, folder: Path, *, map_threshold: float) -> Path | None:
    """Save what a defect looks like, and the same under its map, as PNG.

    Args:
        defect: With pictures.
        folder: Made with the first.
        map_threshold: Map value from which the colours have their full strength.

    Returns:
        The file of the picture itself; that under the map ends in `-map.png`. None for a defect without pictures.
    """
    if defect.pictures is None:
        return None
    name = f"{defect.number:06d}" + (f"-{defect.part}" if defect.part > 1 else "")
    pixels = defect.pictures.pixels
    drawn = overlay(pixels, defect.pictures.anomaly_map, map_threshold=map_threshold, is_anomalous=True)
    _save(folder / f"{name}-map.png", drawn)
    _save(folder / f"{name}.png", pixels)
    return folder / f"{name}.png"


def text_line(event: Event | Alarm, *, mm_per_line: float) -> str | None:
    """A line for a person; None for what nobody wants to read as it comes."""
    if isinstance(event, (Judged, DefectBegun)):
        return None
    if isinstance(event, Defect):
        part = f" part {event.part}{', goes on' if event.continues else ''}" if _in_parts(event) else ""
        lanes = f" lane {' '.join(event.lanes)}" if event.lanes else ""
        flood = " flood" if event.is_flood else ""
        return (
            f"NG  {event.y_mm:10.1f}  {event.x_mm:9.1f}  {event.length_mm:8.1f}  {event.width_mm:8.1f}  "
            f"{event.peak:.3f}  {event.score:.3f}  #{event.number}{part}{flood}{lanes}"
        )
    if isinstance(event, Alarm):
        numbers = ", ".join(f"#{number}" for number in event.numbers[-10:])
        return f"!!  {event.y_mm:10.1f}  {event.rule}: {numbers}"
    if isinstance(event, StateChange):
        return f"--  {event.line * mm_per_line:10.1f}  {event.state}"
    count, about = event.stop - event.first, "about " if event.estimated else ""
    lines = f"{about}{count} lines ({count * mm_per_line:.1f} mm)"
    return f"??  {event.first * mm_per_line:10.1f}  {lines} not judged: {event.reason}"


HEADER = "      along mm  across mm    length     width   peak  score"
"""What the columns of `text_line` are called."""


def _in_parts(defect: Defect) -> bool:
    return defect.part > 1 or defect.continues


def _csv_line(values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)  # type: ignore[arg-type]
    return text.getvalue()


def _save(path: Path, picture: np.ndarray) -> None:
    _, data = cv2.imencode(".png", picture)  # imwrite would not say why a disk refused it
    try:
        with atomic_file(path, durable=False) as temporary:
            temporary.write_bytes(data.tobytes())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error

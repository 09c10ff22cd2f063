"""Evidence as a table, as folders of images that thresholds are set from, and as words."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import InputError
from acl_runtime.outputs.evidence.reader import MOST, Contradictions, EvidenceReader
from acl_runtime.outputs.evidence.record import Evidence
from acl_runtime.outputs.station_json import utc
from acl_runtime.text.names import table_cell

LEAST_WRONG = 10  # rejects that were good parts: as many ask for another calibration
_LABELS = {"good": "good", "defect": "bad"}  # folder of each mark
_CSV = (
    *("number", "time", "camera", "kind", "part_id", "roll", "y_mm", "x_mm", "verdict", "reason"),
    *(
        "score",
        "peak",
        "threshold",
        "peak_threshold",
        "regions",
        "bundle",
        "latency_ms",
        "unusual",
        "is_sample",
    ),
    *("picture", "review", "reviewed_by", "reviewed_at"),
)


@dataclass
class Exported:
    """Pictures that were copied, and those that could not be.

    Attributes:
        good: Into good/, those that a person called good.
        samples: Into good/, OK parts that nobody reviewed.
        bad: Into bad/.
        of_web: Reviewed, but of a web: what is cut out of it is no frame.
        without_picture: Reviewed, but without a picture, such as one whose quota was over before.
        open_samples: Samples that were NG and that nobody reviewed: without them good parts look better than they are.
    """

    good: int = 0
    samples: int = 0
    bad: int = 0
    of_web: int = 0
    without_picture: int = 0
    open_samples: int = 0


def iter_records(reader: EvidenceReader, **wanted: Any) -> Iterator[Evidence]:
    """All records that are wanted, the oldest first; `wanted` as of `EvidenceReader.records`."""
    after = wanted.pop("after", None) or 0
    while found := reader.records(after=after, limit=MOST, **wanted):
        yield from found
        after = found[-1].number


def export_csv(reader: EvidenceReader, path: Path, **wanted: Any) -> int:
    """Write records as a table that spreadsheets read; how many. `wanted` as of `EvidenceReader.records`."""
    count = 0
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(_CSV)
        for record in iter_records(reader, **wanted):
            cells = _cells(record)
            table.writerow([cells[name] for name in _CSV])
            count += 1
    return count


def _cells(record: Evidence) -> dict[str, Any]:
    cells = {
        **vars(record),
        "time": utc(record.time),
        "regions": json.dumps(record.regions),
        "unusual": "; ".join(record.unusual),
        "is_sample": int(record.is_sample),
        "picture": f"{record.day}/{record.number:010d}.{record.picture}" if record.picture else "",
        "reviewed_at": "" if record.reviewed_at is None else utc(record.reviewed_at),
    }
    return {name: table_cell(value) if isinstance(value, str) else value for name, value in cells.items()}


def export_images(
    reader: EvidenceReader,
    folder: Path,
    *,
    samples: bool,
    copy: Callable[[Path, Path], object] = shutil.copyfile,
) -> Exported:
    """Copy pictures by what people said into good/ and bad/, as `acl calibrate` and `acl eval` take them.

    Args:
        reader: Of the store.
        folder: New or empty.
        samples: Whether good/ gets the OK parts of which every Nth is kept too.
        copy: Puts a picture there.

    Raises:
        InputError: The folder is not empty, or the store cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not an empty folder; name a new one")
    found = Exported()
    for mark, label in _LABELS.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for record in iter_records(reader, review=mark):
            if record.kind != "part":
                found.of_web += 1
            elif not _copy(reader, record, folder / label, copy):
                found.without_picture += 1
            elif label == "good":
                found.good += 1
            else:
                found.bad += 1
    if samples:
        for record in _iter_samples(reader):
            found.samples += _copy(reader, record, folder / "good", copy)
        found.open_samples = sum(record.is_sample for record in iter_records(reader, verdict="ng", review=""))
    return found


def _iter_samples(reader: EvidenceReader) -> Iterator[Evidence]:
    after = 0
    while found := reader.samples(after=after):
        yield from found
        after = found[-1].number


def _copy(
    reader: EvidenceReader, record: Evidence, folder: Path, copy: Callable[[Path, Path], object]
) -> bool:
    path = reader.picture_path(record.number)
    if path is None:
        return False
    copy(path, folder / path.name)
    return True


def contradiction_words(found: Contradictions) -> str | None:
    """That reviews say otherwise than the thresholds; None while they do not."""
    if found.wrong_rejects < LEAST_WRONG and not found.escapes:
        return None
    facts = []
    if found.wrong_rejects:
        facts.append(f"{found.wrong_rejects} of {found.reviewed_rejects} reviewed rejects were good parts")
    if found.escapes:
        facts.append(f"{found.escapes} reviewed OK parts were defective")
    return f"{' and '.join(facts)}: a recalibration is due"


def recalibration_words(found: Contradictions, folder: Path) -> str | None:
    """The same, and which commands do it."""
    words = contradiction_words(found)
    if words is None:
        return None
    how = (
        "acl calibrate BUNDLE --web SOURCE with more good web"
        if found.is_web
        else f"acl evidence export {folder} --images parts --samples, then acl calibrate BUNDLE parts/good --defective "
        "parts/bad"
    )
    return f"{words}; {how}; acl restore BUNDLE takes it back"


def record_words(record: Evidence) -> str:
    """A record in a line."""
    facts = [
        f"{record.number}",
        utc(record.time)[:19].replace("T", " "),
        record.camera,
        {"ok": "OK", "ng": "NG", "not judged": "NOT JUDGED"}[record.verdict],
    ]
    if record.score is not None:
        peak = "" if record.peak is None else f", peak {record.peak:.3f}"
        facts.append(f"score {record.score:.3f}{peak}")
    facts += [each for each in (record.reason, record.part_id and f"part {record.part_id}") if each]
    if record.roll:
        facts.append(f"{record.kind} on roll {record.roll}" + _place(record))
    facts += [f"sample{'' if record.picture else ' without picture'}"] if record.is_sample else []
    if record.review:
        facts.append(f"{record.review}, says {record.reviewed_by}")
    return "  ".join(facts)


def _place(record: Evidence) -> str:
    if record.y_mm is None or record.x_mm is None:
        return ""
    return f" at {record.y_mm:.1f} mm along, {record.x_mm:.1f} mm across"

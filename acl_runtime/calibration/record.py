"""The evidence of a calibration: every key of `calibrations/<number>.json` in a bundle, and its meaning.

The classes below are the reference of the file format, version 6, as those of `manifest.py` are of the manifest's:
a field is a key, a nested class is a JSON object, a tuple a list. No key is optional, no other is allowed. Version 5
lacked `by_hand`, read as null: measured, `unlabelled` and `ignore`, the latter also in `previous_calibration`, read as
null, and in `memory` all but `file`, `patches` and `sources`: it was of nearest patches. Version 4 also lacked
`segment_mm`, read as null: images. Version 3 also lacked `bits` and `exif`, read as null: not known. Version 2 also
lacked `region_threshold`, here and in `previous_calibration`, read as null, and `findings`, read as none; its
`backend` was the name of a class, read as the backend's. Version 1, and the first files of version 2, also lacked
`fast_resize`, read as false; version 1 also `memory`, here and in `previous_calibration`, read as null.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np

from acl_runtime.backends.session import backend_in_record
from acl_runtime.bundle.bundle import MANIFEST, Bundle, calibration_file
from acl_runtime.bundle.manifest import Calibration, Tiling
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import BundleError
from acl_runtime.files.strict_json import parse_document, read_strictly

FOLDER = "calibrations"  # in the bundle; its files are listed in the manifest like all others
FORMAT: Literal["anomalyclip-calibration"] = "anomalyclip-calibration"
FORMAT_VERSION: Literal[6] = 6


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """What was measured on images, in their order: lists of equal length."""

    source: tuple[str, ...]  # file, as the user named it
    score: tuple[float, ...]
    peak: tuple[float, ...]  # largest value of the map
    brightness: tuple[float, ...]  # see `images/appearance.py`
    sharpness: tuple[float, ...]

    @property
    def quantities(self) -> dict[str, tuple[float, ...]]:
        """The numbers by name, as a `DriftMonitor` takes them."""
        names = ("brightness", "sharpness", "score", "peak")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Escapes:
    """What the thresholds do to images that are known to be defective."""

    images: int
    missed: int  # how many of them pass for good
    sources: tuple[str, ...]  # which


@dataclass(frozen=True, kw_only=True)
class MemoryImages:
    """Good images that are in the memory, and therefore neither set scales nor calibrate."""

    file: str  # of the bundle, see `scoring/memory_file.py`
    kind: str  # "patches", "subspace" or "place", or several with + between
    patches: int  # kept of all of them together; 0 where the kind needs none
    images: int  # in the memory, those of merged memories among them
    sources: tuple[str, ...]  # which of the good images
    merged: tuple[str, ...]  # memories that were added, as the user named them
    chosen_by: Literal["user", "drawn defects", "defective images", "default"]  # what chose the kind
    evidence: dict[str, float]  # kind -> AUROC of what chose it; none where the user did


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about the good images or the thresholds that the user must know; see `findings.py`."""

    kind: Literal[
        "dark",
        "saturated",
        "near copies",
        "highest",
        "gap",
        "two groups",
        "before",
        "idle threshold",
        "unlike the memory",
        "memory",
    ]
    text: str  # one or two sentences, with figures
    images: tuple[str, ...]  # all that it is about


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """Who set the thresholds, and what it does; those before are in `previous_calibration`."""

    by: str  # name of the administrator
    parts: int  # the last ones that were judged, as many as the station remembered
    changed: int  # of these, how many would have another verdict


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """What was asked, what is promised, and all that it rests on.

    Where a person set the thresholds, nothing is promised: the images are those of the calibration before, which still
    say what frames look like, and the demand is what that one was asked.
    """

    format: Literal["anomalyclip-calibration"]
    format_version: Literal[6]
    created: str  # ISO 8601 date
    statement: str  # the promise in plain words
    rule: Literal["score", "score or peak"]  # this and the next three as in the manifest's `calibration`
    score_threshold: float
    map_threshold: float
    region_threshold: float | None
    tiling: Tiling | None  # how frames were cut when they were judged
    fast_resize: bool  # whether they were resized by `fast_resize.py`, not by Pillow
    bits: (
        int | None
    )  # significant bits of pixels that are stored in 16, see `ReadSettings`; null: all, or not known
    exif: bool | None  # whether pictures were turned as their orientation tag says; null: not known
    max_overkill: float  # asked: largest share of good parts that may be rejected
    promised_overkill: (
        float | None
    )  # the share that is promised; larger than the one asked where images are too few; null: none, set by hand
    confidence: float  # of the promise, over the draw of the good images
    hidden_defects: int  # how many of the good images may be defective without harm to the promise
    segment_mm: (
        float | None
    )  # length of web that takes the place of an image everywhere here; null: they are images
    images: int  # distinct good images, those in the memory not among them
    scale_images: int  # of these: only put score and peak on one scale
    copies: int  # further good images with the very pixels of another; they count for nothing
    rejected: int  # of `images`: what the rule now rejects
    escapes: Escapes | None  # null: no defective images were given
    findings: tuple[Finding, ...]  # what the user must look at
    seed: int  # of the draw of the scale images
    backend: str  # what computed, see `Session.backend`, such as "onnxruntime"
    provider: str  # where, such as "CPUExecutionProvider"; empty where the backend knows only one
    precision: str  # of the graph
    tools: dict[str, str]  # versions
    good: JudgedImages  # without the copies
    sets_scales: tuple[bool, ...]  # which of the good images are scale images
    defective: JudgedImages | None
    memory: MemoryImages | None  # null: the text judges alone
    ignore: str | None  # file of the bundle with the parts of a frame that did not count; null: none
    unlabelled: (
        float | None
    )  # largest share of the images that may be defective, as the user assumes; null: they are good
    by_hand: ByHand | None  # null: the thresholds were measured
    previous: str | None  # record that was in force before this one; null: none was
    previous_calibration: Calibration  # what the manifest held before


def record_to_json(record: CalibrationRecord) -> str:
    """Return the text of a record."""
    return json.dumps(asdict(record), indent=1, allow_nan=False) + "\n"


def record_from_json(text: str | bytes) -> CalibrationRecord:
    """Read and check the text of a record; BundleError says what is wrong with it."""
    document = parse_document(
        text, kind="calibration", format_name=FORMAT, newest=FORMAT_VERSION, remedy="calibrate again"
    )
    if type(number := document.get("format_version")) is int and 1 <= number < FORMAT_VERSION:
        document = _with_later_keys(document, number)
    record: CalibrationRecord = read_strictly(CalibrationRecord, document, "calibration")
    _check_lengths(record)
    return record


def read_record(bundle: Bundle) -> CalibrationRecord | None:
    """Return the evidence of the thresholds in force; None where they are the default."""
    name = bundle.manifest.calibration.record
    if name is None:
        return None
    path = calibration_file(bundle, name)
    try:
        return record_from_json(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def check_calibration(bundle: Bundle) -> None:
    """Check that the thresholds in force are those that were measured.

    Raises:
        BundleError: The manifest says something else than the calibration's record, because it was edited.
    """
    record = read_record(bundle)
    if record is None:
        return
    calibration = bundle.manifest.calibration
    for key, measured in vars(to_calibration(record, calibration.record)).items():
        if (got := getattr(calibration, key)) != measured:
            raise BundleError(
                f"{bundle.path / MANIFEST}: calibration.{key} must be {measured!r}, as measured in "
                f"{calibration.record}, got {got!r}; calibrate again, or take the calibration before: acl restore"
            )


def to_calibration(record: CalibrationRecord, name: str | None) -> Calibration:
    """Return what the manifest says of a record that is a file of the bundle under this name."""
    return Calibration(
        rule=record.rule,
        score_threshold=record.score_threshold,
        map_threshold=record.map_threshold,
        region_threshold=record.region_threshold,
        tiling=record.tiling,
        source=record.statement,
        record=name,
        memory=None if record.memory is None else record.memory.file,
        ignore=record.ignore,
    )


def tool_versions() -> dict[str, str]:
    """What a record says of the programs that made it."""
    return {
        "python": platform.python_version(),
        "anomalyclip-deploy": version("anomalyclip-deploy"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def next_record_name(folder: Path) -> str:
    """Return a path inside the bundle that no record has had yet."""
    numbers = [int(path.stem) for path in (folder / FOLDER).glob("*.json") if path.stem.isdecimal()]
    return (PurePosixPath(FOLDER) / f"{max(numbers, default=0) + 1:04d}.json").as_posix()


def beside_record(record: str, suffix: str) -> str:
    """Return the path inside the bundle of another file of a record's calibration."""
    return PurePosixPath(record).with_suffix(suffix).as_posix()


def write_record(folder: Path, name: str, record: CalibrationRecord) -> None:
    """Write a record into a bundle, atomically; it is in force once the manifest names it."""
    text = record_to_json(record)
    record_from_json(text)  # what read_record would refuse is not written
    with atomic_file(folder / name) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _with_later_keys(document: dict[str, Any], number: int) -> dict[str, Any]:
    added: dict[str, Any] = {"ignore": None, "unlabelled": None, "by_hand": None}
    lacked: dict[str, Any] = {"ignore": None}
    nested: dict[str, Any] = {}
    if number <= 4:
        added |= {"segment_mm": None}
    if number <= 3:
        added |= {"bits": None, "exif": None}
    if number <= 2:
        added |= {"region_threshold": None, "findings": [], "fast_resize": False}
        lacked |= {"region_threshold": None}
        backend, provider = document.get("backend"), document.get("provider")
        if isinstance(backend, str) and isinstance(provider, str):
            nested["backend"] = backend_in_record(backend, provider)
    if number == 1:
        added |= {"memory": None}
        lacked |= {"memory": None}
    if isinstance(before := document.get("previous_calibration"), dict):
        nested["previous_calibration"] = lacked | before
    if isinstance(memory := document.get("memory"), dict) and isinstance(
        sources := memory.get("sources"), list
    ):
        of_patches = {
            "kind": "patches",
            "images": len(sources),
            "merged": [],
            "chosen_by": "user",
            "evidence": {},
        }
        nested["memory"] = of_patches | memory
    return added | document | nested | {"format_version": FORMAT_VERSION}


def _check_lengths(record: CalibrationRecord) -> None:
    for where, judged in (("good", record.good), ("defective", record.defective)):
        for name, values in vars(judged).items() if judged else ():
            if len(values) != len(judged.source if judged else ()):
                raise BundleError(f"{where}.{name} must be as long as {where}.source, got {len(values)}")
    if not len(record.good.source) == len(record.sets_scales) == record.images:
        raise BundleError(
            f"good and sets_scales must be {record.images} long, as images says, got "
            f"{len(record.good.source)} and {len(record.sets_scales)}"
        )

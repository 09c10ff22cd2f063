"""Change the thresholds of a bundle without measuring: by hand, to those before, or to what was measured on a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Literal

from acl_runtime.bundle.bundle import (
    Bundle,
    check_judges,
    is_same_besides,
    load_bundle,
    reload_bundle,
    replace_manifest,
)
from acl_runtime.bundle.manifest import Calibration
from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.effect import count_escapes, count_rejected
from acl_runtime.calibration.record import (
    FOLDER,
    FORMAT,
    FORMAT_VERSION,
    ByHand,
    CalibrationRecord,
    JudgedImages,
    next_record_name,
    read_record,
    to_calibration,
    tool_versions,
    write_record,
)
from acl_runtime.calibration.report import by_hand_statement
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import BundleError, InputError
from acl_runtime.files.locks import locked_folder
from acl_runtime.scoring.rule import Rule


class ChangedError(InputError):
    """Thresholds that nobody looked at before they were to be replaced; look at them first."""


def restore_previous(path: Path | str) -> Calibration:
    """Restore the thresholds and the patch memory that were in force before the present ones.

    The files of the present ones stay in the bundle, but only those before can be restored from there.

    Raises:
        InputError: The bundle was never calibrated, or another process holds it.
    """
    return take_back(load_bundle(path)).manifest.calibration


def take_back(bundle: Bundle) -> Bundle:
    """The same of a loaded bundle, whose calibrations may have changed since; the bundle as it is then.

    Raises:
        ChangedError: Its calibration did change.
        InputError: As of `restore_previous`; or nothing can be judged with the one before; or it was replaced.
    """
    with _held(bundle) as now:
        record = read_record(now)
        if record is None:
            raise InputError(
                f"{bundle.path}: has its default thresholds, nothing was before them; calibrate it first"
            )
        manifest = replace(now.manifest, calibration=record.previous_calibration)
        try:
            check_judges(Bundle(now.path, manifest))
        except BundleError as error:
            raise InputError(
                f"{bundle.path}: cannot judge without a memory of good parts, and none was before; calibrate it again"
            ) from error
        replace_manifest(now, manifest)
        return reload_bundle(now, FOLDER)


def set_by_hand(detector: Detector, rule: Rule, by_hand: ByHand) -> Bundle:
    """Put thresholds into force that a person chose; the bundle as it is then.

    The record is written first and the manifest last, as `calibrate_bundle` does.

    Args:
        detector: Judges with the thresholds before.
        rule: The thresholds, above 0 and up to 1.
        by_hand: Who chose them.

    Raises:
        ChangedError: The bundle's calibration is not the detector's any more.
        InputError: A threshold is none; the bundle was replaced, cannot be written or is held by another process.
    """
    _check_thresholds(rule)
    with _held(detector.bundle) as now:
        name = next_record_name(now.path)
        record = _by_hand(detector, now, rule, by_hand)
        return _put_into_force(now, name, record)


def adopt(bundle: Bundle, measured: Path) -> Bundle:
    """Put into force what was measured on a copy of a bundle; the bundle as it is then.

    Args:
        bundle: As it was when it was copied.
        measured: The copy, calibrated once since.

    Raises:
        ChangedError: The bundle's calibration is another than when it was copied.
        InputError: The copy is of another bundle; or as of `set_by_hand`.
    """
    copy = load_bundle(measured)
    record = read_record(copy)
    if record is None or not is_same_besides(FOLDER, bundle.manifest, copy.manifest):
        raise InputError(f"{measured}: is no copy of {bundle.path} that was calibrated; measure again")
    with _held(bundle) as now:
        if record.previous_calibration != now.manifest.calibration:
            raise ChangedError(
                f"{bundle.path}: was calibrated otherwise since this was measured; measure again"
            )
        name, added = next_record_name(now.path), []
        (now.path / FOLDER).mkdir(exist_ok=True)
        if record.memory is not None:
            added.append(_take_file(copy, record.memory.file, now, name, ".npz"))
            record = replace(record, memory=replace(record.memory, file=added[-1]))
        if record.ignore is not None:
            added.append(_take_file(copy, record.ignore, now, name, ".ignore.png"))
            record = replace(record, ignore=added[-1])
        return _put_into_force(now, name, record, *added)


def check_writable(bundle: Bundle) -> None:
    """Raise InputError where a bundle cannot be changed."""
    if not os.access(bundle.path, os.W_OK):
        raise InputError(f"{bundle.path}: cannot be written to; calibrate a copy of the bundle")


def _take_file(copy: Bundle, file: str, bundle: Bundle, record: str, suffix: str) -> str:
    """Copy a file of a copy's calibration to where that of a bundle's record belongs; its name there."""
    name = PurePosixPath(record).with_suffix(suffix).as_posix()
    shutil.copyfile(copy.path / file, bundle.path / name)
    return name


def _put_into_force(bundle: Bundle, name: str, record: CalibrationRecord, *files: str) -> Bundle:
    write_record(bundle.path, name, record)
    manifest = replace(bundle.manifest, calibration=to_calibration(record, name))
    replace_manifest(bundle, manifest, added=[name, *files])
    return reload_bundle(bundle, FOLDER)


@contextmanager
def _held(bundle: Bundle) -> Iterator[Bundle]:
    """Hold a bundle that can be changed; as it is now."""
    reload_bundle(bundle, FOLDER)  # one that is gone is not called one that cannot be written
    check_writable(bundle)
    with locked_folder(bundle.path):
        yield _as_it_is(bundle)


def _as_it_is(bundle: Bundle) -> Bundle:
    """The bundle as it is now; ChangedError where its calibration is another."""
    now = reload_bundle(bundle, FOLDER)
    if now.manifest.calibration != bundle.manifest.calibration:
        raise ChangedError(
            f"{bundle.path}: was calibrated meanwhile ({now.manifest.calibration.record or 'the default'} is in "
            "force); load that first (a station does so with systemctl reload)"
        )
    return now


def _check_thresholds(rule: Rule) -> None:
    for name, value in (("score", rule.score_threshold), ("peak", rule.peak_threshold)):
        if value is not None and not 0 < value <= 1:
            raise InputError(
                f"the {name} from which parts are NG must lie above 0 and up to 1, got {value:g}"
            )


def _by_hand(detector: Detector, bundle: Bundle, rule: Rule, by_hand: ByHand) -> CalibrationRecord:
    before, peak = bundle.manifest.calibration, rule.peak_threshold
    record = read_record(bundle) or _of_default(detector)
    kind: Literal["score", "score or peak"] = "score" if peak is None else "score or peak"
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return replace(
        record,
        created=created,
        statement=by_hand_statement(by_hand, created),
        rule=kind,
        score_threshold=rule.score_threshold,
        map_threshold=1.0 if peak is None else peak,
        region_threshold=min(before.regions_from, 1.0 if peak is None else peak),
        promised_overkill=None,
        rejected=count_rejected(rule, record.good),
        escapes=None if record.defective is None else count_escapes(rule, record.defective),
        findings=(),
        tools=tool_versions(),
        by_hand=by_hand,
        previous=before.record,
        previous_calibration=before,
    )


def _of_default(detector: Detector) -> CalibrationRecord:
    """A record of no images, for a bundle that was never calibrated."""
    manifest = detector.bundle.manifest
    calibration, demand = manifest.calibration, Demand()
    return CalibrationRecord(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        created="",
        statement="",
        rule=calibration.rule,
        score_threshold=calibration.score_threshold,
        map_threshold=calibration.map_threshold,
        region_threshold=calibration.region_threshold,
        tiling=calibration.tiling,
        fast_resize=detector.fast_resize,
        bits=None,
        exif=None,
        max_overkill=demand.max_overkill,
        promised_overkill=None,
        confidence=demand.confidence,
        hidden_defects=demand.hidden_defects,
        segment_mm=None,
        images=0,
        scale_images=0,
        copies=0,
        rejected=0,
        escapes=None,
        findings=(),
        seed=0,
        backend=detector.backend,
        provider=detector.provider,
        precision=manifest.precision,
        tools={},
        good=JudgedImages(source=(), score=(), peak=(), brightness=(), sharpness=()),
        sets_scales=(),
        defective=None,
        memory=None,
        ignore=None,
        unlabelled=None,
        by_hand=None,
        previous=None,
        previous_calibration=calibration,
    )

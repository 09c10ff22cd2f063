"""Measure a bundle's thresholds on good parts and write them into it, with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.calibration.change import check_same, check_writable, put_into_force
from acl_runtime.calibration.conformal import Demand, check_images
from acl_runtime.calibration.engine_proof import prove_on_parts
from acl_runtime.calibration.images import Progress, check_apart, judge_images
from acl_runtime.calibration.memory_findings import find_memory_findings
from acl_runtime.calibration.memory_images import FittedMemory, Request, fit_memory_to_images
from acl_runtime.calibration.memory_statistics import read_statistics, save_memory
from acl_runtime.calibration.merge import read_merged
from acl_runtime.calibration.new_record import make_record
from acl_runtime.calibration.record import (
    CalibrationRecord,
    MemoryImages,
    beside_record,
    next_record_name,
)
from acl_runtime.calibration.report import assumption_words
from acl_runtime.calibration.thresholds import find_thresholds
from acl_runtime.calibration.unlabelled import allow_for, check_veto
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.files.locks import locked_folder
from acl_runtime.images.frame import Frame
from acl_runtime.images.ignore import Ignore, read_ignore, save_ignore
from acl_runtime.scoring.memory_kinds import kinds_text, parse_kinds
from acl_runtime.sources.files import Source, iter_frames


def calibrate_bundle(
    detector: Detector,
    good: Sequence[Source],
    *,
    defective: Sequence[Source] = (),
    max_overkill: float = Demand.max_overkill,
    confidence: float = Demand.confidence,
    hidden_defects: int = Demand.hidden_defects,
    memory: int = 0,
    memory_kind: str | None = None,
    merged: Sequence[str] = (),
    ignored: Sequence[str] = (),
    unlabelled: float | None = None,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> CalibrationRecord:
    """Judge good parts, find the thresholds, and write them into the detector's bundle.

    The record is written first and the manifest last, in one step: whatever happens in between, the old thresholds stay
    in force. The bundle is held meanwhile, so that no other process calibrates it. The detector itself keeps its rule;
    load the bundle anew.

    Args:
        detector: Judges as it will later: same bundle, tiling, resize, backend and precision.
        good: Images of good parts, one of each part, as the line will send them.
        defective: Images of defective parts, to count how many are missed; they do not move the thresholds.
        max_overkill: Largest share of good parts that may be rejected.
        confidence: Confidence level of the promise.
        hidden_defects: Number of good images that may be defective in truth.
        memory: Number of good images to fit a memory to, drawn at random before anything is judged; they count
            for nothing else, so that the promise rests on images as strange to the memory as later ones will be. 0 to
            judge by the text alone, whatever memory the bundle had before, or by the merged memories alone.
        memory_kind: One or several of `KINDS` with + between; None for what evidence chooses.
        merged: Memories to add, see `read_merged`; of their images none calibrates.
        ignored: What of a frame does not count, see `read_ignore`; what the bundle ignored before is forgotten.
        unlabelled: Largest share of the "good" images that may be defective, as the user assumes: thresholds and the
            memory, which is then trimmed, allow for so many; None where the images are known to be good.
        seed: Seed of the draws of the memory's images and of the scale images.
        progress: Called after each image.

    Raises:
        InputError: Images are too few, cannot be judged, are frames of a video, or are given as good and as
            defective; or the bundle was changed meanwhile, is held by another process, or its head gives no patches for
            a memory; or more of the defective images pass with unlabelled images than by the text alone. Nothing was
            written.
        BackendError: The detector's TensorRT engine does not compute on the good parts what the CPU does in float32.
    """
    demand = allow_for(Demand(max_overkill, confidence, hidden_defects), unlabelled, len(good) - memory)
    check_count(len(good) - memory, demand, remembered=memory)
    _check_inputs([*good, *defective], detector.bundle)
    kinds = None if memory_kind is None else parse_kinds(memory_kind)
    request = Request(memory, kinds, read_merged(merged, detector.bundle), unlabelled)
    with locked_folder(detector.bundle.path):
        detector = detector.with_memory(None).with_ignore(_read_ignored(detector, ignored, good))
        prove_on_parts(detector, good, progress)
        fitted = None
        if memory or merged:
            fitted = fit_memory_to_images(
                detector, good, request, defective=defective, seed=seed, progress=progress
            )
            detector = detector.with_memory(fitted.memory)
        remembered = _remembered(detector.bundle, fitted)
        judged = judge_images(detector, good, "judging good parts", progress, excluded=remembered)
        demand = allow_for(Demand(max_overkill, confidence, hidden_defects), unlabelled, len(judged.digests))
        check_count(len(judged.digests), demand, remembered=memory)
        bad = judge_images(detector, defective, "judging defective parts", progress) if defective else None
        if bad is not None:
            check_apart({*judged.digests, *remembered}, bad)
        scores, peaks = (np.array(values) for values in (judged.images.score, judged.images.peak))
        found = find_thresholds(scores, peaks, demand, seed=seed)
        if unlabelled is not None and bad is not None:
            check_veto(detector, good, judged, defective, bad, found, demand, seed=seed, progress=progress)
        bundle = load_bundle(detector.bundle.path)
        check_same(detector.bundle, bundle)
        name = next_record_name(bundle.path)
        kept = None if fitted is None else _keep(bundle, name, fitted, merged)
        mask = None
        if detector.stages.ignore is not None:
            mask = beside_record(name, ".ignore.png")
            save_ignore(bundle.path / mask, detector.stages.ignore)
        record = make_record(detector, good[0].reading, bundle, demand, found, judged, bad, seed, kept)
        record = replace(
            record,
            ignore=mask,
            unlabelled=unlabelled,
            statement=record.statement + assumption_words(unlabelled, demand.hidden_defects),
            findings=(
                *record.findings,
                *(() if fitted is None else find_memory_findings(fitted, judged.images)),
            ),
        )
        put_into_force(bundle, name, record, [file for file in (kept and kept.file, mask) if file])
    return record


def _read_ignored(detector: Detector, ignored: Sequence[str], good: Sequence[Source]) -> Ignore | None:
    """Return what the user wants ignored; a mask has the size of the first image that can be read."""
    if not ignored:
        return None
    manifest = detector.bundle.manifest
    if manifest.graph_memory is not None:
        raise InputError(
            f"{detector.bundle.path}: its graph holds a memory, which sees the whole frame; export it with --head "
            "embeddings to ignore parts"
        )
    for item in iter_frames(good):
        if isinstance(item, Frame):
            return read_ignore(ignored, manifest, *item.size)
    raise InputError(f"{good[0].path}: cannot be read, nor any other; save them again")


def _remembered(bundle: Bundle, fitted: FittedMemory | None) -> frozenset[str]:
    """Return digests of the images that a memory is of, in the graph or beside it."""
    if fitted is not None:
        return fitted.statistics.digests
    if (name := bundle.manifest.graph_memory) is None:
        return frozenset()
    return read_statistics(bundle.path / name, bundle).digests


def check_count(images: int, demand: Demand, *, remembered: int) -> None:
    """Raise InputError unless so many good images, beside those in the memory, are worth calibrating on."""
    try:
        check_images(images, demand)
    except InputError as error:
        if not remembered:
            raise
        raise InputError(f"beside the {remembered} of the memory, {error}") from error


def _keep(bundle: Bundle, record: str, fitted: FittedMemory, merged: Sequence[str]) -> MemoryImages:
    """Write the memory beside the record that it belongs to."""
    file, nearest = beside_record(record, ".npz"), fitted.memory.nearest
    save_memory(bundle.path / file, fitted.memory, fitted.statistics)
    return MemoryImages(
        file=file,
        kind=kinds_text(fitted.memory.kinds),
        patches=0 if nearest is None else nearest.patch_embeddings.shape[1],
        images=fitted.statistics.images,
        sources=tuple(fitted.digests.values()),
        merged=tuple(merged),
        chosen_by=fitted.chosen_by,
        evidence={kinds_text(each.kinds): each.auroc for each in fitted.evidence},
    )


def _check_inputs(sources: Sequence[Source], bundle: Bundle) -> None:
    for source in sources:
        if source.is_video:
            raise InputError(
                f"{source.path}: shows each part many times, which a promise cannot rest on; save one image per part"
            )
    check_writable(bundle)

"""Frames that nobody looked at: how many may be defective, and the known defective images that may refuse them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.effect import count_escapes
from acl_runtime.calibration.images import Judged, Progress, judge_images
from acl_runtime.calibration.thresholds import Thresholds, find_thresholds
from acl_runtime.detection.detector import Detector
from acl_runtime.files.errors import InputError
from acl_runtime.sources.files import Source

MOST = 0.2  # share of frames that may be defective: beyond it, what is far is not what is rare


def allow_for(demand: Demand, unlabelled: float | None, images: int) -> Demand:
    """Return a demand that holds although so large a share of the images is defective; None: they are good.

    Raises:
        InputError: The share is none that can be allowed for.
    """
    if unlabelled is None:
        return demand
    if not 0 < unlabelled <= MOST:
        raise InputError(
            f"share of defective frames must lie above 0 and up to {MOST:.0%}, got {unlabelled:.4g}; sort the frames, "
            "or take others"
        )
    return replace(demand, hidden_defects=max(demand.hidden_defects, math.ceil(unlabelled * max(images, 0))))


def check_veto(
    detector: Detector,
    frames: Sequence[Source],
    judged: Judged,
    defective: Sequence[Source],
    bad: Judged,
    found: Thresholds,
    demand: Demand,
    *,
    seed: int,
    progress: Progress,
) -> None:
    """Raise InputError if more defective images pass with a memory of unlabelled frames than by the text alone.

    Args:
        detector: With the memory.
        frames: Unlabelled ones.
        judged: Those of them that calibrated.
        defective: Images that are known to be defective.
        bad: The same, judged.
        found: The thresholds that were found.
        demand: As asked of them, and of those by the text alone.
        seed: See `find_thresholds`.
        progress: Called after each image.
    """
    if detector.stages.memory is None or detector.bundle.manifest.prompts.get("method") == "memory":
        return  # the text judges alone, or there is none
    alone, names = detector.with_memory(None), set(judged.digests.values())
    calibrating = [source for source in frames if source.path in names]
    text = judge_images(alone, calibrating, "judging frames by the text alone", progress)
    by_text = find_thresholds(np.array(text.images.score), np.array(text.images.peak), demand, seed=seed)
    text_bad = judge_images(alone, defective, "judging defective parts by the text alone", progress)
    missed = count_escapes(found.rule, bad.images).missed
    missed_by_text = count_escapes(by_text.rule, text_bad.images).missed
    if missed > missed_by_text:
        raise InputError(
            f"{missed} of {len(bad.digests)} defective images would pass with the memory of unlabelled frames, and "
            f"{missed_by_text} by the text alone; leave --memory out, or give frames that were looked at; nothing was "
            "written"
        )
